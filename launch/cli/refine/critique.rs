//! What a critic said: a score and words, where its answer can be understood.

use serde_json::Value;

/// A critique.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Critique {
    /// 0 to 10; none where the answer holds no such number.
    pub score: Option<f64>,
    /// What is right and wrong; the whole answer where it is no JSON object.
    pub critique: String,
    /// What to change.
    pub suggestions: String,
}

/// The first JSON object of an answer, read; else the answer as it is.
pub fn understood(answer: &str) -> Critique {
    let objects = answer.match_indices('{').filter_map(|(at, _)| {
        let mut values = serde_json::Deserializer::from_str(&answer[at..]).into_iter::<Value>();
        values.next()?.ok()
    });
    let Some(object) = objects.into_iter().find(Value::is_object) else {
        return Critique {
            critique: answer.trim().to_owned(),
            ..Critique::default()
        };
    };
    let words = |key: &str| match &object[key] {
        Value::String(words) => words.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let score = match &object["score"] {
        Value::String(number) => number.trim().parse().ok(),
        number => number.as_f64(),
    };
    Critique {
        score: score.filter(|score: &f64| (0.0..=10.0).contains(score)),
        critique: words("critique"),
        suggestions: words("suggestions"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_critique_is_the_first_object_of_an_answer() {
        let said = understood(
            "Well {so} ```json\n{\"score\": \"7.5\", \"critique\": \"round\", \"suggestions\": [\"a\", 1]}\n```",
        );
        let expected = Critique {
            score: Some(7.5),
            critique: "round".into(),
            suggestions: "[\"a\",1]".into(),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn what_cannot_be_understood_is_kept_as_words() {
        let said = understood(" too dark ");
        assert_eq!((said.score, said.critique.as_str()), (None, "too dark"));
        for odd in [
            "{\"score\": 11}",
            "{\"score\": null}",
            "{\"score\": \"good\"}",
            "{\"score\": -1}",
        ] {
            assert_eq!(understood(odd).score, None, "{odd}");
        }
    }
}
