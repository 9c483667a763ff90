//! A benchmark and another task's rubric at a stage's evaluations: their numbers in the metrics, their answers and pictures as
//! samples, cut back and continued like others; the same alone from a checkpoint.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, copy, program, rows, scratch, told, write, write_rows};
use super::tiny::{self, TOKENIZER};
use crate::support::fixture;

/// A suite of drawings from words, and of choices.
fn suite(folder: &Path) {
    let data = folder.join("Icon");
    copy(&fixture("parity/sarena/Icon"), &data);
    std::fs::remove_dir_all(data.join("edit")).unwrap();
    std::fs::remove_file(data.join("generation/img2svg.jsonl")).unwrap();
    let asked = |id: usize, words: &str| json!({"id": id, "conversations": [{"value": format!("Draw. Instruction: {words}")}]});
    let list = [
        asked(1, "a red circle"),
        asked(2, "a green square"),
        asked(3, "a blue circle"),
        asked(4, "a black square"),
    ];
    write_rows(&data.join("generation"), "text2svg.jsonl", &list);
}

const SUITE: &str = "{name: sarena-icon, task: draw, with: {data: Icon, tokenizer: TOKENIZER, sampling: {max_new_tokens: 48}}}";

fn config(folder: &Path, eval: &str) -> PathBuf {
    suite(folder);
    let path = tiny::config(folder);
    let text = std::fs::read_to_string(&path).unwrap();
    let eval = eval.replace("SUITE", SUITE).replace("TOKENIZER", TOKENIZER);
    let text = text.replace("    eval: {prompts: 2}\n", &format!("    eval: {eval}\n"));
    assert!(text.contains(&eval));
    write(folder, "tiny.yaml", &text)
}

fn train(config: &Path, run: &Path, sets: &[&str]) -> Told {
    let mut train = program();
    train.arg("train").arg(config).arg("--run-dir").arg(run);
    told(train.args(sets.iter().flat_map(|set| ["--set", set])))
}

/// Rows of metrics with the suite's numbers.
fn of_suite(run: &Path) -> Vec<Value> {
    let all = rows(&run.join("metrics.jsonl"));
    let own = all
        .into_iter()
        .filter(|row| row.get("eval/sarena-icon/text2svg/success_rate").is_some());
    own.map(|mut row| {
        row.as_object_mut().unwrap().remove("time");
        row
    })
    .collect()
}

