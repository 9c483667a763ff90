//! Pairs that a stage or a command makes of a policy's completions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::kept::kill;
use super::{config, curve, told_rows, train, two, weights};
use crate::cli::judges::judge;
use crate::cli::program::{copy, program, rows, scratch, told, write, write_rows};
use crate::cli::tiny::drawing;

/// Learnt nearly by heart, then preferred among own drawings.
const STAGES: &str = "  - {name: sft, algorithm: sft, steps: 60, batch: {size: 6}, optimizer: {learning_rate: 1.0e-2}, checkpoint: {every: 0}}
  - {name: dpo, algorithm: dpo, steps: 4, batch: {size: 2}, optimizer: {learning_rate: 1.0e-3}, checkpoint: {every: 2}, pairs: {candidates: 4, prompts: 7, rubric: draw, rollout: {max_new_tokens: 64}}}
";

/// Eight drawings to learn.
fn drawings(folder: &Path) {
    let row = |at: usize| {
        let inner = match at % 2 {
            0 => format!(
                r#"<circle cx="{}" cy="32" r="12" fill="red"/>"#,
                16 + 4 * at
            ),
            _ => format!(
                r#"<rect x="{}" y="20" width="16" height="16"/>"#,
                8 + 4 * at
            ),
        };
        json!({"id": at.to_string(), "prompt": format!("shape {at}"), "svg": drawing(&inner)})
    };
    let all: Vec<Value> = (0..8).map(row).collect();
    write_rows(folder, "drawings.jsonl", &all);
}

fn own(folder: &Path, stages: &str) -> std::path::PathBuf {
    drawings(folder);
    config(
        folder,
        "drawings: {format: jsonl, path: drawings.jsonl}",
        stages,
    )
}

