//! The shape a completion must have, and the SVG taken out of it.
//!
//! `ctrl_s` follows CTRL-S (arXiv 2603.16189): exactly one think block, then a single fence.
//! `sgp` follows SGP-RL (arXiv 2509.05208): an exact string between think and answer, an end tag at
//! the very end, no text elements; the last complete SVG counts, else the last unfinished one.
//!
//! An SVG ends where its root closes. The code of papers cuts at the first `</svg>`, within a nested `<svg>` as within a
//! comment: `extraction: as_released` does as that code does.

use crate::variant::Variant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svg::extract::{
    as_released, fences, first_svg, holds_svg, holds_tag, last_svg, truncated_tail,
};

/// The shape of a completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum CompletionConfig {
    /// Exactly one `<think>` block, then a single fence of language `svg`, and nothing else.
    CtrlS(CtrlS),
    /// `</think> <answer>` exactly, ending in `</answer>`.
    Sgp(Sgp),
    /// The SVG alone.
    Svg(PlainSvg),
    /// Words, such as a caption; nothing is rendered.
    Text(PlainText),
}

impl CompletionConfig {
    /// The words that the shape asks for, which a policy's vocabulary may hold as tokens of their own.
    pub fn markup(&self) -> &'static [&'static str] {
        match self {
            CompletionConfig::CtrlS(_) => &["<think>", "</think>", "```", "```svg"],
            CompletionConfig::Sgp(_) => &["<think>", "</think>", "<answer>", "</answer>"],
            CompletionConfig::Svg(_) | CompletionConfig::Text(_) => &[],
        }
    }
}

impl Default for CompletionConfig {
    fn default() -> Self {
        CompletionConfig::Svg(PlainSvg::default())
    }
}

/// One think block and one fence.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CtrlS {
    /// Whether the prompt already ends in `<think>`, so that completions start inside the block.
    pub starts_in_think: bool,
    /// Element names that must not occur in the SVG.
    pub banned_tags: Vec<String>,
    /// `strict`: the fence holds the SVG. `as_released`: one think block and one `svg` fence with one
    /// `<svg ..>..</svg>`, in any order and among other text; what counts is the first `<svg` of the whole completion up
    /// to the first `</svg>`, even one in the think block. Absent: the task's `variant`, else `strict`.
    pub extraction: Option<Variant>,
}

/// Think and answer tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sgp {
    /// Element names whose end tag must not occur anywhere in the completion.
    pub banned_tags: Vec<String>,
    /// `strict`: an SVG ends where its root closes. `as_released`: it ends at the first `</svg>` behind its start, so
    /// that a nested `<svg>` ends it early. Absent: the task's `variant`, else `strict`.
    pub extraction: Option<Variant>,
}

impl Default for Sgp {
    fn default() -> Self {
        Sgp {
            banned_tags: ["text", "tspan", "textPath"].map(String::from).to_vec(),
            extraction: None,
        }
    }
}

/// Words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlainText {}

/// The SVG alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlainSvg {
    /// Whether other text may stand around it; then the first SVG counts, an unfinished one as well.
    pub surrounding_text: bool,
    /// Element names that must not occur in the SVG.
    pub banned_tags: Vec<String>,
    /// With `surrounding_text`: `strict`: the SVG ends where its root closes; `as_released`: at the first `</svg>`
    /// behind its start, as the evaluation code of CTRL-S, SArena and VectorGym has it. Absent: the task's `variant`,
    /// else `strict`.
    pub extraction: Option<Variant>,
}

impl CompletionConfig {
    /// Takes the task's variant where it names none of its own.
    pub fn take_variant(&mut self, variant: Variant) {
        let own = match self {
            CompletionConfig::CtrlS(rule) => &mut rule.extraction,
            CompletionConfig::Sgp(rule) => &mut rule.extraction,
            // An SVG that stands alone need not be found.
            CompletionConfig::Svg(rule) if rule.surrounding_text => &mut rule.extraction,
            CompletionConfig::Svg(_) | CompletionConfig::Text(_) => return,
        };
        own.get_or_insert(variant);
    }

    /// Whether completions are words and not an SVG.
    pub fn is_text(&self) -> bool {
        matches!(self, CompletionConfig::Text(_))
    }

    /// The first value out of bounds, as `key: rule`.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match self {
            CompletionConfig::Svg(plain)
                if plain.extraction == Some(Variant::AsReleased) && !plain.surrounding_text =>
            {
                Err("extraction: as_released finds an SVG within other text (needs surrounding_text: true)".into())
            }
            CompletionConfig::CtrlS(_)
            | CompletionConfig::Sgp(_)
            | CompletionConfig::Svg(_)
            | CompletionConfig::Text(_) => Ok(()),
        }
    }

    /// The SVG or the words, or why the completion has the wrong shape.
    pub fn extract<'a>(&self, text: &'a str) -> Result<&'a str, ShapeFault> {
        match self {
            CompletionConfig::CtrlS(rule) => rule.extract(text),
            CompletionConfig::Sgp(rule) => rule.extract(text),
            CompletionConfig::Svg(rule) => rule.extract(text),
            CompletionConfig::Text(_) => match text.trim() {
                "" => Err(ShapeFault::NoText),
                words => Ok(words),
            },
        }
    }
}

