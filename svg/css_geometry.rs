//! Geometry that style says (`width`, `height`, `x`, `y`, `cx`, `cy`, `r`, `rx`, `ry`, `d` in style attributes and style
//! elements), written out as attributes: CairoSVG and browsers draw by it, resvg reads attributes alone.
//!
//! The cascade is CairoSVG's: rules by specificity, the element's own style, then what is important in the same order.
//! Like CairoSVG it holds for every element, and for lengths without a unit; path data stands bare, as CairoSVG reads it,
//! or within `path("..")`, as browsers do. `inherit` is the parent's value. Documents whose style says nothing of
//! geometry are not parsed.

use crate::config::Limits;
use crate::failure::{Failure, Reason};
use crate::prolog::is_name;
use resvg::usvg::roxmltree::{Document, Node, NodeId};
use simplecss::{AttributeOperator, Declaration, DeclarationTokenizer, PseudoClass, StyleSheet};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

const SVG_NS: &str = "http://www.w3.org/2000/svg";

/// The properties.
const PROPERTIES: [&str; 10] = [
    "width", "height", "x", "y", "cx", "cy", "r", "rx", "ry", "d",
];

/// What style says of each property.
type DeclaredGeometry = [Option<Said>; PROPERTIES.len()];

/// A declaration's value.
#[derive(Clone, Debug)]
struct Said {
    value: String,
    important: bool,
}

/// The text with such geometry as attributes; as it is where it cannot be parsed, which the parser later tells.
///
/// # Errors
/// Rules whose matching takes more steps than the limits allow.
pub(crate) fn written_out<'a>(
    source: Cow<'a, str>,
    parse: impl for<'d> Fn(&'d str) -> Option<Document<'d>>,
    limits: &Limits,
) -> Result<Cow<'a, str>, Failure> {
    if !source.contains("style") || declarations(&source).next().is_none() {
        return Ok(source);
    }
    let mut edits = match parse(&source) {
        Some(document) => edits(&document, limits)?,
        None => return Ok(source),
    };
    edits.sort_by_key(|(place, _)| place.start);
    let mut out = String::with_capacity(source.len() + 64);
    let mut copied = 0;
    for (place, text) in edits {
        out += &source[copied..place.start];
        out += &text;
        copied = place.end;
    }
    out += &source[copied..];
    Ok(Cow::Owned(out))
}

/// A sheet's text without such declarations, which stand in attributes.
pub(crate) fn without(sheet: &str) -> String {
    let (mut out, mut copied) = (String::new(), 0);
    for start in declarations(sheet) {
        let Some(kept) = sheet.get(copied..start) else {
            continue;
        };
        out += kept;
        let rest = &sheet[start..];
        let end = rest.find([';', '}']).unwrap_or(rest.len());
        copied = start + end + usize::from(rest[end..].starts_with(';'));
    }
    out + &sheet[copied..]
}

/// Where a text may declare one: no place is missed, and some may be something else.
fn declarations(text: &str) -> impl Iterator<Item = usize> + '_ {
    let before =
        |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b';' | b'{' | b'"' | b'\'' | b'/');
    text.match_indices(':').filter_map(move |(colon, _)| {
        let head = text[..colon].trim_end();
        let name = PROPERTIES.iter().find(|name| {
            let tail = head.len().checked_sub(name.len());
            let ends = tail.and_then(|at| head.get(at..));
            ends.is_some_and(|end| end.eq_ignore_ascii_case(name))
                && tail.is_some_and(|at| at == 0 || before(head.as_bytes()[at - 1]))
        })?;
        Some(head.len() - name.len())
    })
}

/// What is written where.
type Edits = Vec<(Range<usize>, String)>;

fn edits(document: &Document, limits: &Limits) -> Result<Edits, Failure> {
    let rules = rules(document);
    let steps = Steps {
        taken: Cell::new(0),
        most: limits.max_style_work,
    };
    let mut edits = Edits::new();
    let mut known: HashMap<NodeId, DeclaredGeometry> = HashMap::new();
    for node in document.descendants().filter(is_svg) {
        let declared = cascade(node, &rules, &steps);
        if steps.taken.get() > steps.most {
            let what = "steps of matching style rules with elements";
            return Err(Failure::over(
                Reason::TooMuchStyle,
                what,
                steps.taken.get(),
                steps.most,
            ));
        }
        if declared.iter().all(Option::is_none) {
            continue;
        }
        for (index, said) in declared.iter().enumerate() {
            let Some(said) = said else {
                continue;
            };
            let value = match said.value.as_str() {
                "inherit" => inherited(node, index, &known),
                value => value.to_owned(),
            };
            edits.push(edit(document, node, (PROPERTIES[index], &value)));
        }
        known.insert(node.id(), declared);
    }
    Ok(edits)
}

