//! How the number in an answer is found, and whether that can work.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

    /// The number in an answer.
    pub(crate) fn number(&self, answer: &str) -> Option<f64> {
        let number = match self {
            ScoreRule::Regex(rule) => {
                let found = Regex::new(&rule.pattern).ok()?.captures(answer)?;
                found.get(1)?.as_str().trim().parse().ok()?
            }
            ScoreRule::Json(rule) => {
                let value = first_object(answer)?;
                let found = value.pointer(&rule.pointer)?;
                found
                    .as_f64()
                    .or_else(|| found.as_str()?.trim().parse().ok())?
            }
        };
        Some(number).filter(|number: &f64| number.is_finite())
    }
}

/// The first object among words. A brace may open something else, and what stands behind the object, such
/// as the end of a fence, is passed over.
fn first_object(answer: &str) -> Option<Value> {
    let object = |(start, _)| {
        let mut values = serde_json::Deserializer::from_str(&answer[start..]).into_iter();
        values.next()?.ok()
    };
    answer.match_indices('{').find_map(object)
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

    #[test]
    fn numbers_are_found_by_pattern_and_by_place() {
        let any = ScoreRule::default();
        assert_eq!(any.number("I give it 7.5 of 10"), Some(7.5));
        assert_eq!(any.number("none"), None);
        let named = ScoreRule::Regex(RegexRule {
            pattern: r"(?i)score:\s*(\S+)".into(),
        });
        assert_eq!(named.number("8 shapes. Score: 3"), Some(3.0));
        assert_eq!(named.number("score: NaN"), None);
        let json = ScoreRule::Json(JsonRule::default());
        assert_eq!(
            json.number("```json\n{\"why\": \"{\", \"score\": 4}\n```"),
            Some(4.0)
        );
        assert_eq!(json.number("{\"score\": \"4.5\"} and more"), Some(4.5));
        assert_eq!(json.number("{\"score\": null}"), None);
        assert_eq!(json.number("A {blue} dot: {\"score\": 6}"), Some(6.0));
        assert_eq!(json.number("{\"score\": 6"), None);
    }
}
