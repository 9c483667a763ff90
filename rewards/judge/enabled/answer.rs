//! From an answer's words to its number.

use crate::judge::{JudgeReward, ScoreRule};
use regex::Regex;
use serde_json::Value;

impl JudgeReward {
    /// The number in an answer, on a scale of 0 to 1; none when there is none within the range.
    pub(crate) fn value(&self, answer: &str) -> Option<f64> {
        let [low, high] = self.range;
        let score = self.score.number(answer)?;
        (low..=high)
            .contains(&score)
            .then(|| (score - low) / (high - low))
    }
}

impl ScoreRule {
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
    use crate::judge::{JsonRule, RegexRule};

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
