//! Values that CairoSVG reads and resvg does not, written so that both read them alike: transforms
//! with units or faults (`translate(20px, 10px)`, as models write them after CSS), and filters that are
//! not there, which CairoSVG passes over while resvg drops the element.
//!
//! One linear pass over the text of documents that hold such a property. Left as they are: percentages
//! in transforms, and what CairoSVG cannot convert either.

use crate::geometry::{length, spaced};
use crate::prolog::skip_space;
use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;
use svgtypes::Transform;

/// The text with such values rewritten.
pub(crate) fn readable(source: Cow<'_, str>) -> Cow<'_, str> {
    let written = source.contains("ransform") || source.contains("filter");
    if !written {
        return source;
    }
    let found = find(&source);
    let (mut out, mut copied) = (String::new(), 0);
    for (property, value) in &found.values {
        let text = &source[value.clone()];
        if !text.chars().all(is_plain) {
            // A parser must see what may be a fault.
            continue;
        }
        let other = match property {
            Property::Transform => transform(text),
            Property::Filter => found.misses(text).then(|| "none".to_owned()),
        };
        if let Some(other) = other {
            out += &source[copied..value.start];
            out += &other;
            copied = value.end;
        }
    }
    if copied == 0 {
        return source;
    }
    out += &source[copied..];
    Cow::Owned(out)
}

fn is_plain(c: char) -> bool {
    !matches!(c, '&' | '<') && (SPACE.contains(&c) || matches!(c, ' '..='~'))
}

#[derive(Clone, Copy)]
enum Property {
    Transform,
    Filter,
}

/// What a document's text holds.
struct FoundValues<'a> {
    /// Where the values of such attributes and declarations lie, in order.
    values: Vec<(Property, Range<usize>)>,
    ids: HashSet<&'a str>,
}

impl FoundValues<'_> {
    /// Whether a filter's value is a link to nothing.
    fn misses(&self, value: &str) -> bool {
        let link = || value.trim().strip_prefix("url(")?.strip_suffix(')');
        let id = || link()?.trim_matches([' ', '"', '\'']).strip_prefix('#');
        id().is_some_and(|id| !self.ids.contains(id))
    }
}

/// Reads tags and style elements; linear in the text, however it is built.
fn find(source: &str) -> FoundValues<'_> {
    let (mut values, mut ids) = (Vec::new(), HashSet::new());
    // The last tag that opened, and whether it has closed.
    let (mut open, mut closed, mut at) = (0, true, 0);
    while let Some(step) = source[at..].find(['<', '>', ':', '=']) {
        let from = at;
        at += step + 1;
        let sign = source.as_bytes()[at - 1];
        match sign {
            b'<' => (open, closed) = (at - 1, false),
            b'>' => closed = true,
            _ => {}
        }
        let declares = sign == b':' && (!closed || is_style(&source[open..]));
        if !declares && (sign != b'=' || closed) {
            continue;
        }
        let property = match name(&source[from..at - 1]) {
            "id" => None,
            "filter" => Some(Property::Filter),
            "transform" | "gradientTransform" | "patternTransform" => Some(Property::Transform),
            _ => continue,
        };
        let value = match declares {
            true => declaration(source, at),
            false => attribute(source, at),
        };
        // What nothing ends is malformed.
        let Some(value) = value else {
            break;
        };
        at = value.end;
        match property {
            Some(property) => values.push((property, value)),
            None => drop(ids.insert(&source[value])),
        }
    }
    FoundValues { values, ids }
}

/// The last word of a text, the name before a sign.
fn name(text: &str) -> &str {
    let text = text.trim_end_matches(SPACE);
    let start = text.rfind(|c| SPACE.contains(&c) || matches!(c, ';' | '{' | '"' | '\''));
    start.map_or(text, |start| &text[start + 1..])
}

const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn is_style(opened: &str) -> bool {
    ["<style", "<![CDATA["]
        .iter()
        .any(|start| opened.starts_with(start))
}

/// The value between the quotes that follow.
fn attribute(source: &str, at: usize) -> Option<Range<usize>> {
    let start = skip_space(source.as_bytes(), at);
    let quote = source[start..]
        .chars()
        .next()
        .filter(|c| matches!(c, '"' | '\''))?;
    let length = source[start + 1..].find(quote)?;
    Some(start + 1..start + 1 + length)
}

/// The value up to what ends a declaration.
fn declaration(source: &str, at: usize) -> Option<Range<usize>> {
    let length = source[at..].find([';', '}', '"', '\'', '<', '!'])?;
    Some(at..at + length)
}

