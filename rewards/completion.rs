//! The shape a completion must have, and the SVG taken out of it.
//!
//! `ctrl_s` follows CTRL-S (arXiv 2603.16189): exactly one think block, then a single fence.
//! `sgp` follows SGP-RL (arXiv 2509.05208): an exact string between think and answer, an end tag at
//! the very end, no text elements; the last complete SVG counts, else the last unfinished one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use svg::extract::{fences, first_svg, last_svg, truncated_tail};

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
}

/// Think and answer tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sgp {
    /// Element names whose end tag must not occur anywhere in the completion.
    pub banned_tags: Vec<String>,
}

impl Default for Sgp {
    fn default() -> Self {
        Sgp {
            banned_tags: ["text", "tspan", "textPath"].map(String::from).to_vec(),
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
}

impl CompletionConfig {
    /// Whether completions are words and not an SVG.
    pub fn is_text(&self) -> bool {
        matches!(self, CompletionConfig::Text(_))
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
        let svg = fence.content.trim();
        checked(svg, &self.banned_tags)
    }
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
        last_svg(answer)
            .or_else(|| truncated_tail(answer))
            .ok_or(ShapeFault::NoSvg)
    }
}

impl PlainSvg {
    fn extract<'a>(&self, text: &'a str) -> Result<&'a str, ShapeFault> {
        let svg = if self.surrounding_text {
            first_svg(text)
                .or_else(|| truncated_tail(text))
                .ok_or(ShapeFault::NoSvg)?
        } else {
            text.trim()
        };
        if !svg.starts_with('<') && truncated_tail(svg).is_some() {
            return Err(ShapeFault::TextAroundSvg);
        }
        checked(svg, &self.banned_tags)
    }
}

fn checked<'a>(svg: &'a str, banned: &[String]) -> Result<&'a str, ShapeFault> {
    if truncated_tail(svg).is_none() && !svg.contains(":svg") {
        return Err(ShapeFault::NoSvg);
    }
    if holds_tag(svg, banned) {
        Err(ShapeFault::BannedTag)
    } else {
        Ok(svg)
    }
}

/// Whether a start or end tag of one of these local names occurs, under any prefix.
fn holds_tag(svg: &str, names: &[String]) -> bool {
    if names.is_empty() {
        return false;
    }
    svg.split('<').skip(1).any(|tag| {
        let tag = tag.strip_prefix('/').unwrap_or(tag);
        let end = tag
            .find(|c: char| c.is_whitespace() || matches!(c, '>' | '/'))
            .unwrap_or(tag.len());
        let local = tag[..end].rsplit(':').next().unwrap_or_default();
        names.iter().any(|name| name == local)
    })
}
