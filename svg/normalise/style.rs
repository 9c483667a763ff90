//! Style sheets and `style` attributes written out as attributes, in the cascade's order, with the
//! parser and the matching that the renderer itself uses.

use super::names;
use super::tree::Element;
use resvg::usvg::roxmltree::{Document, Node};
use simplecss::{AttributeOperator, Declaration, DeclarationTokenizer, PseudoClass, StyleSheet};
use svgtypes::FontShorthand;

/// The rules of a document.
pub(super) struct Sheet<'a> {
    rules: StyleSheet<'a>,
    /// Whether the sheet says more than attributes can: it then stays where it is.
    pub kept: bool,
}

impl<'a> Sheet<'a> {
    pub(super) fn of(document: &'a Document<'a>) -> Self {
        let mut sheet = Sheet {
            rules: StyleSheet::new(),
            kept: false,
        };
        for node in document.descendants().filter(|n| n.has_tag_name("style")) {
            let is_css = node.attribute("type").is_none_or(|kind| kind == "text/css");
            let (true, Some(text)) = (is_css, node.text()) else {
                continue;
            };
            sheet.rules.parse_more(text);
            sheet.kept |= says_more(text);
        }
        if work(&sheet.rules, document) > MOST_WORK {
            sheet.rules = StyleSheet::new();
            sheet.kept = true;
        }
        sheet
    }

    /// Gives `element` what rules and its own style declare for `node`.
    pub(super) fn apply(&self, node: Node<'_, '_>, element: &mut Element) {
        let mut cascade = Cascade {
            element,
            important: Vec::new(),
            styles: Vec::new(),
        };
        for rule in &self.rules.rules {
            if rule.selector.matches(&Matched(node)) {
                for declaration in &rule.declarations {
                    cascade.declare(declaration);
                }
            }
        }
        for declaration in DeclarationTokenizer::from(node.attribute("style").unwrap_or_default()) {
            cascade.declare(&declaration);
        }
        let styles: Vec<String> = cascade
            .styles
            .iter()
            .map(|(name, value)| format!("{name}:{value}"))
            .collect();
        if !styles.is_empty() {
            element.set("style", styles.join(";"));
        }
        if !self.kept {
            element.take("class");
        }
        for (name, value) in &mut element.attributes {
            if names::is_property(name) && value.trim() != value {
                *value = value.trim().to_owned();
            }
        }
        // An inherited property that is told to inherit is one that is not there.
        let inherits = |name: &str| {
            names::INHERITED.iter().any(|(known, _)| *known == name)
                || names::INHERITED_LENGTHS.contains(&name)
        };
        element
            .attributes
            .retain(|(name, value)| value != "inherit" || !inherits(name));
    }
}

/// Steps that matching may take; a sheet that could take more is left to the renderer, whose worker
/// process can be stopped.
const MOST_WORK: f64 = 2e7;

/// Steps that matching every rule with every element takes at most: a rule that names ancestors tries
/// each of them for each of its names.
fn work(rules: &StyleSheet<'_>, document: &Document<'_>) -> f64 {
    let mut elements = 0.0;
    let mut deepest = 1usize;
    for node in document.descendants().filter(Node::is_element) {
        elements += 1.0;
        if rules.rules.is_empty() {
            break;
        }
        deepest = deepest.max(node.ancestors().count());
    }
    let each = rules.rules.iter().map(|rule| {
        let text = rule.selector.to_string();
        let steps = text.matches([' ', '>', '+']).count();
        (deepest as f64).powi(steps.min(1000) as i32)
    });
    elements * each.sum::<f64>()
}

struct Cascade<'e, 'a> {
    element: &'e mut Element,
    important: Vec<&'a str>,
    styles: Vec<(&'a str, &'a str)>,
}

impl<'a> Cascade<'_, 'a> {
    fn declare(&mut self, declaration: &Declaration<'a>) {
        if declaration.name == "marker" {
            for name in ["marker-start", "marker-mid", "marker-end"] {
                self.set(name, declaration);
            }
        } else if declaration.name == "font" {
            self.font(declaration);
        } else if names::is_property(declaration.name)
            || declaration.name == "transform"
            || names::STYLE_ONLY.contains(&declaration.name)
        {
            self.set(declaration.name, declaration);
        }
    }

    /// The shorthand resets what it does not name.
    fn font(&mut self, declaration: &Declaration<'a>) {
        let Ok(font) = FontShorthand::from_str(declaration.value) else {
            return;
        };
        let parts = [
            ("font-style", font.font_style.unwrap_or("normal")),
            ("font-variant", font.font_variant.unwrap_or("normal")),
            ("font-weight", font.font_weight.unwrap_or("normal")),
            ("font-stretch", font.font_stretch.unwrap_or("normal")),
            ("font-size", font.font_size),
            ("font-family", font.font_family),
        ];
        for (name, value) in parts {
            self.set(
                name,
                &Declaration {
                    value,
                    ..*declaration
                },
            );
        }
    }

    /// Later goes before earlier, important before both.
    fn set(&mut self, name: &'a str, declaration: &Declaration<'a>) {
        if self.important.contains(&name) {
            return;
        }
        if declaration.important {
            self.important.push(name);
        }
        if names::STYLE_ONLY.contains(&name) {
            self.styles.retain(|(known, _)| *known != name);
            self.styles.push((name, declaration.value.trim()));
        } else {
            self.element.set(name, declaration.value.trim());
        }
    }
}

/// At-rules, states and selectors that a renderer of more CSS would follow.
fn says_more(text: &str) -> bool {
    let mut selectors = String::new();
    let mut depth = 0;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
            continue;
        }
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            c if depth <= 0 => selectors.push(c),
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    let plain = selectors.replace(":first-child", "").replace("~=", "");
    plain.contains(['@', ':', '~'])
}

struct Matched<'a, 'input: 'a>(Node<'a, 'input>);

impl simplecss::Element for Matched<'_, '_> {
    fn parent_element(&self) -> Option<Self> {
        self.0.parent_element().map(Matched)
    }

    fn prev_sibling_element(&self) -> Option<Self> {
        self.0.prev_sibling_element().map(Matched)
    }

    fn has_local_name(&self, name: &str) -> bool {
        self.0.tag_name().name() == name
    }

    fn attribute_matches(&self, name: &str, operator: AttributeOperator<'_>) -> bool {
        self.0
            .attribute(name)
            .is_some_and(|value| operator.matches(value))
    }

    fn pseudo_class_matches(&self, class: PseudoClass<'_>) -> bool {
        matches!(class, PseudoClass::FirstChild) && self.prev_sibling_element().is_none()
    }
}