/// A transform as CairoSVG reads it; none where resvg reads the same, or CairoSVG nothing.
fn transform(value: &str) -> Option<String> {
    if value.parse::<Transform>().is_ok() || value.contains('%') {
        return None;
    }
    let (mut out, mut rest) = (String::new(), value);
    while let Some((head, tail)) = rest.split_once('(') {
        let Some((arguments, after)) = tail.split_once(')') else {
            break;
        };
        rest = after;
        let head = head.trim_end();
        let start = head
            .rfind(|c: char| !c.is_alphanumeric())
            .map_or(0, |at| at + 1);
        let head = head.get(start..)?;
        let mut values = numbers(arguments)?;
        match (head, values.len()) {
            ("matrix", count @ ..=6) => values.extend(&[1.0, 0.0, 0.0, 1.0, 0.0, 0.0][count..]),
            ("translate" | "scale", _) => values.truncate(2),
            ("rotate", 1 | 3) => {}
            ("skewX" | "skewY", _) => values.truncate(1),
            ("matrix" | "rotate", _) => return None,
            _ => continue,
        }
        let values: Vec<String> = values.iter().map(|v| format!("{v:e}")).collect();
        out += &format!("{head}({}) ", values.join(" "));
    }
    Some(out)
}

/// The lengths of a function's arguments; a single 0 where there are none, as CairoSVG has it.
fn numbers(arguments: &str) -> Option<Vec<f64>> {
    let spaced = spaced(arguments);
    let words = spaced.split(' ').filter(|word| !word.is_empty());
    let mut values: Vec<f64> = words.map(length).collect::<Option<_>>()?;
    if values.is_empty() {
        values.push(0.0);
    }
    values
        .iter()
        .all(|value| value.is_finite())
        .then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(source: &str) -> String {
        readable(Cow::Borrowed(source)).into_owned()
    }

    #[test]
    fn transforms_are_read_as_cairosvg_reads_them() {
        for (value, expected) in [
            ("translate(20px, 10px)", "translate(2e1 1e1) "),
            (
                "translate(5 5) rotate(45deg)",
                "translate(5e0 5e0) rotate(0e0) ",
            ),
            ("translate(1in-5)", "translate(9.6e1 -5e0) "),
            (
                "translate(2,3) translateX(5) scale(2 3",
                "translate(2e0 3e0) ",
            ),
            ("scale(1,2,3)", "scale(1e0 2e0) "),
            ("matrix(1 0 0 1)", "matrix(1e0 0e0 0e0 1e0 0e0 0e0) "),
            ("translate(1px\n2)", "translate(1e0 2e0) "),
            ("translate()", "translate(0e0) "),
            ("Rotate(9)", ""),
            ("translate(2 3)", "translate(2 3)"),
            ("translate(10%)", "translate(10%)"),
            ("rotate(45 9)", "rotate(45 9)"),
            ("translate(1rem)", "translate(1rem)"),
            ("translate(1e999px)", "translate(1e999px)"),
        ] {
            for shape in [
                "<g transform='@'/>",
                "<g gradientTransform = \"@\"/>",
                "<g style=\"fill:red; transform: @\"/>",
                "<style>g > a{transform:@ !important}</style>",
                "<style><![CDATA[g{transform:@}]]></style>",
            ] {
                let [found, expected] = [
                    rewritten(&shape.replace('@', value)),
                    shape.replace('@', expected),
                ]
                .map(|text| text.replace(' ', ""));
                assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn filters_that_are_not_there_are_none() {
        let source =
            "<g filter='url(#a)' style='filter: url( #b )'/><g id='a' filter=\"url('#b')\"/>";
        assert_eq!(
            rewritten(source),
            "<g filter='url(#a)' style='filter:none'/><g id='a' filter=\"none\"/>"
        );
    }

    #[test]
    fn a_text_of_signs_takes_no_longer_than_another() {
        // Each would take minutes if every sign looked through the rest.
        for sign in [
            ":",
            "=",
            "filter:",
            "filter=",
            "transform: ",
            "id='",
            "='",
            "transform(",
        ] {
            for start in ["<style>", "<g a=\"", "<g filter='"] {
                let source = start.to_owned() + "filter" + &sign.repeat((4 << 20) / sign.len());
                assert!(rewritten(&source).len() <= source.len());
            }
        }
    }

    #[test]
    fn text_and_other_names_stay() {
        for source in [
            "<text>transform: x(1) filter='url(#a)'</text>",
            "<g text-transform='x(1)' style='text-transform:x(1);backdrop-filter:url(#a)'/>",
            "<g filter='blur(2px)' data-filter='url(#a)'/>",
            "<g transform='translate(2px",
            "<g transform='translate(2px &)'/>",
            "<g filter='url(#\u{1})'/>",
            "<g filter='url(#<)' transform='x(<)'/>",
            "<g transform=",
            "<g transform='translate(2 3)'/>",
        ] {
            assert_eq!(rewritten(source), source);
        }
    }
}
