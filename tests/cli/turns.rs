//! Conversations of several turns, as stages learn from them and ask them.

use serde_json::{Value, json};

use super::program::{program, rows, scratch, told, write_rows};
use super::tiny::{config, drawing};

/// Two questions with their answers; `turns` of them, of these weights.
fn conversation(turns: usize, weights: [Option<f64>; 2]) -> Value {
    let said = [
        ("user", "a red circle".to_owned()),
        (
            "assistant",
            drawing(r#"<circle cx="16" cy="32" r="12" fill="red"/>"#),
        ),
        ("user", "now a green one".to_owned()),
        (
            "assistant",
            drawing(r#"<circle cx="20" cy="32" r="9" fill="green"/>"#),
        ),
    ];
    let said = said.into_iter().take(2 * turns);
    let weights = weights.into_iter().flat_map(|weight| [None, weight]);
    let messages: Vec<Value> = said
        .zip(weights)
        .map(|((role, content), weight)| match weight {
            Some(weight) => json!({"role": role, "content": content, "weight": weight}),
            None => json!({"role": role, "content": content}),
        })
        .collect();
    json!({"id": "talk", "messages": messages})
}

/// The first training row of a stage over one such row, and the stage's sample rows.
fn first_step(name: &str, talk: Value, stage: &str) -> (Value, Vec<Value>) {
    let folder = scratch(name);
    let (config, run) = (config(&folder), folder.join("run"));
    write_rows(&folder, "talk.jsonl", &[talk]);
    let source = "data.sources={talk: {format: messages, path: talk.jsonl}}";
    let stages = format!("stages=[{{{stage}, steps: 1, batch: {{size: 1}}}}]");
    let mut train = program();
    train.arg("train").arg(&config).arg("--run-dir").arg(&run);
    told(train.args(["--set", source, "--set", &stages])).fine();
    let mut of_steps = rows(&run.join("metrics.jsonl"));
    of_steps.retain(|row| row.get("optim/lr").is_some());
    let samples = run.join("samples/rl/step_000001.jsonl");
    let samples = if samples.exists() {
        rows(&samples)
    } else {
        Vec::new()
    };
    (of_steps.remove(0), samples)
}

#[test]
fn every_answer_of_a_conversation_is_learnt_unless_only_the_last_is_asked_for() {
    let of = |name, turns, stage| {
        let (row, _) = first_step(name, conversation(turns, [None; 2]), stage);
        let number = |key: &str| row[key].as_f64().unwrap();
        (number("sft/loss"), number("progress/tokens"))
    };
    let first = of("turns_first", 1, "name: sft, algorithm: sft");
    let last = of("turns_last", 2, "name: sft, algorithm: sft, turns: last");
    let all = of("turns_all", 2, "name: sft, algorithm: sft");
    assert!(first.1 > 10.0 && last.1 > 10.0);
    assert_eq!(all.1, first.1 + last.1);
    let expected = (first.0 * first.1 + last.0 * last.1) / all.1;
    assert!(
        (all.0 - expected).abs() < 1e-5 * expected,
        "{} and {expected}",
        all.0
    );
    assert!(
        (first.0 - last.0).abs() > 1e-4,
        "the answers are told apart"
    );
}

#[test]
fn an_answer_s_weight_is_its_share_of_the_loss() {
    let of = |name, turns, weights| {
        let stage = "name: sft, algorithm: sft";
        let (row, _) = first_step(name, conversation(turns, weights), stage);
        let number = |key: &str| row[key].as_f64().unwrap();
        (number("sft/loss"), number("progress/tokens"))
    };
    let first = of("weights_first", 1, [Some(0.25), None]);
    let plain = of("weights_plain", 1, [None; 2]);
    assert_eq!(first, plain, "alone an answer has all of the mean");
    let both = of("weights_both", 2, [None; 2]);
    let second = both.1 - first.1;
    let last = (both.0 * both.1 - first.0 * first.1) / second;
    let weighed = of("weights_weighed", 2, [Some(0.25), Some(2.0)]);
    let expected =
        (0.25 * first.0 * first.1 + 2.0 * last * second) / (0.25 * first.1 + 2.0 * second);
    assert!(
        (weighed.0 - expected).abs() < 1e-5 * expected,
        "{weighed:?} and {expected}"
    );
    assert!((weighed.0 - both.0).abs() > 1e-4, "weights change the loss");
    assert_eq!(weighed.1, both.1, "every token counts as learnt from");
}

#[test]
fn reinforcement_asks_with_everything_before_the_last_answer() {
    let stage = "name: rl, algorithm: grpo, rollout: {group_size: 2, max_new_tokens: 8}";
    let (_, samples) = first_step("turns_rl", conversation(2, [None; 2]), stage);
    assert_eq!(samples.len(), 2);
    let prompt = samples[0]["prompt"].as_str().unwrap();
    let turns = [
        "<|im_start|>user\na red circle<|im_end|>",
        "fill=\"red\"",
        "now a green one<|im_end|>",
    ];
    let places: Vec<usize> = turns
        .iter()
        .map(|words| prompt.find(words).unwrap())
        .collect();
    assert!(places.is_sorted(), "{prompt}");
    assert!(prompt.ends_with("<|im_start|>assistant\n"), "{prompt}");
    assert!(
        !prompt.contains("r=\"9\""),
        "the last answer is the reference: {prompt}"
    );
    assert!(
        samples[0]["reference"]["svg"]
            .as_str()
            .unwrap()
            .contains("green")
    );
}
