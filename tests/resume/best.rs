//! The best checkpoint, an early end, and the samples of evaluations.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::program::{Told, keys, program, rows, scratch, told, write};
use crate::cli::tiny;

/// The first stage of the tiny run alone, evaluated after each of its steps, its best checkpoint by `metric`.
fn config(name: &str, best: &str) -> PathBuf {
    let folder = scratch(name);
    let path = tiny::config(&folder);
    let text = std::fs::read_to_string(&path).unwrap();
    let (stage, _) = text.split_once("  - name: rl").unwrap();
    let eval = format!(
        "eval: {{prompts: 2, samples: 3, every: 1, max_new_tokens: 24}}\n    checkpoint: {{every: 1, keep_last: 1, best: {{{best}}}}}"
    );
    let stage = stage
        .replace("steps: 60", "steps: 6")
        .replace("checkpoint: {every: 0}", &eval);
    assert!(stage.contains("best: {metric"));
    write(&folder, "tiny.yaml", &stage)
}

fn train(config: &Path, run: &str, sets: &[&str]) -> Told {
    let mut train = program();
    train.arg("train").arg(config);
    train.arg("--run-dir").arg(config.with_file_name(run));
    told(train.args(sets.iter().flat_map(|set| ["--set", set])))
}

/// What the run's file of the best checkpoint says, whose folder is there.
fn named(config: &Path, run: &str) -> Value {
    let folder = config.with_file_name(run).join("checkpoints/sft");
    let best = std::fs::read(folder.join("best.json")).unwrap();
    let best: Value = serde_json::from_slice(&best).unwrap();
    let checkpoint = folder.join(best["checkpoint"].as_str().unwrap());
    let state = std::fs::read(checkpoint.join("trainer/state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["step"], best["step"]);
    best
}

/// Step and value of the first of the largest values of `metric` behind the first step.
fn largest(config: &Path, run: &str, metric: &str) -> (u64, f64) {
    let all = rows(&config.with_file_name(run).join("metrics.jsonl"));
    let of = |row: &Value| Some((row["step"].as_u64()?, row.get(metric)?.as_f64()?));
    let mut best = (0, f64::NEG_INFINITY);
    for (step, value) in all.iter().filter_map(of).filter(|(step, _)| *step > 0) {
        if value > best.1 {
            best = (step, value);
        }
    }
    best
}

fn steps_kept(config: &Path, run: &str) -> Vec<String> {
    let folder = config.with_file_name(run).join("checkpoints/sft");
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with("step_"))
        .collect();
    names.sort();
    names
}

#[test]
fn the_best_checkpoint_is_kept_and_named_interrupted_or_not() {
    let metric = "eval/heldout/completion/tokens/mean";
    let config = config("best_kept", &format!("metric: {metric}"));
    train(&config, "whole", &[]).fine();
    let (step, value) = largest(&config, "whole", metric);
    let best = named(&config, "whole");
    assert_eq!(
        (&best["step"], &best["value"]),
        (&step.into(), &value.into())
    );
    assert_eq!(
        (&best["metric"], &best["mode"]),
        (&metric.into(), &"max".into())
    );
    // `keep_last` counts the newest; the best one is kept besides.
    let kept = steps_kept(&config, "whole");
    assert!(kept.len() <= 2, "{kept:?}");
    for steps in 1..6 {
        let set = format!("stages.sft.steps={steps}");
        train(&config, "parts", &[&set]).fine();
        let (step, _) = largest(&config, "parts", metric);
        assert_eq!(named(&config, "parts")["step"], step, "after {steps} steps");
    }
    train(&config, "parts", &[]).fine();
    assert_eq!(named(&config, "parts")["step"], best["step"]);
    assert_eq!(named(&config, "parts")["value"], best["value"]);
}

#[test]
fn of_equals_the_earlier_stays_and_a_stage_without_improvement_ends() {
    let metric = "metric: eval/heldout/svg/deadline_hits, mode: min";
    let config = config("best_ends", metric);
    // The stage's end is its best, and stays so when the stage goes on.
    train(&config, "run", &["stages.sft.steps=1"]).fine();
    assert_eq!(named(&config, "run")["checkpoint"], "final");
    train(&config, "run", &["stages.sft.steps=2"]).fine();
    assert_eq!(named(&config, "run")["checkpoint"], "step_000001");
    let two = "stages.sft.eval.stop_after=2";
    let said = train(&config, "run", &[two]).fine().err;
    assert!(
        said.contains(
            "sft ends after step 3: 2 evaluations brought no better eval/heldout/svg/deadline_hits"
        ),
        "{said}"
    );
    let state = config.with_file_name("run/checkpoints/sft/final/trainer/state.json");
    let state: Value = serde_json::from_slice(&std::fs::read(state).unwrap()).unwrap();
    assert_eq!(
        (&state["step"], &state["stopped_after"]),
        (&3.into(), &2.into())
    );
    assert_eq!(named(&config, "run")["checkpoint"], "step_000001");
    assert!(
        train(&config, "run", &[two])
            .fine()
            .err
            .contains("this run is finished")
    );
    // The same without an interruption.
    train(&config, "whole", &[two]).fine();
    assert_eq!(trained(&config, "whole"), 3);
    // More patience, and it goes on.
    train(&config, "run", &["stages.sft.eval.stop_after=4"]).fine();
    assert_eq!(trained(&config, "run"), 5);
    assert_eq!(named(&config, "run")["step"], 1);
}

fn trained(config: &Path, run: &str) -> u64 {
    let all = rows(&config.with_file_name(run).join("metrics.jsonl"));
    let trained = all.iter().filter(|row| row.get("optim/lr").is_some());
    trained
        .filter_map(|row| row["step"].as_u64())
        .max()
        .unwrap()
}

#[test]
fn names_that_no_evaluation_writes_are_refused_at_the_start() {
    let config = config("best_names", "metric: eval/heldout/reward/totl/mean");
    let check = |sets: &[&str], parts: &[&str]| {
        let mut check = program();
        check.arg("check").arg(&config);
        told(check.args(sets.iter().flat_map(|set| ["--set", set]))).refused(2, parts);
    };
    let key = "stages.0.checkpoint.best.metric: ";
    check(
        &[],
        &[key, "did you mean `eval/heldout/reward/total/mean`?"],
    );
    let best = |name: &str| format!("stages.sft.checkpoint.best.metric={name}");
    check(&[&best("eval/heldout_swapped/reward/total/mean")], &[key]);
    check(&[&best("reward/total/mean")], &[key]);
    let good = best("eval/heldout_greedy/reward/draw/ssim/mean");
    check(
        &[&good, "stages.sft.eval.prompts=0"],
        &["stages.0.checkpoint.best: ", "eval.prompts is 0"],
    );
    check(
        &[&good, "data.sources.drawings.held_out=0"],
        &["checkpoint.best: ", "held_out"],
    );
    check(
        &[
            "stages.sft.checkpoint.best=null",
            "stages.sft.eval.stop_after=1",
        ],
        &["stages.0.eval.stop_after: ", "checkpoint.best"],
    );
    let mut fine = program();
    fine.arg("check").arg(&config).args(["--set", &good]);
    told(&mut fine).fine();
}

#[test]
fn completions_of_evaluations_are_kept_and_cut_back_with_the_run() {
    let config = config(
        "best_samples",
        "metric: eval/heldout/completion/tokens/mean",
    );
    train(&config, "run", &["stages.sft.steps=3"]).fine();
    let run = config.with_file_name("run");
    let samples = run.join("samples/sft/eval");
    let of = |set: &str, step: u64| rows(&samples.join(set).join(format!("step_{step:06}.jsonl")));
    for step in 0..=3 {
        assert_eq!(of("heldout", step).len(), 6);
        assert_eq!(of("heldout_greedy", step).len(), 2);
    }
    let row = &of("heldout", 3)[0];
    let training = rows(&tiny::tiny().run.join("samples/rl/step_000001.jsonl"));
    // Metrics of the task are measured in evaluations alone.
    let own: Vec<&str> = keys(row)
        .into_iter()
        .filter(|key| *key != "metrics")
        .collect();
    assert_eq!(own, keys(&training[0]));
    assert_eq!((&row["stage"], &row["step"]), (&"sft".into(), &3.into()));
    let mean = of("heldout", 3)
        .iter()
        .map(|row| row["token_ids"].as_array().unwrap().len() as f64)
        .sum::<f64>()
        / 6.0;
    let metrics = rows(&run.join("metrics.jsonl"));
    let written = metrics
        .iter()
        .rfind(|row| row.get("eval/heldout/completion/tokens/mean").is_some())
        .unwrap();
    assert_eq!(written["eval/heldout/completion/tokens/mean"], mean);
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains(r#""set":"heldout_greedy","step":3"#));
    // What lies behind the checkpoint that is continued goes.
    let later = samples.join("heldout/step_000009.jsonl");
    std::fs::copy(samples.join("heldout/step_000003.jsonl"), &later).unwrap();
    train(&config, "run", &["stages.sft.steps=4"]).fine();
    assert!(!later.exists() && samples.join("heldout/step_000004.jsonl").exists());
}

#[test]
fn ranks_end_a_stage_and_name_its_best_as_one_does() {
    let config = config(
        "best_ranks",
        "metric: eval/heldout/svg/deadline_hits, mode: min",
    );
    let stop = "stages.sft.eval.stop_after=2";
    train(&config, "one", &[stop]).fine();
    let mut two = program();
    two.args(["launch", "--nproc-per-node", "2", "--", "train"])
        .arg(&config);
    two.arg("--run-dir")
        .arg(config.with_file_name("two"))
        .args(["--set", stop]);
    told(&mut two).fine();
    assert_eq!((trained(&config, "one"), trained(&config, "two")), (3, 3));
    assert_eq!(named(&config, "one"), named(&config, "two"));
    assert_eq!(steps_kept(&config, "one"), steps_kept(&config, "two"));
}
