//! VectorGym's score (arXiv 2603.29852): four tasks' means of their metrics, and their mean, from published
//! components on the papers' scale of 0 to 100.
//!
//! Sketch and Edit are means of judge, DINO, 100 - MSE and 100 - LPIPS; Text of judge, CLIP and DINO; Caption of
//! judge, BGE-M3 and ROUGE-L.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::write::{TextTable, exact, rounded};
use crate::TrainError;

/// A task's components: names, and whether less is better.
type VectorGymTask = (&'static str, &'static [(&'static str, bool)]);

/// The tasks in the order of the paper's tables.
const TASKS: [VectorGymTask; 4] = [
    ("sketch", PICTURES),
    ("edit", PICTURES),
    (
        "text",
        &[("judge", false), ("clip", false), ("dino", false)],
    ),
    (
        "caption",
        &[("judge", false), ("bge_m3", false), ("rouge_l", false)],
    ),
];
const PICTURES: &[(&str, bool)] = &[
    ("judge", false),
    ("mse", true),
    ("dino", false),
    ("lpips", true),
];

/// The four tasks' scores and `overall`, from components.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorGymScores {
    /// Scores of the tasks, in the paper's order, then the mean of them.
    pub scores: Vec<(&'static str, f64)>,
    /// The components that they are of: task, name, number.
    pub components: Vec<(&'static str, &'static str, f64)>,
}

impl VectorGymScores {
    /// From `{"sketch": {"judge", "mse", "dino", "lpips"}, "edit": {..}, "text": {"judge", "clip", "dino"}, "caption":
    /// {"judge", "bge_m3", "rouge_l"}}`, numbers from 0 to 100.
    ///
    /// # Errors
    /// Every component that is missing, unknown or out of range, one sentence each, with the file and its key.
    pub fn read(file: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(file).map_err(|error| {
            TrainError::Input(format!("--components {}: {error}", file.display()))
        })?;
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            TrainError::Input(format!("{}: is not JSON: {error}", file.display()))
        })?;
        Self::of(&value).map_err(|problems| {
            let told = |problem: &String| format!("{}: {problem}", file.display());
            let all: Vec<String> = problems.iter().map(told).collect();
            TrainError::Input(all.join("\n"))
        })
    }

    fn of(value: &Value) -> Result<Self, Vec<String>> {
        let Some(tasks) = value.as_object() else {
            return Err(vec![
                "must be an object with sketch, edit, text and caption".into(),
            ]);
        };
        let names: Vec<&str> = TASKS.iter().map(|(name, _)| *name).collect();
        let mut problems = unknown("", tasks, &names);
        let (mut scores, mut components) = (Vec::new(), Vec::new());
        for (task, parts) in TASKS {
            let Some(own) = tasks.get(task).and_then(Value::as_object) else {
                problems.push(match tasks.get(task) {
                    None => format!("{task}: is missing"),
                    Some(other) => format!("{task}: must be an object, got {other}"),
                });
                continue;
            };
            let known: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
            problems.extend(unknown(&format!("{task}."), own, &known));
            let mut sum = 0.0;
            for (name, less) in parts {
                match component(own, name) {
                    Ok(number) => {
                        sum += if *less { 100.0 - number } else { number };
                        components.push((task, *name, number));
                    }
                    Err(problem) => problems.push(format!("{task}.{name}: {problem}")),
                }
            }
            scores.push((task, sum / parts.len() as f64));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let overall = scores.iter().map(|(_, score)| score).sum::<f64>() / scores.len() as f64;
        scores.push(("overall", overall));
        Ok(Self { scores, components })
    }

    /// `scores.json`.
    pub fn to_json(&self) -> Value {
        let scores = self.scores.iter();
        Value::Object(
            scores
                .map(|(name, score)| ((*name).to_owned(), json!(score)))
                .collect(),
        )
    }

    /// Scores and components, each by `number`.
    fn table(&self, number: fn(Option<f64>) -> String) -> TextTable {
        let scores = self
            .scores
            .iter()
            .map(|(task, score)| (*task, "score", *score));
        let rows = scores.chain(self.components.iter().copied());
        let row = |(task, metric, value): (&str, &str, f64)| {
            vec![task.to_owned(), metric.to_owned(), number(Some(value))]
        };
        TextTable {
            head: ["task", "metric", "value"].map(str::to_owned).to_vec(),
            rows: rows.map(row).collect(),
        }
    }

    /// The table for people.
    pub fn markdown(&self) -> String {
        self.table(rounded).markdown()
    }

    /// The table for machines.
    pub fn csv(&self) -> String {
        self.table(exact).csv()
    }
}

fn component(own: &Map<String, Value>, name: &str) -> Result<f64, String> {
    let value = own.get(name).ok_or("is missing")?;
    match value.as_f64() {
        Some(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err(format!("must be a number from 0 to 100, got {value}")),
    }
}

/// Keys that mean nothing, each with what is known there.
fn unknown(place: &str, map: &Map<String, Value>, known: &[&str]) -> Vec<String> {
    let strange = map.keys().filter(|key| !known.contains(&key.as_str()));
    strange
        .map(|key| format!("{place}{key}: is unknown (known: {})", known.join(", ")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(sketch: [f64; 4], edit: [f64; 4], text: [f64; 3], caption: [f64; 3]) -> Value {
        let pictures = |[judge, mse, dino, lpips]: [f64; 4]| json!({"judge": judge, "mse": mse, "dino": dino, "lpips": lpips});
        json!({
            "sketch": pictures(sketch),
            "edit": pictures(edit),
            "text": {"judge": text[0], "clip": text[1], "dino": text[2]},
            "caption": {"judge": caption[0], "bge_m3": caption[1], "rouge_l": caption[2]},
        })
    }

    /// The two rows of the paper's table for Qwen3-VL-8B, before and after training on VectorGym.
    #[test]
    fn published_components_give_the_published_scores() {
        let base = row(
            [33.00, 13.76, 81.01, 40.97],
            [57.40, 11.01, 90.44, 25.27],
            [55.20, 29.48, 81.71],
            [25.20, 66.27, 18.87],
        );
        let trained = row(
            [46.00, 11.99, 88.25, 39.37],
            [67.00, 8.36, 93.94, 21.34],
            [72.80, 30.55, 87.46],
            [35.80, 79.76, 25.58],
        );
        for (components, published) in [
            (base, [64.82, 77.89, 55.46, 36.78, 58.74]),
            (trained, [70.72, 82.81, 63.60, 47.05, 66.05]),
        ] {
            let found = VectorGymScores::of(&components).unwrap();
            for ((name, score), want) in found.scores.iter().zip(published) {
                assert!((score - want).abs() < 0.01, "{name}: {score} {want}");
            }
        }
    }

    #[test]
    fn every_wrong_component_is_named() {
        let mut given = row([1.0; 4], [2.0; 4], [3.0; 3], [4.0; 3]);
        given["sketch"]["mse"] = json!(100.5);
        given["edit"]["dino"] = json!("93");
        given["edit"]["ssim"] = json!(1);
        given["text"].as_object_mut().unwrap().remove("clip");
        given.as_object_mut().unwrap().remove("caption");
        given["captions"] = json!({});
        let problems = VectorGymScores::of(&given).unwrap_err();
        for want in [
            "captions: is unknown (known: sketch, edit, text, caption)",
            "sketch.mse: must be a number from 0 to 100, got 100.5",
            "edit.ssim: is unknown (known: judge, mse, dino, lpips)",
            "edit.dino: must be a number from 0 to 100, got \"93\"",
            "text.clip: is missing",
            "caption: is missing",
        ] {
            assert!(
                problems.iter().any(|found| found == want),
                "{want}: {problems:?}"
            );
        }
        assert_eq!(problems.len(), 6);
    }
}