/// Declares the faults with the names that samples and reports carry.
macro_rules! shape_faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal,)*) => {
        /// Why a completion has not the shape that was asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ShapeFault {
            $($(#[$doc])* $fault,)*
        }

        impl ShapeFault {
            /// All of them.
            pub(crate) const ALL: &[ShapeFault] = &[$(ShapeFault::$fault),*];

            /// The snake-case name, which samples and reports carry.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(ShapeFault::$fault => $name,)*
                }
            }
        }
    };
}

shape_faults! {
    /// No words at all.
    NoText = "no_text",
    /// No `<svg` element to take.
    NoSvg = "no_svg",
    /// More than one SVG where one is asked for.
    SeveralSvgs = "several_svgs",
    /// An element whose name is banned.
    BannedTag = "banned_tag",
    /// No think block, or one that has no end.
    NoThinkBlock = "no_think_block",
    /// More than one think block.
    SeveralThinkBlocks = "several_think_blocks",
    /// No fence of the language `svg` behind the think block.
    NoSvgFence = "no_svg_fence",
    /// More than one fence.
    SeveralFences = "several_fences",
    /// Something else than the fence.
    TextOutsideFence = "text_outside_fence",
    /// No `</think> <answer>`.
    NoAnswerBlock = "no_answer_block",
    /// No `</answer>` at the very end.
    AnswerNotClosed = "answer_not_closed",
    /// Something else than the SVG.
    TextAroundSvg = "text_around_svg",
}

impl CtrlS {
    fn extract<'a>(&self, text: &'a str) -> Result<&'a str, ShapeFault> {
        let svg = match self.extraction.unwrap_or_default() {
            Variant::Strict => self.fenced(text)?,
            Variant::AsReleased => self.as_released(text)?,
        };
        checked(svg, &self.banned_tags)
    }

    fn fenced<'a>(&self, text: &'a str) -> Result<&'a str, ShapeFault> {
        let trimmed = text.trim();
        let body = match (self.starts_in_think, trimmed.strip_prefix("<think>")) {
            (false, Some(body)) => body,
            (true, None) => trimmed,
            _ => return Err(ShapeFault::NoThinkBlock),
        };
        let Some((_, rest)) = body.split_once("</think>") else {
            return Err(ShapeFault::NoThinkBlock);
        };
        if body.contains("<think>") || rest.contains("</think>") {
            return Err(ShapeFault::SeveralThinkBlocks);
        }
        let rest = rest.trim();
        let found = fences(rest);
        let fence = match found.as_slice() {
            [] => return Err(ShapeFault::NoSvgFence),
            [fence] if fence.language == "svg" => fence,
            [_] => return Err(ShapeFault::NoSvgFence),
            _ => return Err(ShapeFault::SeveralFences),
        };
        if fence.span != (0, rest.len()) {
            return Err(ShapeFault::TextOutsideFence);
        }
        Ok(fence.content.trim())
    }

    /// The gate and the find of the code that CTRL-S has released, whose patterns this spells out.
    fn as_released<'a>(&self, text: &'a str) -> Result<&'a str, ShapeFault> {
        let mut thoughts = text;
        if self.starts_in_think {
            let closed = text.split_once("</think>");
            thoughts = closed.ok_or(ShapeFault::NoThinkBlock)?.1;
        }
        match between(thoughts, "<think>", "</think>").len() + usize::from(self.starts_in_think) {
            0 => return Err(ShapeFault::NoThinkBlock),
            1 => {}
            _ => return Err(ShapeFault::SeveralThinkBlocks),
        }
        let lower = text.to_ascii_lowercase();
        let fenced = between(&lower, "```svg", "```");
        let inside = match fenced.as_slice() {
            [] => return Err(ShapeFault::NoSvgFence),
            [inside] => *inside,
            _ => return Err(ShapeFault::SeveralFences),
        };
        match between(inside, "<svg", "</svg>").len() {
            0 => return Err(ShapeFault::NoSvg),
            1 => {}
            _ => return Err(ShapeFault::SeveralSvgs),
        }
        as_released::first_svg(text).ok_or(ShapeFault::NoSvg)
    }
}

/// What stands between each `open` and the first `close` behind it.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some((_, behind)) = rest.split_once(open) {
        let Some((inside, behind)) = behind.split_once(close) else {
            break;
        };
        found.push(inside);
        rest = behind;
    }
    found
}

