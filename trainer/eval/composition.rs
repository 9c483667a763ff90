//! SGP-CompBench (arXiv 2509.05208): what a drawing was to show, asked of a judge who answers 100, 50, 30 or 0. Attributes and
//! relations are one question. Numbers of things are several: of their total, of the kinds, and of each kind's number,
//! mixed by 0.2, 0.2 and 0.6 and cut to a whole number. What is no drawing scores 0 and is not asked about.

use serde_json::Value;

use super::item::EvalItem;

/// The score's name.
pub const SCORE: &str = "score";
const TOTAL: &str = "total_count";
const KINDS: &str = "items";
const COUNTS: &str = "count_binding";

/// What a prompt is about.
#[derive(Debug, Clone, PartialEq)]
pub struct CompositionWish {
    /// `binding`, `relation` or `numeracy`, and the kind within it.
    kind: (String, String),
    what: WishedThings,
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq)]
enum WishedThings {
    /// Things and their attributes.
    Binding,
    /// Things and how they stand to each other.
    Relation,
    /// So many things: of each kind its number.
    Numeracy(String, Vec<(String, String)>),
}

impl CompositionWish {
    /// Of a row of the published file.
    ///
    /// # Errors
    /// The key that is wrong.
    pub fn of(row: &Value) -> Result<Self, String> {
        let text = |key: &str| match &row[key] {
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("{key}: must be text, got {other}")),
        };
        let kind = (text("major_type")?, text("minor_type")?);
        let count = |value: &Value, key: &str| match value {
            Value::Number(number) => Ok(number.to_string()),
            Value::String(text) => Ok(text.clone()),
            other => Err(format!("{key}: must be a number, got {other}")),
        };
        let metadata = &row["metadata"];
        let what = match kind.0.as_str() {
            "binding" => WishedThings::Binding,
            "relation" => WishedThings::Relation,
            "numeracy" => {
                let all = metadata["object_counts"].as_array();
                let all = all.ok_or_else(|| {
                    let got = &metadata["object_counts"];
                    format!("metadata.object_counts: must be a list, got {got}")
                })?;
                let each = all.iter().enumerate().map(|(at, one)| {
                    let key = format!("metadata.object_counts.{at}");
                    let noun = one["noun"]
                        .as_str()
                        .ok_or_else(|| format!("{key}.noun: must be text, got {}", one["noun"]))?;
                    Ok((
                        count(&one["count"], &format!("{key}.count"))?,
                        noun.to_owned(),
                    ))
                });
                let total = count(&metadata["total_count"], "metadata.total_count")?;
                WishedThings::Numeracy(total, each.collect::<Result<_, String>>()?)
            }
            other => {
                return Err(format!(
                    "major_type: must be binding, relation or numeracy, got {other:?}"
                ));
            }
        };
        Ok(Self { kind, what })
    }

    /// Names of the metrics of such wishes.
    pub fn metrics<'a>(wishes: impl Iterator<Item = &'a Self>) -> Vec<String> {
        let (mut majors, mut minors, mut counts) = (Vec::new(), Vec::new(), false);
        for wish in wishes {
            let [major, minor] = wish.own_scores();
            majors.push(major);
            minors.push(minor);
            counts |= matches!(wish.what, WishedThings::Numeracy(..));
        }
        let mut names = vec![SCORE.to_owned()];
        for mut group in [majors, minors] {
            group.sort();
            group.dedup();
            names.extend(group);
        }
        let parts = [TOTAL, KINDS, COUNTS].map(str::to_owned);
        names.extend(parts.into_iter().filter(|_| counts));
        names
    }

    /// `score/binding` and `score/binding/color`.
    fn own_scores(&self) -> [String; 2] {
        let (major, minor) = &self.kind;
        [
            format!("{SCORE}/{major}"),
            format!("{SCORE}/{major}/{minor}"),
        ]
    }

    /// What a judge is asked of a drawing of `words`, by part.
    pub fn questions(&self, words: &str) -> Vec<(String, String)> {
        let asked = |what: String, levels: [String; 4]| {
            let [all, half, less, none] = levels;
            format!(
                "{what}\n100: {all}\n50: {half}\n30: {less}\n0: {none}\nAnswer on two lines, `REASONING: why` and `SCORE: number`, the number being one of these four."
            )
        };
        let plain = |what: String, levels: [&str; 4]| asked(what, levels.map(str::to_owned));
        match &self.what {
            WishedThings::Binding => vec![(
                SCORE.to_owned(),
                plain(
                    format!("Does the picture show: {words}?"),
                    [
                        "everything can be recognised, and each thing has its own attribute",
                        "everything can be recognised, but attributes are wrong or unclear",
                        "things cannot be recognised, but the attributes seem right",
                        "neither things nor attributes are right",
                    ],
                ),
            )],
            WishedThings::Relation => vec![(
                SCORE.to_owned(),
                plain(
                    format!("Does the picture show: {words}?"),
                    [
                        "the things are clear, and stand to each other as they should",
                        "the things are not clear, but stand to each other as they should",
                        "the things are clear, but do not stand to each other as they should",
                        "neither the things nor how they stand to each other is right",
                    ],
                ),
            )],
            WishedThings::Numeracy(total, each) => {
                let nouns: Vec<&str> = each.iter().map(|(_, noun)| noun.as_str()).collect();
                let mut all = vec![
                    (
                        TOTAL.to_owned(),
                        plain(
                            format!(
                                "Are there exactly {total} separate things in the picture? They need not be recognisable."
                            ),
                            [
                                "all things are clearly separate, and their number is right",
                                "all things are clearly separate, but their number is wrong",
                                "some things are clearly separate, and the number is wrong",
                                "things are not clearly separate, and the number is wrong",
                            ],
                        ),
                    ),
                    (
                        KINDS.to_owned(),
                        plain(
                            format!("Which of these are in the picture: {}?", nouns.join(", ")),
                            [
                                "all of them",
                                "most of them",
                                "some of them",
                                "none of them",
                            ],
                        ),
                    ),
                ];
                all.extend(each.iter().enumerate().map(|(at, (count, noun))| {
                    let levels = [
                        format!("exactly {count}, clearly separate"),
                        format!("not all {count}, but nearly"),
                        format!("far from {count}"),
                        format!("no {noun} at all"),
                    ];
                    let what =
                        format!("How many {noun} are in the picture? There should be {count}.");
                    (format!("{COUNTS}/{at}"), asked(what, levels))
                }));
                all
            }
        }
    }

    /// Gives an item its score, of the answers by part; one that was not drawn has no answers and scores 0.
    pub fn score(&self, item: &mut EvalItem, parts: &[(String, Result<f64, String>)]) {
        let all = |wanted: &str| -> Result<Vec<f64>, String> {
            let own = parts
                .iter()
                .filter(|(part, _)| part.split('/').next() == Some(wanted));
            own.map(|(_, score)| score.clone()).collect()
        };
        let mean = |scores: Vec<f64>| match scores.len() {
            0 => 0.0,
            count => scores.iter().sum::<f64>() / count as f64,
        };
        let of = |wanted: &str| all(wanted).map(mean);
        let score = match (&self.what, item.valid) {
            (_, false) => Ok(0.0),
            (WishedThings::Binding | WishedThings::Relation, true) => of(SCORE),
            (WishedThings::Numeracy(..), true) => {
                let each = [TOTAL, KINDS, COUNTS].map(|part| (part, of(part)));
                for (part, score) in &each {
                    match score {
                        Ok(score) => item.put(part, *score),
                        Err(why) => item.fail(part, why.clone()),
                    }
                }
                let [total, kinds, counts] = each.map(|(_, score)| score);
                total.and_then(|total| Ok((0.2 * total + 0.2 * kinds? + 0.6 * counts?).trunc()))
            }
        };
        for name in std::iter::once(SCORE.to_owned()).chain(self.own_scores()) {
            match &score {
                Ok(score) => item.put(&name, *score),
                Err(why) => item.fail(&name, why.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wish(major: &str, minor: &str, metadata: Value) -> Result<CompositionWish, String> {
        CompositionWish::of(&json!({
            "major_type": major, "minor_type": minor, "metadata": metadata,
        }))
    }

    #[test]
    fn numbers_of_things_are_mixed_and_cut_and_what_is_no_drawing_scores_nothing() {
        let counts = json!({
            "total_count": 5,
            "object_counts": [{"noun": "cats", "count": 2}, {"noun": "dogs", "count": "three"}],
        });
        let own = wish("numeracy", "numeracy", counts).unwrap();
        let parts: Vec<String> = own
            .questions("w")
            .into_iter()
            .map(|(part, _)| part)
            .collect();
        assert_eq!(
            parts,
            ["total_count", "items", "count_binding/0", "count_binding/1"]
        );
        let (_, last) = own.questions("w").pop().unwrap();
        assert!(last.contains("three") && last.contains("dogs"), "{last}");
        let answers = |scores: [Result<f64, String>; 4]| -> Vec<_> {
            parts.iter().cloned().zip(scores).collect()
        };
        let mut item = EvalItem::new("composition", "1", None);
        own.score(
            &mut item,
            &answers([Ok(50.0), Ok(30.0), Ok(100.0), Ok(30.0)]),
        );
        // 10 + 6 + 39 = 55.
        assert_eq!(item.values[SCORE], 55.0);
        assert_eq!(item.values["count_binding"], 65.0);
        let mut item = EvalItem::new("composition", "1", None);
        own.score(
            &mut item,
            &answers([Ok(50.0), Ok(50.0), Ok(50.0), Ok(30.0)]),
        );
        // 44 exactly, by doubles a little less or more: cut like Python's int.
        assert_eq!(
            item.values[SCORE],
            (0.2f64 * 50.0 + 0.2 * 50.0 + 0.6 * 40.0).trunc()
        );
        let mut item = EvalItem::new("composition", "1", None);
        let lost = Err("nobody".to_owned());
        own.score(&mut item, &answers([Ok(50.0), Ok(50.0), lost, Ok(30.0)]));
        assert_eq!(item.values.get(SCORE), None);
        assert_eq!(item.failures["score/numeracy/numeracy"], "nobody");
        let mut item = EvalItem::new("composition", "1", Some("malformed_xml".into()));
        own.score(&mut item, &[]);
        assert_eq!(item.values["score/numeracy"], 0.0);
        assert!(!item.values.contains_key("items"));
    }

    #[test]
    fn metrics_are_of_all_and_of_each_kind() {
        let all = [
            wish("relation", "2d_spatial", json!({})).unwrap(),
            wish("binding", "shape", json!({})).unwrap(),
            wish("binding", "color", json!({})).unwrap(),
        ];
        assert_eq!(
            CompositionWish::metrics(all.iter()),
            [
                "score",
                "score/binding",
                "score/relation",
                "score/binding/color",
                "score/binding/shape",
                "score/relation/2d_spatial"
            ]
        );
        let wrong = wish("style", "a", json!({})).unwrap_err();
        assert!(wrong.contains("got \"style\""), "{wrong}");
        let wrong = wish("numeracy", "a", json!({"total_count": 2})).unwrap_err();
        assert!(wrong.starts_with("metadata.object_counts: "), "{wrong}");
    }
}
