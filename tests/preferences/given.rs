//! Pairs that files hold: every layout is learnt from alike, and what is no pair is refused by its line.

use std::path::Path;

use serde_json::{Value, json};

use super::{config, curve, pairs, train};
use crate::cli::program::{numbers, program, rows, scratch, told, write, write_rows};

const STAGE: &str = "  - {name: dpo, algorithm: dpo, steps: 8, batch: {size: 4, micro_tokens: 300}, samples: {every: 4}, optimizer: {learning_rate: 2.0e-3}}\n";

/// Runs a stage on `rows` and gives its losses and margins.
fn learnt(name: &str, file: &str, rows: &[Value], stage: &str) -> [Vec<f64>; 3] {
    let folder = scratch(name);
    match file.ends_with("jsonl") {
        true => write_rows(&folder, file, rows),
        false => write(&folder, file, &json!(rows).to_string()),
    };
    let source = format!("pairs: {{format: dpo, path: {file}}}");
    let config = config(&folder, &source, stage);
    let run = folder.join("run");
    told(&mut train(&config, &run)).fine();
    ["dpo/loss", "dpo/margin", "dpo/accuracy"].map(|key| curve(&run, "dpo", key))
}

fn close(ours: &[f64], theirs: &[f64], most: f64) {
    assert_eq!(ours.len(), theirs.len());
    for (own, other) in ours.iter().zip(theirs) {
        assert!((own - other).abs() <= most, "{ours:?} and {theirs:?}");
    }
}

#[test]
fn a_policy_learns_to_prefer_what_was_chosen() {
    let [loss, margin, accuracy] = learnt("dpo_plain", "pairs.jsonl", &pairs(), STAGE);
    assert_eq!(loss.len(), 8);
    // The policy is its own reference at first.
    assert!((loss[0] - 2f64.ln()).abs() < 1e-5, "{loss:?}");
    assert!(margin[0].abs() < 1e-4 && margin[7] > 0.5, "{margin:?}");
    assert!(loss[7] < 0.5 && accuracy[7] == 1.0, "{loss:?} {accuracy:?}");
    // What each step learnt from is written: the pairs, with the numbers that the metrics are means of.
    let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dpo_plain/run/samples/dpo");
    for step in [1, 4, 8] {
        let learnt = rows(&written.join(format!("step_{step:06}.jsonl")));
        assert_eq!(learnt.len(), 8);
        let mean = |key: &str| {
            learnt
                .iter()
                .map(|row| row[key].as_f64().unwrap())
                .sum::<f64>()
                / 8.0
        };
        close(&[mean("loss")], &[loss[step - 1]], 1e-5);
        close(&[mean("margin")], &[margin[step - 1]], 1e-4);
        for both in learnt.chunks(2) {
            let known = pairs();
            let pair = known
                .iter()
                .find(|pair| pair["chosen"] == both[0]["completion"])
                .unwrap();
            assert_eq!(pair["rejected"], both[1]["completion"]);
            assert_eq!([&both[0]["chosen"], &both[1]["chosen"]], [true, false]);
            assert_eq!(both[0]["prompt_id"], both[1]["prompt_id"]);
            // 0.1 is beta.
            let ratio = |row: &Value| {
                numbers(&row["learner_logprobs"]).iter().sum::<f64>()
                    - row["reference_logp"].as_f64().unwrap()
            };
            let margin = 0.1 * (ratio(&both[0]) - ratio(&both[1]));
            assert!((margin - both[0]["margin"].as_f64().unwrap()).abs() < 1e-4);
        }
    }
    assert_eq!(std::fs::read_dir(&written).unwrap().count(), 3);
    // Another layout, and a list of them: the same pairs, the same numbers.
    let said = |words: &Value, role: &str| json!([{"role": role, "content": words}]);
    let chat: Vec<Value> = pairs()
        .iter()
        .map(|row| json!({"prompt": said(&row["prompt"], "user"), "chosen": said(&row["chosen"], "assistant"), "rejected": said(&row["rejected"], "assistant")}))
        .collect();
    let introsvg: Vec<Value> = pairs()
        .iter()
        .map(|row| json!({"conversations": [{"from": "human", "value": row["prompt"]}], "chosen": {"from": "gpt", "value": row["chosen"]}, "rejected": {"from": "gpt", "value": row["rejected"]}}))
        .collect();
    for (name, file, rows) in [
        ("dpo_chat", "chat.jsonl", chat),
        ("dpo_introsvg", "introsvg.json", introsvg),
    ] {
        assert_eq!(learnt(name, file, &rows, STAGE)[0], loss, "{name}");
    }
    // The frozen policy in the place of what it said, and one micro-batch instead of four.
    let policy = STAGE.replace("steps", "reference: policy, steps");
    let [of_policy, margins, _] = learnt("dpo_policy", "pairs.jsonl", &pairs(), &policy);
    close(&of_policy, &loss, 2e-4);
    close(&margins, &margin, 2e-3);
    let whole = STAGE.replace("300", "100000");
    let [of_one, margins, _] = learnt("dpo_whole", "pairs.jsonl", &pairs(), &whole);
    close(&of_one, &loss, 2e-4);
    close(&margins, &margin, 2e-3);
}