impl Sgp {
    fn extract<'a>(&self, text: &'a str) -> Result<&'a str, ShapeFault> {
        let Some((_, answer)) = text.split_once("</think> <answer>") else {
            return Err(ShapeFault::NoAnswerBlock);
        };
        if !text.ends_with("</answer>") {
            return Err(ShapeFault::AnswerNotClosed);
        }
        if self
            .banned_tags
            .iter()
            .any(|tag| text.contains(&format!("</{tag}>")))
        {
            return Err(ShapeFault::BannedTag);
        }
        let answer = answer.strip_suffix("</answer>").unwrap_or(answer);
        let found = match self.extraction.unwrap_or_default() {
            Variant::Strict => last_svg(answer).or_else(|| truncated_tail(answer)),
            Variant::AsReleased => {
                as_released::last_svg(answer).or_else(|| as_released::truncated_tail(answer))
            }
        };
        found.ok_or(ShapeFault::NoSvg)
    }
}

impl PlainSvg {
    fn extract<'a>(&self, text: &'a str) -> Result<&'a str, ShapeFault> {
        let svg = match (self.surrounding_text, self.extraction.unwrap_or_default()) {
            (false, _) => text.trim(),
            (true, Variant::Strict) => first_svg(text)
                .or_else(|| truncated_tail(text))
                .ok_or(ShapeFault::NoSvg)?,
            (true, Variant::AsReleased) => as_released::first_svg(text)
                .or_else(|| as_released::truncated_tail(text))
                .ok_or(ShapeFault::NoSvg)?,
        };
        if !svg.starts_with('<') && holds_svg(svg) {
            return Err(ShapeFault::TextAroundSvg);
        }
        checked(svg, &self.banned_tags)
    }
}

fn checked<'a>(svg: &'a str, banned: &[String]) -> Result<&'a str, ShapeFault> {
    if !holds_svg(svg) {
        Err(ShapeFault::NoSvg)
    } else if holds_tag(svg, banned) {
        Err(ShapeFault::BannedTag)
    } else {
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn extract(format: serde_json::Value, text: &str) -> Result<String, &'static str> {
        let config: CompletionConfig = serde_json::from_value(format).unwrap();
        config
            .extract(text)
            .map(str::to_owned)
            .map_err(ShapeFault::as_str)
    }

    const NESTED: &str = "<svg><svg x='1'><g/></svg><!-- </svg> --><rect/></svg>";

    #[test]
    fn an_svg_ends_where_its_root_closes_in_every_format() {
        for (format, text) in [
            (json!({"format": "svg"}), NESTED.to_owned()),
            (
                json!({"format": "svg", "surrounding_text": true}),
                format!("Here: {NESTED} so."),
            ),
            (
                json!({"format": "sgp"}),
                format!("a</think> <answer>{NESTED}</answer>"),
            ),
            (
                json!({"format": "ctrl_s"}),
                format!("<think>a</think>\n```svg\n{NESTED}\n```"),
            ),
        ] {
            assert_eq!(extract(format, &text).as_deref(), Ok(NESTED));
        }
    }

    #[test]
    fn papers_code_cuts_short_where_it_is_asked_for() {
        let cut = "<svg><svg x='1'><g/></svg>";
        let one = |format: &str| json!({"format": format, "extraction": "as_released"});
        let mut plain = one("svg");
        plain["surrounding_text"] = true.into();
        assert_eq!(
            extract(plain, &format!("Here: {NESTED}")).as_deref(),
            Ok(cut)
        );
        let sgp = extract(one("sgp"), &format!("a</think> <answer>{cut}</answer>"));
        assert_eq!(sgp.as_deref(), Ok(cut));
        let ctrl_s = |text: String| extract(one("ctrl_s"), &text);
        let fence = format!("```svg\n{cut}<rect/></svg>\n```");
        assert_eq!(
            ctrl_s(format!("{fence} and <think>a</think>")).as_deref(),
            Ok(cut)
        );
        let first = "<svg>1</svg>";
        assert_eq!(
            ctrl_s(format!("<think>{first}</think>{fence}")).as_deref(),
            Ok(first)
        );
        for (text, fault) in [
            (fence.clone(), "no_think_block"),
            (
                format!("<think></think><think></think>{fence}"),
                "several_think_blocks",
            ),
            ("<think></think>".to_owned(), "no_svg_fence"),
            (format!("<think></think>{fence}{fence}"), "several_fences"),
            ("<think></think>```svg <svg> ```".to_owned(), "no_svg"),
            (
                format!("<think></think>```SVG {first}{first}```"),
                "several_svgs",
            ),
        ] {
            assert_eq!(ctrl_s(text), Err(fault));
        }
    }

    #[test]
    fn banned_names_within_comments_and_values_are_no_tags() {
        let format = json!({"format": "svg", "banned_tags": ["text"]});
        let inside = "<svg><!-- <text> --><g id='<text>'/></svg>";
        assert!(extract(format.clone(), inside).is_ok());
        assert_eq!(extract(format, "<svg><text/></svg>"), Err("banned_tag"));
    }
}
