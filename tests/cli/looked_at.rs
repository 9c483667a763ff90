//! What `check` and a dry run find in a config's rows before a first step would.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::program::{Told, program, rows, scratch, told, write_rows};
use super::tiny;

const FLAT: &str =
    "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 64 64\"><circle r=\"9\"/></svg>";

/// A tiny config over two rows with further keys.
fn over_rows(name: &str) -> PathBuf {
    let folder = scratch(name);
    let config = tiny::config(&folder);
    let row = |n: usize| json!({"prompt": format!("dot {n}"), "svg": FLAT, "style": "flat", "n": n, "mood": null});
    write_rows(&folder, "rows.jsonl", &[row(0), row(1)]);
    config
}

fn with(command: &[&str], config: &Path, sets: &[&str]) -> Told {
    let mut run = program();
    run.arg(command[0]).arg(config).args(&command[1..]);
    run.args([
        "--set",
        "data.sources={rows: {format: jsonl, path: rows.jsonl}}",
    ]);
    run.args(["--set", "stages.rl.eval.prompts=0"]);
    for set in sets {
        run.args(["--set", set]);
    }
    told(&mut run)
}

#[test]
fn keys_that_nothing_uses_are_said_once_and_templates_insert_any() {
    let config = over_rows("looked_keys");
    let check = with(&["check"], &config, &[]).fine();
    let line = "source rows: not used: style, n, mood";
    assert_eq!(check.err.matches(line).count(), 1, "{}", check.err);
    let run = config.with_file_name("run");
    let run = run.to_str().unwrap();
    let template = "tasks.draw.templates=[\"{n} {style} {prompt}\"]";
    let stages = "stages=[{name: rl, algorithm: grpo, steps: 1, batch: {size: 2}, rollout: {group_size: 2, max_new_tokens: 4}}]";
    let sets = [
        "data.sources={rows: {format: jsonl, path: rows.jsonl}}",
        template,
        stages,
    ];
    let mut train = program();
    train.arg("train").arg(&config).args(["--run-dir", run]);
    for set in sets {
        train.args(["--set", set]);
    }
    let done = told(&mut train).fine();
    assert_eq!(
        done.err.matches("source rows: not used: mood").count(),
        1,
        "{}",
        done.err
    );
    let samples = rows(&Path::new(run).join("samples/rl/step_000001.jsonl"));
    let asked: Vec<&str> = samples
        .iter()
        .map(|row| row["prompt"].as_str().unwrap())
        .collect();
    assert!(
        asked.iter().any(|prompt| prompt.contains("1 flat dot 1")),
        "{asked:?}"
    );
}

#[test]
fn a_row_that_a_template_cannot_be_filled_with_is_found_before_the_first_step() {
    let config = over_rows("looked_template");
    let template = "tasks.draw.templates=[\"{prompt}\", \"{stile} {prompt}\"]";
    for command in [&["check"][..], &["train", "--dry-run"]] {
        let refused = with(command, &config, &[template]);
        refused.refused(2, &["rows.jsonl:1", "tasks.draw.templates.1", "`{stile}`"]);
    }
    let template = "tasks.draw.templates=[\"{image} {prompt}\"]";
    with(&["check"], &config, &[template])
        .refused(2, &["rows.jsonl:1", "0 picture(s) for 1 place(s)"]);
    let pictured = "tasks.draw.type=image_to_svg";
    with(&["check"], &config, &[pictured])
        .refused(2, &["rows.jsonl:1", "tasks.draw shows a picture", "images"]);
}

#[test]
fn long_references_and_tasks_without_rows_are_told() {
    let config = over_rows("looked_lengths");
    let sets = [
        "stages.rl.rollout.max_new_tokens=8",
        "tasks.other={completion: {format: svg}, rubric: {rewards: [{type: ssim}]}}",
    ];
    let check = with(&["check"], &config, &sets).fine();
    let plan = with(&["train", "--dry-run"], &config, &sets).fine();
    for said in [&check.err, &plan.out] {
        assert!(
            said.contains("stage rl: 2 of 2 references are longer than"),
            "{said}"
        );
        assert!(said.contains("max_new_tokens (8 tokens)"), "{said}");
        assert!(
            said.contains("tasks.other: no source has a row of it"),
            "{said}"
        );
    }
}
