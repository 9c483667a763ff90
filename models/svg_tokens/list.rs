//! The SVG tokens that CTRL-S (arXiv 2603.16189) and InternSVG (arXiv 2510.11341) add to a vocabulary.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SvgVocabulary {
    /// 49 tags, 35 attributes.
    CtrlS,
    /// 53 tags (animation, but neither `<g` nor `<path`), 42 attributes.
    Internsvg,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SvgTokenKind {
    /// -128 to 128.
    Integer,
    /// .00 to .99.
    TwoDecimals,
    /// .0 to .9.
    OneDecimal,
    /// Space, name, equals sign, quote.
    Attribute,
    /// A tag's opening without its bracket, or a closing tag.
    Tag,
}

const ELEMENTS: [&str; 24] = [
    "svg",
    "g",
    "defs",
    "use",
    "path",
    "rect",
    "circle",
    "ellipse",
    "line",
    "polyline",
    "polygon",
    "text",
    "tspan",
    "textPath",
    "linearGradient",
    "radialGradient",
    "stop",
    "clipPath",
    "mask",
    "filter",
    "feGaussianBlur",
    "feColorMatrix",
    "feComposite",
    "feBlend",
];
const ANIMATION: [&str; 3] = ["animate", "animateMotion", "animateTransform"];
/// Openings that InternSVG's list lacks.
const NOT_OPENED: [&str; 2] = ["g", "path"];

const ATTRIBUTES: [&str; 35] = [
    "width",
    "height",
    "viewBox",
    "id",
    "class",
    "x",
    "y",
    "x1",
    "y1",
    "x2",
    "y2",
    "cx",
    "cy",
    "r",
    "rx",
    "ry",
    "d",
    "points",
    "fill",
    "stroke",
    "stroke-width",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-miterlimit",
    "fill-rule",
    "clip-path",
    "opacity",
    "transform",
    "font-size",
    "font-family",
    "text-anchor",
    "gradientUnits",
    "gradientTransform",
    "offset",
    "stop-color",
];
const ANIMATED: [&str; 7] = [
    "dur",
    "from",
    "to",
    "repeatCount",
    "begin",
    "rotate",
    "path",
];

/// The tokens in the order in which they are added: integers, fractions of two digits, of one,
/// attributes, tags.
pub fn svg_tokens(vocabulary: SvgVocabulary) -> Vec<(SvgTokenKind, String)> {
    let animates = vocabulary == SvgVocabulary::Internsvg;
    let integers = (-128..=128).map(|n: i32| (SvgTokenKind::Integer, n.to_string()));
    let two = (0..100).map(|n| (SvgTokenKind::TwoDecimals, format!(".{n:02}")));
    let one = (0..10).map(|n| (SvgTokenKind::OneDecimal, format!(".{n}")));
    let more = |list: &'static [&'static str]| list.iter().filter(move |_| animates);
    let attributes = ATTRIBUTES
        .iter()
        .chain(more(&ANIMATED))
        .map(|name| (SvgTokenKind::Attribute, format!(" {name}=\"")));
    let tags = ELEMENTS.iter().chain(more(&ANIMATION)).flat_map(|name| {
        let opens = !(animates && NOT_OPENED.contains(name));
        let open = opens.then(|| format!("<{name}"));
        open.into_iter().chain([format!("</{name}>")])
    });
    let tags = tags
        .chain(["/>".to_owned()])
        .map(|text| (SvgTokenKind::Tag, text));
    integers
        .chain(two)
        .chain(one)
        .chain(attributes)
        .chain(tags)
        .collect()
}

/// Names between angle brackets that mark a sequence and are no markup.
const SEQUENCE_MARKS: [&str; 8] = ["s", "pad", "unk", "bos", "eos", "mask", "cls", "sep"];

/// Whether a token is part of what a policy writes rather than of how it is asked: a piece of SVG, or a tag
/// such as `<think>` and `</answer>`.
pub fn is_markup(text: &str) -> bool {
    let text = text.trim();
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_:".contains(c))
    };
    let tag = text.strip_prefix("</").or_else(|| text.strip_prefix('<'));
    match tag.map(|tag| (tag.strip_suffix('>').unwrap_or(tag), tag.ends_with('>'))) {
        Some((name, true)) => {
            is_name(name) && !SEQUENCE_MARKS.contains(&name.to_ascii_lowercase().as_str())
        }
        Some((name, false)) => ELEMENTS.iter().chain(&ANIMATION).any(|own| *own == name),
        None => {
            let attribute = text.strip_suffix("=\"");
            let all = || ATTRIBUTES.iter().chain(&ANIMATED);
            text == "/>" || attribute.is_some_and(|name| all().any(|own| *own == name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_told_from_marks_of_a_sequence() {
        for text in [
            "<think>", "</think>", "<svg", "</svg>", "<path", " d=\"", "/>", "<answer>", "<g>",
        ] {
            assert!(is_markup(text), "{text}");
        }
        for text in [
            "<s>",
            "</s>",
            "<pad>",
            "<|im_end|>",
            "<|endoftext|>",
            "[PAD]",
            "<",
            "<0x0A>",
            "=\"",
            "a",
            "",
            "<IMG_CONTEXT",
        ] {
            assert!(!is_markup(text), "{text}");
        }
    }

    #[test]
    fn the_lists_have_the_published_sizes() {
        for (vocabulary, tags, attributes) in [
            (SvgVocabulary::CtrlS, 49, 35),
            (SvgVocabulary::Internsvg, 53, 42),
        ] {
            let tokens = svg_tokens(vocabulary);
            let count = |kind| tokens.iter().filter(|token| token.0 == kind).count();
            assert_eq!(count(SvgTokenKind::Tag), tags);
            assert_eq!(count(SvgTokenKind::Attribute), attributes);
            assert_eq!(count(SvgTokenKind::Integer), 257);
            assert_eq!(
                count(SvgTokenKind::TwoDecimals) + count(SvgTokenKind::OneDecimal),
                110
            );
        }
    }
}