#[test]
fn every_loss_learns() {
    for (name, keys) in [
        ("ipo", "loss: ipo, beta: 0.5"),
        ("hinge", "loss: hinge"),
        ("robust", "loss: robust, label_smoothing: 0.1"),
        ("smooth", "label_smoothing: 0.1, sft_weight: 0.2"),
        ("average", "average_logprobs: true, beta: 2"),
    ] {
        let stage = STAGE.replace("steps", &format!("{keys}, steps"));
        let [loss, margin, _] = learnt(&format!("dpo_{name}"), "pairs.jsonl", &pairs(), &stage);
        assert!(
            loss[7] < loss[0] && margin[7] > margin[0] + 1e-3,
            "{name}: {loss:?} {margin:?}"
        );
    }
}

#[test]
fn what_is_no_pair_is_refused_by_its_line() {
    let folder = scratch("dpo_bad");
    let refused = |rows: &[Value], parts: &[&str]| {
        write_rows(&folder, "pairs.jsonl", rows);
        let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", STAGE);
        told(program().arg("check").arg(&config)).refused(2, parts);
    };
    let with = |key: &str, value: Value| {
        let mut rows = pairs();
        rows[2][key] = value;
        rows
    };
    refused(
        &with("rejected", Value::Null),
        &["pairs.jsonl:3", "`rejected` is missing"],
    );
    refused(
        &with("chosen", json!(" ")),
        &["pairs.jsonl:3", "`chosen` is empty"],
    );
    let same = pairs()[2]["chosen"].clone();
    refused(
        &with("rejected", same),
        &["pairs.jsonl:3", "the same answer"],
    );
    // Rows of another kind have nothing that is rejected.
    let drawn = config(
        &folder,
        "shapes: {format: shapes, count: 8, held_out: 0}",
        STAGE,
    );
    let said = told(train(&drawn, &folder.join("none")).env("RUST_BACKTRACE", "0"));
    said.refused(2, &["no `rejected` answer"]);
}

#[test]
fn options_that_do_nothing_together_are_refused() {
    let folder = scratch("dpo_options");
    write_rows(&folder, "pairs.jsonl", &pairs());
    for (keys, part) in [
        ("beta: 0", "beta: must be > 0"),
        (
            "label_smoothing: 0.5",
            "label_smoothing: must be in [0, 0.5)",
        ),
        (
            "loss: ipo, label_smoothing: 0.1",
            "label_smoothing: only loss",
        ),
        (
            "loss: ipo, average_logprobs: true",
            "takes means in any case",
        ),
        (
            "max_prompt_tokens: 4096",
            "max_prompt_tokens: must be < max_tokens",
        ),
        ("pairs: {candidates: 1}", "pairs.candidates: must be >= 2"),
        (
            "pairs: {rubric: none}",
            "pairs.rubric: `none` is not in tasks",
        ),
        (
            "pairs: {rollout: {group_size: 3}}",
            "`candidates` says how many (5), got 3",
        ),
        ("pairs: {judge: {model: m}}", "pairs.judge"),
    ] {
        let stage = STAGE.replace("steps", &format!("{keys}, steps"));
        let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", &stage);
        told(program().arg("check").arg(&config)).refused(2, &["pairs.yaml", part]);
    }
}

#[test]
fn the_plan_tells_the_stage_and_what_is_cut_off() {
    let folder = scratch("dpo_plan");
    write_rows(&folder, "pairs.jsonl", &pairs());
    let stage = STAGE.replace("steps", "max_tokens: 40, reference: policy, steps");
    let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", &stage);
    let out = told(train(&config, Path::new("unused")).arg("--dry-run"))
        .fine()
        .out;
    for part in [
        "dpo, sigmoid loss, beta 0.1, 8 steps of 4 pairs",
        "memory: reference policy",
        "6 of 6 sequences are longer than max_tokens (40 tokens) and are cut off",
    ] {
        assert!(out.contains(part), "`{part}` is not in: {out}");
    }
}
