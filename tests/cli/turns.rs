//! Conversations of several turns, as stages learn from them and ask them.

use serde_json::{Value, json};

use super::program::{program, rows, scratch, told, write_rows};
use super::tiny::{config, drawing};

/// Two questions with their answers; `turns` of them.
fn conversation(turns: usize) -> Value {
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
    let messages: Vec<Value> = said
        .map(|(role, content)| json!({"role": role, "content": content}))
        .collect();
    json!({"id": "talk", "messages": messages})
}

/// The first training row of a stage over one such row, and the stage's sample rows.
fn first_step(name: &str, turns: usize, stage: &str) -> (Value, Vec<Value>) {
    let folder = scratch(name);
    let (config, run) = (config(&folder), folder.join("run"));
    write_rows(&folder, "talk.jsonl", &[conversation(turns)]);
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
        let (row, _) = first_step(name, turns, stage);
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
fn reinforcement_asks_with_everything_before_the_last_answer() {
    let stage = "name: rl, algorithm: grpo, rollout: {group_size: 2, max_new_tokens: 8}";
    let (_, samples) = first_step("turns_rl", 2, stage);
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