/// Checks a row of a journal against its own candidates.
fn check_row(row: &Value) {
    let candidates = row["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 4, "{row}");
    let total = |at: &Value| {
        candidates[at.as_u64().unwrap() as usize]["total"]
            .as_f64()
            .unwrap()
    };
    let totals: Vec<f64> = candidates
        .iter()
        .filter_map(|one| one["total"].as_f64())
        .collect();
    let Some(why) = row["dropped"].as_str() else {
        let (best, worst) = (total(&row["chosen_index"]), total(&row["rejected_index"]));
        assert_eq!(row["margin"].as_f64().unwrap(), best - worst);
        assert!(
            best > worst && totals.iter().all(|total| worst <= *total),
            "{row}"
        );
        let chosen = &candidates[row["chosen_index"].as_u64().unwrap() as usize];
        assert_eq!(row["chosen"][0]["content"], chosen["text"]);
        assert!(
            chosen["valid"] == true && chosen["finish_reason"] == "stop",
            "{row}"
        );
        return;
    };
    assert!(
        row["chosen"].is_null() && row["rejected"].is_null(),
        "{row}"
    );
    assert!(
        ["tie", "unrenderable", "same_text", "unscored"].contains(&why),
        "{row}"
    );
}

#[test]
fn a_stage_makes_its_own_pairs_and_goes_on_with_a_making_that_was_killed() {
    let folder = scratch("dpo_own");
    let config = own(&folder, STAGES);
    let whole = folder.join("whole");
    let said = told(&mut train(&config, &whole)).fine().err;
    let journal = |run: &Path| run.join("pairs/dpo.jsonl");
    let made = rows(&journal(&whole));
    assert_eq!(made.len(), 7);
    made.iter().for_each(check_row);
    let pairs = made.iter().filter(|row| row["dropped"].is_null()).count();
    assert!(pairs >= 2, "{made:#?}");
    assert!(
        said.contains(&format!("{pairs} pairs of 7 prompts")),
        "{said}"
    );
    assert!(said.contains("of 28 candidates do not render"), "{said}");
    assert_eq!(curve(&whole, "dpo", "dpo/loss").len(), 4);
    // Killed after the first portion of two prompts, then within the steps.
    let run = folder.join("run");
    let lines = |path: &Path| {
        let text = std::fs::read(path).unwrap_or_default();
        text.iter().filter(|byte| **byte == b'\n').count()
    };
    let step_rows = |run: &Path| lines(&run.join("metrics.jsonl"));
    kill(&config, &run, &|| lines(&journal(&run)) >= 2);
    let first = std::fs::read(journal(&run)).unwrap();
    assert!(lines(&journal(&run)) < 7, "killed too late");
    kill(&config, &run, &|| step_rows(&run) >= 62);
    told(&mut train(&config, &run)).fine();
    assert!(std::fs::read(journal(&run)).unwrap().starts_with(&first));
    assert_eq!(rows(&journal(&run)), made);
    assert_eq!(told_rows(&run), told_rows(&whole));
    assert!(weights(&run, "dpo") == weights(&whole, "dpo"));
    // Two ranks share the prompts and make the same of them.
    let both = folder.join("both");
    copy(&whole, &both);
    for made in ["checkpoints/dpo", "pairs", "reference"] {
        std::fs::remove_dir_all(both.join(made)).unwrap();
    }
    told(two(&config, &both).args(["--set", "stages.dpo.steps=1"])).fine();
    let texts = |rows: &[Value]| -> Vec<Value> {
        let candidates = rows.iter().map(|row| row["candidates"].as_array().unwrap());
        candidates
            .flatten()
            .map(|one| one["text"].clone())
            .collect()
    };
    assert_eq!(texts(&rows(&journal(&both))), texts(&made));
    // The dry run tells the stage.
    let plan = told(train(&config, Path::new("unused")).arg("--dry-run"))
        .fine()
        .out;
    assert!(
        plan.contains("pairs made of 7 prompts x 4 candidates scored by the rubric of draw"),
        "{plan}"
    );
}

#[test]
fn pairs_of_a_command_are_data_of_a_stage() {
    let folder = scratch("dpo_command");
    let config = own(&folder, STAGES);
    let run = folder.join("run");
    told(train(&config, &run).args(["--set", "stages.dpo.steps=1"])).fine();
    let model = run.join("checkpoints/sft/final");
    let out = folder.join("made.jsonl");
    let make = |more: &[&str]| {
        let mut command = program();
        command.args(["data", "pairs", "--config"]).arg(&config);
        command.arg("--model").arg(&model).arg("--out").arg(&out);
        told(command.args(more))
    };
    let done = make(&["--prompts", "6", "--temperature", "1.2"]).fine();
    let made = rows(&out);
    assert_eq!(made.len(), 6);
    made.iter().for_each(check_row);
    assert!(done.out.contains("pairs of 6 prompts"), "{}", done.out);
    // Nothing is sampled again; other options are another file's.
    let before = std::fs::read(&out).unwrap();
    make(&["--prompts", "6", "--temperature", "1.2"]).fine();
    assert_eq!(std::fs::read(&out).unwrap(), before);
    make(&["--prompts", "7"]).refused(2, &["made.jsonl", "was not made with"]);
    make(&["--candidates", "1"]).refused(2, &["--candidates: must be >= 2, got 1"]);
    make(&["--rubric", "none"]).refused(2, &["--rubric: `none` is not in tasks"]);
    // Torn after three of its first four rows: they are made again, all the same.
    let text = String::from_utf8(before.clone()).unwrap();
    let three: Vec<&str> = text.split_inclusive('\n').take(3).collect();
    write(&folder, "made.jsonl", &format!("{}{{\"id", three.concat()));
    make(&["--prompts", "6", "--temperature", "1.2"]).fine();
    assert_eq!(std::fs::read(&out).unwrap(), before);
    // The file is data: what has no pair is left out and told.
    let stage = "  - {name: dpo, algorithm: dpo, steps: 2, batch: {size: 2}}\n";
    let reading = super::config(&folder, "made: {format: dpo, path: made.jsonl}", stage);
    let checked = told(program().arg("check").arg(&reading)).fine();
    let dropped = made.iter().filter(|row| !row["dropped"].is_null()).count();
    assert_eq!(
        checked.err.matches("gave no pair").count(),
        dropped,
        "{}",
        checked.err
    );
    assert!(!checked.err.contains("not used"), "{}", checked.err);
    told(&mut train(&reading, &folder.join("read"))).fine();
}

#[test]
fn a_judge_scores_candidates_in_the_place_of_a_rubric() {
    let folder = scratch("dpo_judged");
    let asked = Arc::new(AtomicU64::new(0));
    let endpoint = judge("", asked.clone());
    let judged = format!(
        "judge: {{endpoint: \"{endpoint}\", model: m, with_reference: true, score: {{by: json}}}}"
    );
    let stages = STAGES.replace("rubric: draw", &judged);
    let config = own(&folder, &stages);
    // It finds all of them equally good, but for those that do not render.
    let run = folder.join("run");
    told(&mut train(&config, &run)).fine();
    let made = rows(&run.join("pairs/dpo.jsonl"));
    made.iter().for_each(check_row);
    let margins: Vec<f64> = made
        .iter()
        .filter_map(|row| row["margin"].as_f64())
        .collect();
    assert!(
        !margins.is_empty() && margins.iter().all(|margin| *margin == 0.8),
        "{margins:?}"
    );
    let candidates = made
        .iter()
        .flat_map(|row| row["candidates"].as_array().unwrap());
    let valid: Vec<&Value> = candidates.filter(|one| one["valid"] == true).collect();
    assert!(!valid.is_empty() && valid.iter().all(|one| one["parts"]["judge"] == 0.8));
    assert_eq!(asked.load(Ordering::SeqCst), valid.len() as u64);
    // No score differs by so much.
    let mut command = train(&config, &folder.join("none"));
    let said = told(command.args(["--set", "stages.dpo.pairs.min_margin=2"]));
    assert!(
        said.err.contains("differ by less than min_margin"),
        "{}",
        said.err
    );
    said.refused(2, &["none of 7 prompts gave a pair"]);
}

/// A judge that sees all candidates of a prompt in one question: each gets its own score, one that is left out has none, and
/// an answer that is nonsense costs its prompt alone.
#[test]
fn a_judge_of_all_candidates_is_asked_once_a_prompt() {
    let folder = scratch("dpo_jury");
    let asked = Arc::new(AtomicU64::new(0));
    let counted = asked.clone();
    let address = crate::support::chat_server::chat_server(move |question| {
        let at = counted.fetch_add(1, Ordering::Relaxed);
        let content = question["messages"][0]["content"].as_array().unwrap();
        let words = content[0]["text"].as_str().unwrap();
        assert!(
            words.contains("drawn for") && words.contains("\"image_1_score\": NUMBER"),
            "{words}"
        );
        let pictures = content.len() - 1;
        assert!(
            words.contains(&format!("There are {pictures} pictures")),
            "{words}"
        );
        match at {
            1 => json!("I like none of them."),
            // The first picture is left out.
            2 => json!(
                (2..=pictures)
                    .map(|at| format!("\"image_{at}_score\": {}", 10 * at))
                    .collect::<Vec<_>>()
                    .join("\n")
            ),
            _ => json!(
                (1..=pictures)
                    .map(|at| format!("\"image_{at}_score\": {}", 10 * at))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        }
    });
    let jury = format!(
        "judge_sees: all, judge: {{endpoint: \"{address}\", model: m, retries: 0, connections: 1, range: [1, 100], question: \"Pictures drawn for {{text}}.\"}}"
    );
    let config = own(&folder, &STAGES.replace("rubric: draw", &jury));
    let run = folder.join("run");
    let said = told(&mut train(&config, &run)).fine().err;
    let made = rows(&run.join("pairs/dpo.jsonl"));
    assert_eq!(made.len(), 7);
    made.iter().for_each(check_row);
    let failed: Vec<&Value> = made
        .iter()
        .filter(|row| row["judge_failure"].is_string())
        .collect();
    assert_eq!(failed.len(), 2, "{made:#?}");
    assert!(
        failed[0]["judge_failure"]
            .as_str()
            .unwrap()
            .contains("I like none of them")
    );
    assert!(
        said.contains("of 2 prompts the judge gave some candidates no score"),
        "{said}"
    );
    for row in &made {
        let candidates = row["candidates"].as_array().unwrap();
        let valid: Vec<&Value> = candidates
            .iter()
            .filter(|one| one["valid"] == true)
            .collect();
        for (at, one) in valid.iter().enumerate() {
            match one["total"].as_f64() {
                Some(total) => assert!(
                    (total - (10.0 * (at + 1) as f64 - 1.0) / 99.0).abs() < 1e-12,
                    "{row}"
                ),
                None => assert_eq!(one["unscored"], json!(["judge"]), "{row}"),
            }
        }
        if row["judge_failure"].is_null() {
            assert!(valid.iter().all(|one| one["total"].is_number()), "{row}");
        }
    }
    let judged = made.iter().filter(|row| {
        let candidates = row["candidates"].as_array().unwrap();
        candidates.iter().any(|one| one["valid"] == true)
    });
    assert_eq!(asked.load(Ordering::Relaxed), judged.count() as u64);
    // What has no use is refused.
    let wrong = jury.replace("model: m", "model: m, with_reference: true");
    let config = own(&folder, &STAGES.replace("rubric: draw", &wrong));
    told(&mut train(&config, &folder.join("other"))).refused(
        2,
        &["judge.with_reference: has no use with judge_sees: all"],
    );
}
