//! What each task type measures besides its rewards: what its literature reports, as the rewards themselves say.
//!
//! Left out: scores over a whole set (FID), which are no mean over rows, and validity and tokens, which every
//! evaluation has.

use indexmap::IndexMap;
use rewards::RewardConfig as Rule;
use rewards::rules::Setting;
use serde_json::Value;

use super::{TaskConfig, TaskType};

/// Gives every task that names no metrics its type's own.
pub(super) fn settle(tasks: &mut IndexMap<String, TaskConfig>) {
    let rewarded = |task: &TaskConfig| {
        let rubric = task.rubric.iter();
        rubric
            .flat_map(|rubric| rubric.rewards.iter().map(bare))
            .collect::<Vec<_>>()
    };
    let mut encoded: Vec<Value> = Vec::new();
    for rule in tasks.values().flat_map(rewarded) {
        // The first of a type: a metric's name stands once.
        if rule.get("encoder").is_some() && !encoded.iter().any(|seen| seen["type"] == rule["type"])
        {
            encoded.push(rule);
        }
    }
    let read = |rule: &Value| serde_json::from_value::<Rule>(rule.clone()).ok();
    let encoded: Vec<Rule> = encoded.iter().filter_map(read).collect();
    for task in tasks.values_mut() {
        let rewarded = rewarded(task);
        let setting = setting(task.task_type);
        let scoring = task.scoring();
        task.metrics.get_or_insert_with(|| {
            let by_encoder = encoded.iter().filter(|rule| rule.is_reported_by(setting));
            Rule::reported_by(setting)
                .into_iter()
                .chain(by_encoder.cloned())
                .filter(|rule| !rewarded.contains(&bare(rule)))
                .filter(|rule| scoring.accepts(rule))
                .collect()
        });
    }
}

/// What a rule measures, apart from its name, weight and bounds.
fn bare(rule: &Rule) -> Value {
    let mut value = serde_json::to_value(rule).unwrap_or_default();
    if let Some(keys) = value.as_object_mut() {
        for common in ["name", "weight", "clip"] {
            keys.shift_remove(common);
        }
    }
    value
}

/// The type as the literature knows it.
fn setting(task: TaskType) -> Setting {
    match task {
        TaskType::TextToSvg => Setting::TextToSvg,
        TaskType::ImageToSvg | TaskType::SketchToSvg | TaskType::Edit => Setting::ImageToSvg,
        TaskType::Refinement => Setting::Refinement,
        TaskType::Caption => Setting::Caption,
        TaskType::Understanding => Setting::Understanding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(task: &TaskConfig) -> Vec<String> {
        let names = task.metrics.iter().flatten();
        names.map(|rule| rule.common().name.to_owned()).collect()
    }

    #[test]
    fn a_type_measures_what_its_literature_reports_and_no_reward_says() {
        let yaml = |text: &str| serde_saphyr::from_str::<TaskConfig>(text).unwrap();
        let mut tasks = IndexMap::from([
            ("trace".to_owned(), yaml("type: image_to_svg")),
            (
                "draw".to_owned(),
                yaml(
                    "type: text_to_svg\nrubric: {rewards: [{type: dino, name: look, weight: 2, encoder: d}, {type: bert_score, encoder: b}]}",
                ),
            ),
            ("mend".to_owned(), yaml("type: refinement")),
            ("say".to_owned(), yaml("type: caption")),
            ("choose".to_owned(), yaml("type: understanding")),
            ("none".to_owned(), yaml("type: caption\nmetrics: []")),
        ]);
        for task in tasks.values_mut() {
            task.settle().unwrap();
        }
        settle(&mut tasks);
        // SSIM is rewarded already; DINO is measured because another task's encoder is there.
        assert_eq!(metrics(&tasks["trace"]), ["mse", "psnr", "length", "dino"]);
        assert_eq!(metrics(&tasks["draw"]), ["length"]);
        assert_eq!(
            metrics(&tasks["mend"]),
            ["improvement", "mse", "length", "dino"]
        );
        assert_eq!(
            metrics(&tasks["say"]),
            ["bleu", "chrf", "length", "bert_score"]
        );
        assert_eq!(metrics(&tasks["choose"]), [""; 0]);
        assert_eq!(metrics(&tasks["none"]), [""; 0]);
        for task in tasks
            .values()
            .filter(|task| task.task_type != TaskType::TextToSvg)
        {
            task.scoring().validate().unwrap();
        }
    }
}
