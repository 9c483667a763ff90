//! What each task type measures besides its rewards: what its literature reports.
//!
//! Left out: scores over a whole set (FID), which are no mean over rows, and validity and tokens, which every
//! evaluation has.

use indexmap::IndexMap;
use rewards::RewardConfig as Rule;
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
    for task in tasks.values_mut() {
        let rewarded = rewarded(task);
        let task_type = task.task_type;
        let scoring = task.scoring();
        task.metrics.get_or_insert_with(|| {
            let own = own(task_type).into_iter().map(|rule| bare(&rule));
            let by_encoder = encoded.iter().filter(|rule| reports(task_type, rule));
            own.chain(by_encoder.cloned())
                .filter(|rule| !rewarded.contains(rule))
                .filter_map(|rule| serde_json::from_value(rule).ok())
                .filter(|rule| scoring.takes(rule))
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

/// What needs no encoder.
fn own(task: TaskType) -> Vec<Rule> {
    let mut rules = match task {
        TaskType::TextToSvg => vec![],
        // SArena and VectorGym.
        TaskType::ImageToSvg | TaskType::SketchToSvg | TaskType::Edit => vec![
            Rule::Ssim(Default::default()),
            Rule::Mse(Default::default()),
            Rule::Psnr(Default::default()),
        ],
        TaskType::Refinement => vec![
            Rule::Improvement(Default::default()),
            Rule::Ssim(Default::default()),
            Rule::Mse(Default::default()),
        ],
        TaskType::Caption => vec![
            Rule::RougeL(Default::default()),
            Rule::Bleu(Default::default()),
            Rule::Chrf(Default::default()),
        ],
        TaskType::Understanding => return vec![Rule::Choice(Default::default())],
    };
    rules.push(Rule::SvgLength(Default::default()));
    rules
}

/// Whether a type's literature reports what this rule with an encoder measures.
fn reports(task: TaskType, rule: &Value) -> bool {
    let kinds: &[&str] = match task {
        TaskType::TextToSvg => &["image_text", "dino"],
        TaskType::Caption => &["text_similarity", "bert_score"],
        TaskType::Understanding => &[],
        _ => &["dino", "lpips", "dreamsim"],
    };
    kinds.iter().any(|kind| rule["type"] == **kind)
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
