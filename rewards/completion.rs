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

    /// The SVG or the words, or a snake-case reason why the completion has the wrong shape.
    pub fn extract<'a>(&self, text: &'a str) -> Result<&'a str, &'static str> {
        match self {
            CompletionConfig::CtrlS(rule) => rule.extract(text),
            CompletionConfig::Sgp(rule) => rule.extract(text),
            CompletionConfig::Svg(rule) => rule.extract(text),
            CompletionConfig::Text(_) => match text.trim() {
                "" => Err("no_text"),
                words => Ok(words),
            },
        }
    }
}

const NO_SVG: &str = "no_svg";
const BANNED: &str = "banned_tag";

impl CtrlS {
    fn extract<'a>(&self, text: &'a str) -> Result<&'a str, &'static str> {
        let trimmed = text.trim();
        let body = match (self.starts_in_think, trimmed.strip_prefix("<think>")) {
            (false, Some(body)) => body,
            (true, None) => trimmed,
            _ => return Err("no_think_block"),
        };
        let Some((_, rest)) = body.split_once("</think>") else {
            return Err("no_think_block");
        };
        if body.contains("<think>") || rest.contains("</think>") {
            return Err("several_think_blocks");
        }
        let rest = rest.trim();
        let found = fences(rest);
        let fence = match found.as_slice() {
            [] => return Err("no_svg_fence"),
            [fence] if fence.language == "svg" => fence,
            [_] => return Err("no_svg_fence"),
            _ => return Err("several_fences"),
        };
        if fence.span != (0, rest.len()) {
            return Err("text_outside_fence");
        }
        let svg = fence.content.trim();
        checked(svg, &self.banned_tags)
    }
}

impl Sgp {
    fn extract<'a>(&self, text: &'a str) -> Result<&'a str, &'static str> {
        let Some((_, answer)) = text.split_once("</think> <answer>") else {
            return Err("no_answer_block");
        };
        if !text.ends_with("</answer>") {
            return Err("answer_not_closed");
        }
        if self
            .banned_tags
            .iter()
            .any(|tag| text.contains(&format!("</{tag}>")))
        {
            return Err(BANNED);
        }
        let answer = answer.strip_suffix("</answer>").unwrap_or(answer);
        last_svg(answer)
            .or_else(|| truncated_tail(answer))
            .ok_or(NO_SVG)
    }
}

impl PlainSvg {
    fn extract<'a>(&self, text: &'a str) -> Result<&'a str, &'static str> {
        let svg = if self.surrounding_text {
            first_svg(text)
                .or_else(|| truncated_tail(text))
                .ok_or(NO_SVG)?
        } else {
            text.trim()
        };
        if !svg.starts_with('<') && truncated_tail(svg).is_some() {
            return Err("text_around_svg");
        }
        checked(svg, &self.banned_tags)
    }
}

fn checked<'a>(svg: &'a str, banned: &[String]) -> Result<&'a str, &'static str> {
    if truncated_tail(svg).is_none() && !svg.contains(":svg") {
        return Err(NO_SVG);
    }
    if holds_tag(svg, banned) {
        Err(BANNED)
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
