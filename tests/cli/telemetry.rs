//! What a run says of itself: metrics under declared names, log files, a trace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use trainer::metrics::keys;

use super::program::{keys as names, program, rows, scratch, svgrl, told};
use super::tiny::{self, tiny};
use crate::engines::training::served_run;
use crate::preferences::short_run;

/// Trains the tiny config in `folder` with `set`, and answers with its run folder.
fn train(folder: &Path, set: &[&str], env: &[(&str, &str)], flags: &[&Path]) -> std::path::PathBuf {
    let config = tiny::config(folder);
    let run = folder.join("run");
    let mut command = program();
    command.arg("train").arg(&config).arg("--run-dir").arg(&run);
    for set in set {
        command.args(["--set", set]);
    }
    command.envs(env.iter().copied()).args(flags);
    told(&mut command).fine();
    run
}

/// A judge that is away, a curriculum by rewards, a reference policy and metrics beside rewards: with the
/// tiny run's and those of pairs, every metric there is.
#[test]
fn every_declared_metric_is_written_and_every_written_one_declared() {
    let judge = "tasks.draw.rubric.rewards=[{type: ssim, window_size: 7}, {type: judge, endpoint: \"http://127.0.0.1:9/v1\", model: m, retries: 0, failure_value: 0.25}]";
    let run = train(
        &scratch("every_metric"),
        &[
            judge,
            "tasks.draw.metrics=[{type: mse}]",
            "tasks.draw.measured=always",
            "stages.sft.steps=40",
            "stages.rl.kl.coefficient=0.1",
            "stages.rl.curriculum={order: {type: observed, buckets: 2}}",
        ],
        &[],
        &[],
    );
    let pairs = short_run("every_metric_of_pairs");
    let served = served_run("every_metric_of_servers");
    let mut written: BTreeMap<&str, u64> = BTreeMap::new();
    let mut held_out = 0;
    for row in rows(&run.join("metrics.jsonl"))
        .iter()
        .chain(&rows(&tiny().run.join("metrics.jsonl")))
        .chain(&rows(&pairs.join("metrics.jsonl")))
        .chain(&rows(&served.join("metrics.jsonl")))
    {
        for name in names(row).iter().skip(3) {
            let metric = keys::declared(name).unwrap_or_else(|| panic!("{name} is not declared"));
            *written.entry(metric.name).or_default() += 1;
            held_out += u64::from(keys::is_evaluation(name));
        }
    }
    assert!(held_out > 0);
    let all = keys::ALL.iter().filter(|metric| *metric != &keys::EVAL);
    let silent: Vec<&str> = all
        .map(|metric| metric.name)
        .filter(|name| !written.contains_key(name))
        .collect();
    assert!(silent.is_empty(), "declared and never written: {silent:?}");
    let reference = svgrl("reference", &[]).fine().out;
    for metric in keys::ALL {
        assert!(reference.contains(&format!("| `{}` |", metric.name)));
    }
}

#[test]
fn a_log_file_holds_the_run_s_events_and_no_filter_takes_a_metric() {
    let short = [
        "stages.sft.steps=2",
        "stages.rl.steps=1",
        "stages.rl.eval.prompts=0",
    ];
    let folder = scratch("logged");
    let run = train(&folder, &short, &[], &[]);
    let events = rows(&run.join("logs/rank_0.jsonl"));
    let steps: Vec<&Value> = events.iter().filter(|event| event["steps"] == 2).collect();
    assert_eq!(steps.len(), 2, "{events:?}");
    for (at, event) in steps.iter().enumerate() {
        assert_eq!(
            (&event["stage"], event["step"].as_u64()),
            (&"sft".into(), Some(at as u64 + 1))
        );
        assert_eq!(event["level"], "INFO");
    }
    let filtered = scratch("unlogged");
    let silent = train(&filtered, &short, &[("RUST_LOG", "off")], &[]);
    assert_eq!(
        std::fs::read_to_string(silent.join("logs/rank_0.jsonl")).unwrap(),
        ""
    );
    let (with, without) = (
        rows(&run.join("metrics.jsonl")),
        rows(&silent.join("metrics.jsonl")),
    );
    assert_eq!(with.len(), without.len());
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(names(with), names(without));
        assert!(without["time/forward_backward_s"].as_f64().unwrap() > 0.0);
    }
    let refused = told(
        program()
            .arg("train")
            .arg(folder.join("tiny.yaml"))
            .arg("--run-dir")
            .arg(folder.join("other"))
            .env("RUST_LOG", "trainer=nonsense"),
    );
    refused.refused(2, &["RUST_LOG", "trainer=nonsense"]);
}

#[test]
fn a_trace_shows_every_kind_of_work_on_one_timeline() {
    let folder = scratch("traced");
    let trace = folder.join("trace.json");
    let run = train(
        &folder,
        &["stages.sft.steps=40", "stages.rl.steps=1"],
        &[],
        &[Path::new("--trace"), &trace],
    );
    let text = std::fs::read_to_string(&trace).unwrap();
    let events: Vec<Value> = serde_json::from_str(&text).unwrap();
    let begun: BTreeSet<&str> = events
        .iter()
        .filter(|event| event["ph"] == "B")
        .filter_map(|event| event["name"].as_str())
        .collect();
    for name in [
        "run",
        "stage",
        "step",
        "checkpoint",
        "generate",
        "prefill",
        "decode",
        "render",
        "score_exposed",
        "forward_backward",
        "micro_batch",
        "optim",
    ] {
        assert!(begun.contains(name), "{name}: {begun:?}");
    }
    let count = |phase: &str| events.iter().filter(|event| event["ph"] == phase).count();
    assert_eq!(count("B"), count("E"), "what begins ends");
    // Phases are what metrics say they are: the same spans, one at least for each row that times them.
    let rows = rows(&run.join("metrics.jsonl"));
    for phase in ["optim", "forward_backward", "generate", "score_exposed"] {
        let key = format!("time/{phase}_s");
        let timed = rows
            .iter()
            .filter(|row| row[&key].as_f64().is_some_and(|s| s > 0.0));
        let steps: BTreeSet<String> = timed
            .map(|row| format!("{} {}", row["stage"], row["step"]))
            .collect();
        let spans = events.iter().filter(|event| event["name"] == phase);
        let begun = spans.filter(|event| event["ph"] == "B").count();
        assert!(!steps.is_empty(), "{phase} is never timed");
        assert!(begun >= steps.len(), "{phase}: {begun} spans, {steps:?}");
    }
}