/// The rules of a document's sheets that say something of geometry, in their cascade's order.
fn rules<'a>(document: &'a Document<'a>) -> StyleSheet<'a> {
    let mut sheet = StyleSheet::new();
    for node in document
        .descendants()
        .filter(|n| n.has_tag_name("style") || n.has_tag_name((SVG_NS, "style")))
    {
        let is_css = node
            .attribute("type")
            .is_none_or(|kind| matches!(kind, "" | "text/css"));
        if let (true, Some(text)) = (is_css, node.text()) {
            sheet.parse_more(text);
        }
    }
    let says = |declaration: &Declaration| place(declaration.name).is_some();
    sheet
        .rules
        .retain(|rule| rule.declarations.iter().any(says));
    sheet
}

fn cascade(node: Node<'_, '_>, rules: &StyleSheet<'_>, steps: &Steps) -> DeclaredGeometry {
    let mut declared = DeclaredGeometry::default();
    for rule in &rules.rules {
        let candidate = MatchedRules { node, steps };
        candidate.step();
        if rule.selector.matches(&candidate) {
            rule.declarations
                .iter()
                .for_each(|one| declare(&mut declared, one));
        }
    }
    if let Some(style) = node.attribute("style") {
        DeclarationTokenizer::from(style).for_each(|one| declare(&mut declared, &one));
    }
    declared
}

fn declare(declared: &mut DeclaredGeometry, one: &Declaration<'_>) {
    let Some(index) = place(one.name) else {
        return;
    };
    let before = declared[index].as_ref();
    if one.important || before.is_none_or(|before| !before.important) {
        declared[index] = Some(Said {
            value: value(PROPERTIES[index], one.value).to_owned(),
            important: one.important,
        });
    }
}

fn place(name: &str) -> Option<usize> {
    PROPERTIES
        .iter()
        .position(|known| name.eq_ignore_ascii_case(known))
}

/// A value as an attribute has it.
fn value<'a>(property: &str, said: &'a str) -> &'a str {
    let said = said.trim();
    let within = || {
        let inner = said.strip_prefix("path(")?.strip_suffix(')')?.trim();
        let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        inner[1..].strip_suffix(quote)
    };
    match property {
        "d" => within().unwrap_or(said),
        _ => said,
    }
}

/// The parent's value of a property; empty, which counts as missing, where it has none.
fn inherited(
    node: Node<'_, '_>,
    index: usize,
    known: &HashMap<NodeId, DeclaredGeometry>,
) -> String {
    let mut above = node.parent_element();
    while let Some(parent) = above {
        let said = known
            .get(&parent.id())
            .and_then(|declared| declared[index].as_ref());
        match said {
            Some(said) if said.value == "inherit" => above = parent.parent_element(),
            Some(said) => return said.value.clone(),
            None => {
                return parent
                    .attribute(PROPERTIES[index])
                    .unwrap_or_default()
                    .to_owned();
            }
        }
    }
    String::new()
}

/// The attribute in place of the one that is there, or behind the element's name.
fn edit(
    document: &Document,
    node: Node<'_, '_>,
    (name, value): (&str, &str),
) -> (Range<usize>, String) {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            c => escaped.push(c),
        }
    }
    let mut own = node.attributes().filter(|a| a.namespace().is_none());
    match own.find(|a| a.name() == name) {
        Some(attribute) => (attribute.range_value(), escaped),
        None => {
            let text = document.input_text().as_bytes();
            let mut at = node.range().start + 1;
            while text.get(at).copied().is_some_and(is_name) {
                at += 1;
            }
            (at..at, format!(" {name}=\"{escaped}\""))
        }
    }
}

fn is_svg(node: &Node<'_, '_>) -> bool {
    node.is_element() && matches!(node.tag_name().namespace(), None | Some(SVG_NS))
}

/// Steps that matching has taken, and may take: a rule that names ancestors tries each of them for each of its names.
struct Steps {
    taken: Cell<u64>,
    most: u64,
}

#[derive(Clone, Copy)]
struct MatchedRules<'s, 'a, 'input: 'a> {
    node: Node<'a, 'input>,
    steps: &'s Steps,
}

impl<'a, 'input> MatchedRules<'_, 'a, 'input> {
    /// Counts one; false where no more may be taken, and matching comes to its end.
    fn step(&self) -> bool {
        let taken = self.steps.taken.get() + 1;
        self.steps.taken.set(taken);
        taken <= self.steps.most
    }

    fn at(&self, node: Option<Node<'a, 'input>>) -> Option<Self> {
        let steps = self.steps;
        node.filter(|_| self.step())
            .map(|node| MatchedRules { node, steps })
    }
}