fn pictures(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_suite_is_answered_at_a_stage_s_times_and_continued_like_the_rest() {
    let folder = scratch("suite_in_training");
    let config = config(&folder, "{every: 1, prompts: 2, pictures: 3, suite: SUITE}");
    let run = folder.join("run");
    let best =
        "stages.rl.checkpoint={every: 1, best: {metric: eval/sarena-icon/text2svg/success_rate}}";
    let said = train(&config, &run, &[best]).fine();
    assert!(
        said.err.contains(
            "sarena-icon: text2svg: fid is left out: the config has no encoders.inception"
        ),
        "{}",
        said.err
    );
    let whole = of_suite(&run);
    let steps: Vec<&Value> = whole.iter().map(|row| &row["step"]).collect();
    assert_eq!(steps, [0, 1, 2]);
    let samples =
        |step: u64| rows(&run.join(format!("samples/rl/eval/sarena-icon/step_{step:06}.jsonl")));
    for row in &whole {
        let own = samples(row["step"].as_u64().unwrap());
        assert_eq!(own.len(), 8);
        let drawn: Vec<&Value> = own.iter().filter(|row| row["task"] == "text2svg").collect();
        assert_eq!(drawn.len(), 4);
        let valid = drawn.iter().filter(|row| row["valid"] == true).count();
        assert_eq!(
            row["eval/sarena-icon/text2svg/success_rate"],
            json!(25.0 * valid as f64)
        );
        assert!(row["eval/sarena-icon/understanding/accuracy"].is_number());
    }
    let last = samples(2);
    assert!(
        last.iter().filter(|row| row["valid"] == true).count() > 1,
        "{last:?}"
    );
    // The task's own words are the instruction alone; a choice is asked as it stands.
    assert_eq!(last[0]["prompt_id"], "text2svg/1");
    let prompt = last[0]["prompt"].as_str().unwrap();
    assert!(
        prompt.contains("a red circle") && !prompt.contains("Instruction"),
        "{prompt}"
    );
    assert!(last[0]["metrics"]["success_rate"].is_number());
    assert_eq!(last[0]["reference"]["text"], "a red circle");
    let first = last
        .iter()
        .position(|row| row["valid"] == true && row["task"] == "text2svg")
        .unwrap();
    let png = run.join(format!(
        "samples/rl/eval/sarena-icon/step_000002/{first}.png"
    ));
    assert!(std::fs::read(png).unwrap().starts_with(b"\x89PNG"));
    for set in ["heldout", "heldout_greedy"] {
        let own = run.join(format!("samples/rl/eval/{set}"));
        let kept = pictures(&own.join("step_000002"));
        let drawn = rows(&own.join("step_000002.jsonl"));
        let want: Vec<String> = (0..drawn.len())
            .filter(|at| drawn[*at]["valid"] == true)
            .map(|at| format!("{at}.png"))
            .collect();
        assert_eq!(kept, want, "{set}");
    }
    // The best checkpoint is the suite's.
    let named = std::fs::read(run.join("checkpoints/rl/best.json")).unwrap();
    let named: Value = serde_json::from_slice(&named).unwrap();
    assert_eq!(named["metric"], "eval/sarena-icon/text2svg/success_rate");
    // A run that goes on from its first step has the same rows, answers and pictures again.
    let parts = folder.join("parts");
    copy(&run, &parts);
    for name in ["final", "step_000002"] {
        let _ = std::fs::remove_dir_all(parts.join("checkpoints/rl").join(name));
    }
    std::fs::write(
        parts.join("samples/rl/eval/sarena-icon/step_000002/77.png"),
        "stray",
    )
    .unwrap();
    train(&config, &parts, &[best]).fine();
    assert_eq!(of_suite(&parts), whole);
    let answers = "samples/rl/eval/sarena-icon/step_000002";
    let read = |run: &Path| std::fs::read(run.join(format!("{answers}.jsonl"))).unwrap();
    assert!(read(&parts) == read(&run));
    assert_eq!(pictures(&parts.join(answers)), pictures(&run.join(answers)));
    // The same alone.
    let out = folder.join("alone");
    let mut eval = program();
    eval.arg("eval").arg(&config).arg("--checkpoint");
    eval.arg(run.join("checkpoints/rl/final"))
        .arg("--out")
        .arg(&out);
    let printed = told(&mut eval).fine().out;
    assert!(printed.contains("sarena-icon"), "{printed}");
    let scores = std::fs::read(out.join("scores.json")).unwrap();
    let scores: Value = serde_json::from_slice(&scores).unwrap();
    let own = scores["sets"]["sarena-icon"].as_object().unwrap();
    assert!(own.len() > 4, "{own:?}");
    for (name, value) in own {
        assert_eq!(
            &whole[2][&format!("eval/sarena-icon/{name}")],
            value,
            "{name}"
        );
    }
    let kept = rows(&out.join("items.jsonl"));
    assert_eq!(
        kept.iter()
            .filter(|row| row["set"] == "sarena-icon")
            .count(),
        8
    );
    assert_eq!(
        pictures(&out.join("pictures/sarena-icon")),
        pictures(&run.join(answers))
    );
}

#[test]
fn ranks_share_a_suite_s_questions() {
    let folder = scratch("suite_of_two");
    let config = config(&folder, "{every: 0, suite: SUITE}");
    let (one, two) = (folder.join("one"), folder.join("two"));
    let sets = ["stages.sft.steps=20", "stages.rl.steps=1"];
    train(&config, &one, &sets).fine();
    let mut command = program();
    command
        .args(["launch", "--nproc-per-node", "2", "--", "train"])
        .arg(&config);
    command.arg("--run-dir").arg(&two);
    told(command.args(sets.iter().flat_map(|set| ["--set", set]))).fine();
    let answers = |run: &Path| -> Vec<Value> {
        let rows = rows(&run.join("samples/rl/eval/sarena-icon/step_000000.jsonl"));
        rows.iter().map(|row| row["completion"].clone()).collect()
    };
    // Before the first step of the stage; sums over two ranks round otherwise.
    assert_eq!(answers(&two).len(), 8);
    let alike = answers(&one)
        .iter()
        .zip(answers(&two))
        .filter(|(a, b)| *a == b)
        .count();
    assert!(alike >= 6, "{alike} of 8");
    assert_eq!(of_suite(&two).len(), 2);
}

#[test]
fn another_task_s_rubric_scores_held_out_prompts() {
    let folder = scratch("rubric_in_training");
    let config = config(&folder, "{prompts: 2, rubric: strict}");
    let text = std::fs::read_to_string(&config).unwrap();
    let task = "tasks:\n  strict:\n    completion: {format: svg}\n    render: {size: 32}\n    rubric: {rewards: [{type: mse, weight: 1}]}\n";
    std::fs::write(
        &config,
        text.replace("tasks:\n", task)
            .replace("held_out: 2}", "held_out: 2, task: draw}"),
    )
    .unwrap();
    let run = folder.join("run");
    train(&config, &run, &["stages.sft.steps=20", "stages.rl.steps=1"]).fine();
    let all = rows(&run.join("metrics.jsonl"));
    let held_out: Vec<&Value> = all
        .iter()
        .filter(|row| row.get("eval/heldout/reward/total/mean").is_some())
        .collect();
    assert_eq!(held_out.len(), 2);
    for row in held_out {
        assert!(
            row["eval/heldout/reward/strict/mse/mean"].is_number(),
            "{row}"
        );
        assert!(row.get("eval/heldout/reward/draw/total/mean").is_none());
    }
    let wrong = "stages.rl.eval.rubric=stricter";
    train(&config, &folder.join("other"), &[wrong])
        .refused(2, &["eval.rubric", "`stricter` is not in tasks"]);
}

#[test]
fn a_suite_that_cannot_be_asked_is_refused_by_its_key() {
    let folder = scratch("suite_refused");
    let config = config(&folder, "{suite: SUITE}");
    let run = folder.join("run");
    for (set, parts) in [
        (
            "stages.rl.eval.suite.with.data=nowhere",
            ["stages.1.eval.suite.with.data", "no such folder"],
        ),
        (
            "stages.rl.eval.suite.with.threads=2",
            ["eval.suite.with.threads", "has no use"],
        ),
        (
            "stages.rl.eval.suite.task=drawing",
            ["eval.suite.task", "`drawing` is not in tasks"],
        ),
        (
            "stages.rl.eval.suite.name=sarena",
            ["eval.suite.name", "sarena-icon"],
        ),
    ] {
        train(&config, &run, &[set]).refused(2, &parts);
    }
    let best = "stages.rl.checkpoint.best={metric: eval/sarena-icon/text2svg/dino}";
    let said = train(&config, &run, &["stages.sft.steps=1", best]);
    said.refused(
        2,
        &[
            "writes no `eval/sarena-icon/text2svg/dino`",
            "text2svg/success_rate",
        ],
    );
}
