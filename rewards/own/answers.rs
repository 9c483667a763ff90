//! Numbers in the answers of services, functions and commands.

use crate::scores::{Scores, Verdict};
use serde_json::Value;

/// The key of the reward among named numbers.
const SCORE: &str = "score";

/// The answers to `count` rows: a list, or an object that holds it.
///
/// # Errors
/// Another shape, or another number of answers.
pub(super) fn of_batch(value: &Value, count: usize) -> Result<Vec<Verdict>, String> {
    let held = || {
        ["items", "scores", "rewards"]
            .iter()
            .find_map(|key| value[key].as_array())
    };
    let Some(list) = value.as_array().or_else(held) else {
        return Err(match value["error"].as_str() {
            Some(said) => said.to_owned(),
            None => format!(
                "the answer must be a list, or an object with a list `items`, got {}",
                short(value)
            ),
        });
    };
    match list.len() == count {
        true => Ok(list.iter().map(of_row).collect()),
        false => Err(format!(
            "{count} rows were asked about, {} answered",
            list.len()
        )),
    }
}

/// The answer to one row.
pub(super) fn of_row(value: &Value) -> Verdict {
    match value {
        Value::Number(number) => Ok(Scores::of(number.as_f64().unwrap_or(f64::NAN))),
        Value::Null => Err("the answer is null".into()),
        Value::Object(fields) => {
            if let Some(said) = fields.get("error").filter(|said| !said.is_null()) {
                let said = said
                    .as_str()
                    .map_or_else(|| said.to_string(), str::to_owned);
                return Err(said.into());
            }
            let mut named = Vec::with_capacity(fields.len());
            for (name, value) in fields {
                let Some(number) = value.as_f64() else {
                    let said = format!("{name}: must be a number, got {}", short(value));
                    return Err(said.into());
                };
                named.push((name.clone(), number));
            }
            if named.is_empty() {
                return Err("the answer is an object without numbers".into());
            }
            let value = match named.iter().position(|(name, _)| name == SCORE) {
                Some(place) => named.remove(place).1,
                None => named.iter().map(|(_, value)| value).sum(),
            };
            Ok(Scores { value, named })
        }
        other => Err(format!(
            "the answer must be a number or named numbers, got {}",
            short(other)
        )
        .into()),
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_row_is_answered_by_a_number_or_named_numbers() {
        let said = |value: Value| of_row(&value).map_err(|why| why.to_string());
        assert_eq!(said(json!(0.5)), Ok(Scores::of(0.5)));
        let both = |value| Scores {
            value,
            named: vec![("a".into(), 1.0), ("b".into(), 2.5)],
        };
        assert_eq!(said(json!({"a": 1, "b": 2.5})), Ok(both(3.5)));
        assert_eq!(said(json!({"a": 1, "score": -1, "b": 2.5})), Ok(both(-1.0)));
        for (value, why) in [
            (json!(null), "null"),
            (json!("0.5"), "a number"),
            (json!({}), "without numbers"),
            (json!({"a": "x"}), "a: must be a number"),
            (json!({"error": "no model"}), "no model"),
        ] {
            let said = said(value).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn a_batch_is_a_list_of_as_many() {
        for value in [
            json!([1, null]),
            json!({"items": [1, null]}),
            json!({"scores": [1, null]}),
        ] {
            let answers = of_batch(&value, 2).unwrap();
            assert!(answers[0] == Ok(Scores::of(1.0)) && answers[1].is_err());
        }
        assert!(of_batch(&json!([1]), 2).unwrap_err().contains("2 rows"));
        assert_eq!(of_batch(&json!({"error": "busy"}), 1), Err("busy".into()));
        assert!(of_batch(&json!(1), 1).is_err());
    }
}