impl simplecss::Element for MatchedRules<'_, '_, '_> {
    fn parent_element(&self) -> Option<Self> {
        self.at(self.node.parent_element())
    }

    fn prev_sibling_element(&self) -> Option<Self> {
        self.at(self.node.prev_sibling_element())
    }

    fn has_local_name(&self, name: &str) -> bool {
        self.node.tag_name().name() == name
    }

    fn attribute_matches(&self, name: &str, operator: AttributeOperator<'_>) -> bool {
        let value = self.node.attribute(name);
        value.is_some_and(|value| operator.matches(value))
    }

    fn pseudo_class_matches(&self, class: PseudoClass<'_>) -> bool {
        matches!(class, PseudoClass::FirstChild) && self.node.prev_sibling_element().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(source: &str) -> String {
        assert!(Document::parse(source).is_ok(), "{source}");
        let done = written_out(
            Cow::Borrowed(source),
            |text| Document::parse(text).ok(),
            &Limits::default(),
        );
        done.unwrap().into_owned()
    }

    #[test]
    fn what_style_says_stands_in_attributes() {
        for (source, expected) in [
            (
                "<a><r style='width:5px; height : 6'/></a>",
                "<a><r width=\"5px\" height=\"6\" style='width:5px; height : 6'/></a>",
            ),
            (
                "<a><r style='X:1' x = '2'/></a>",
                "<a><r style='X:1' x = '1'/></a>",
            ),
            (
                "<a><r style='d:path(\"M0 0L1 1\")' d=''/></a>",
                "<a><r style='d:path(\"M0 0L1 1\")' d='M0 0L1 1'/></a>",
            ),
            (
                "<a><r style='d:M0 0L1-1.5.5Z'/></a>",
                "<a><r d=\"M0 0L1-1.5.5Z\" style='d:M0 0L1-1.5.5Z'/></a>",
            ),
            (
                "<a r='2'><r style='r:inherit'/></a>",
                "<a r='2'><r r=\"2\" style='r:inherit'/></a>",
            ),
            (
                "<a style='r:3'><r style='r:inherit'/></a>",
                "<a r=\"3\" style='r:3'><r r=\"3\" style='r:inherit'/></a>",
            ),
        ] {
            assert_eq!(written(source), expected);
        }
    }

    #[test]
    fn the_cascade_is_followed() {
        for (sheet, element, expected) in [
            ("r{width:1}", "<r width='9'/>", "1"),
            (
                "#i{width:1}.c{width:2}r{width:3}",
                "<r id='i' class='c' width='9'/>",
                "1",
            ),
            ("r{width:1}r{width:2}", "<r width='9'/>", "2"),
            ("r{width:1}", "<r style='width:2' width='9'/>", "2"),
            (
                "r{width:1!important}",
                "<r style='width:2' width='9'/>",
                "1",
            ),
            (
                "r{width:1!important}#i{width:3!important}",
                "<r id='i' style='width:2' width='9'/>",
                "3",
            ),
            (
                "r{width:1!important}",
                "<r style='width:2!important' width='9'/>",
                "2",
            ),
            (
                "/* width:1 */ r { height:4; width /**/ : 2 }",
                "<r height='1' width='9'/>",
                "2",
            ),
            ("@media all{r{width:1}}", "<r width='9'/>", "9"),
            ("r{width:}", "<r width='9'/>", "9"),
            ("g r{width:1}", "<r width='9'/>", "9"),
        ] {
            let text = written(&format!(
                "<a><style><![CDATA[{sheet}]]></style>{element}</a>"
            ));
            assert!(
                text.contains(&format!("width='{expected}'")),
                "{sheet}: {text}"
            );
        }
    }

    #[test]
    fn documents_without_such_style_stay() {
        for source in [
            "<a style='fill:red;stroke-width:2px' x='1'/>",
            "<a><style>r:hover{fill:red} .x{max-width:1}</style><text>style width:5</text></a>",
            "<a><style type='text/plain'>r{width:1}</style><r width='2'/></a>",
        ] {
            assert_eq!(written(source), source);
        }
    }

    #[test]
    fn values_are_escaped() {
        let text = written("<a><r style='width:\"&amp;&lt;\"'/></a>");
        assert!(text.contains("width=\"&quot;&amp;&lt;&quot;\""), "{text}");
    }

    #[test]
    fn a_sheet_loses_its_geometry_alone() {
        assert_eq!(
            without("@media print{r{width:1}} r{fill:red;width:5px;x:1;stroke:red} c:hover{r : 2}"),
            "@media print{r{}} r{fill:red;stroke:red} c:hover{}"
        );
    }

    #[test]
    fn rules_that_try_every_ancestor_are_refused() {
        let open = "<g>".repeat(60);
        let sheet = "a g g g g g g g g h{width:1}";
        let source = format!(
            "<b><style>{sheet}</style>{open}{}{}</b>",
            "<h/>".repeat(50),
            "</g>".repeat(60)
        );
        let done = written_out(
            Cow::Owned(source),
            |text| Document::parse(text).ok(),
            &Limits::default(),
        );
        assert_eq!(
            done.map_err(|failure| failure.reason),
            Err(Reason::TooMuchStyle)
        );
    }
}
