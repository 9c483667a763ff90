//! How the number in an answer is found, and whether that can work.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the number is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum ScoreRule {
    /// By a regular expression.
    Regex(RegexRule),
    /// By a place in a JSON object.
    Json(JsonRule),
}

/// The first group of the first match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegexRule {
    /// A regular expression with one group.
    pub pattern: String,
}

/// A place in the first JSON object of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JsonRule {
    /// A JSON pointer to a number, such as `/score`.
    pub pointer: String,
}

impl Default for RegexRule {
    fn default() -> Self {
        RegexRule {
            pattern: r"(-?\d+(?:\.\d+)?)".into(),
        }
    }
}

impl Default for JsonRule {
    fn default() -> Self {
        JsonRule {
            pointer: "/score".into(),
        }
    }
}

impl Default for ScoreRule {
    fn default() -> Self {
        ScoreRule::Regex(RegexRule::default())
    }
}

impl ScoreRule {
    pub(crate) fn check(&self) -> Result<(), String> {
        match self {
            ScoreRule::Regex(rule) => match Regex::new(&rule.pattern) {
                Ok(pattern) if pattern.captures_len() == 2 => Ok(()),
                Ok(_) => Err(format!(
                    "pattern: must have one group, got {:?}",
                    rule.pattern
                )),
                Err(error) => Err(format!("pattern: {error}")),
            },
            ScoreRule::Json(rule) if rule.pointer.starts_with('/') => Ok(()),
            ScoreRule::Json(rule) => Err(format!(
                "pointer: must begin with a slash, got {:?}",
                rule.pointer
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_find_nothing_are_refused() {
        let pattern = |text: &str| {
            ScoreRule::Regex(RegexRule {
                pattern: text.into(),
            })
            .check()
        };
        assert!(pattern("(a)").is_ok());
        assert!(pattern("a").is_err() && pattern("(").is_err() && pattern("(a)(b)").is_err());
        assert!(
            ScoreRule::Json(JsonRule {
                pointer: "score".into()
            })
            .check()
            .is_err()
        );
    }
}
