//! What lengths count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a length counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Characters.
    Chars,
    /// Tokens of the policy's tokenizer.
    Tokens,
    /// Characters that are neither white space nor within comments.
    NonSpace,
}

impl Unit {
    /// The length of `svg`; `tokens` counts tokens.
    pub(crate) fn count(self, svg: &str, tokens: Option<&dyn Fn(&str) -> usize>) -> f64 {
        let count = match self {
            Unit::Chars => svg.chars().count(),
            Unit::Tokens => tokens.map_or(0, |count| count(svg)),
            Unit::NonSpace => non_space(svg),
        };
        count as f64
    }
}

fn non_space(svg: &str) -> usize {
    let visible = |s: &str| s.chars().filter(|c| !c.is_whitespace()).count();
    let (mut rest, mut count) = (svg, 0);
    while let Some((before, comment)) = rest.split_once("<!--") {
        count += visible(before);
        match comment.split_once("-->") {
            Some((_, after)) => rest = after,
            // An open comment is no comment: it counts as written.
            None => return count + 4 + visible(comment),
        }
    }
    count + visible(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_count_what_they_say() {
        let svg = "<a> <!-- x --> é</a>";
        assert_eq!(Unit::Chars.count(svg, None), 20.0);
        assert_eq!(Unit::NonSpace.count(svg, None), 8.0);
        assert_eq!(Unit::Tokens.count(svg, Some(&|s| s.len())), 21.0);
        assert_eq!(Unit::NonSpace.count("a <!-- b", None), 6.0);
    }
}
