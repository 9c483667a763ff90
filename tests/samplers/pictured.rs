//! Prompts with pictures, sampled a step ahead of the learner: by the learner's own engine, by samplers, by servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::outcome;
use crate::cli::program::{program, rows, scratch, told};
use crate::engines::crossing::Halting;
use crate::engines::stand_in::StandIn;
use crate::engines::words::Speech;

/// Four prompts of four completions a step. An untrained policy draws nothing, so that entropy alone has a gradient.
const STAGE: &str = "stages=[{name: rl, algorithm: grpo, steps: 3, batch: {size: 4}, optimizer: {learning_rate: 1.0e-2}, \
    advantage: {zero_spread: keep}, loss: {entropy: 0.1}, eval: {prompts: 0}, checkpoint: {every: 0}, \
    rollout: {group_size: 4, max_new_tokens: 12, max_staleness: 1}}]";

/// Trains the small policy that sees; the run's folder.
fn train(name: &str, mut command: Command, flags: &[&str]) -> PathBuf {
    let run = scratch(name).join("run");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/tiny_vlm.yaml");
    command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "60");
    command.args(["train", "-q"]).arg(config).arg("--run-dir");
    command.arg(&run).args(["--set", STAGE]);
    for flag in ["threads=1", "device=cpu", "rewards={workers: 1}"]
        .iter()
        .chain(flags)
    {
        command.args(["--set", flag]);
    }
    told(&mut command).fine();
    run
}

fn here(name: &str) -> PathBuf {
    train(name, program(), &["stages.rl.rollout.cache_tokens=1000000"])
}

fn numbers(run: &Path, name: &str) -> Vec<f64> {
    let rows = rows(&run.join("metrics.jsonl")).into_iter();
    let steps = rows.filter(|row| row.get("policy/loss").is_some());
    steps.map(|row| row[name].as_f64().unwrap()).collect()
}

/// How many of the completions are of prompts that show a picture.
fn shown(samples: &[Value]) -> usize {
    let shown = samples.iter().filter(|row| row["task"] != "draw");
    shown.count()
}

#[test]
fn pictures_a_step_ahead_give_the_same_run_each_time_and_by_samplers() {
    let first = here("pictured_here");
    let (samples, metrics) = outcome(&first);
    assert_eq!((samples.len(), metrics.len()), (48, 3));
    assert!(shown(&samples) >= 16, "{}", shown(&samples));
    assert_eq!(numbers(&first, "rollout/staleness/mean"), [0.0, 1.0, 1.0]);
    let gaps = numbers(&first, "policy/kl_mismatch");
    assert!(gaps[0] < 1e-8 && gaps[2] > 1e-7, "{gaps:?}");
    assert_eq!(
        outcome(&here("pictured_again")),
        (samples.clone(), metrics.clone())
    );
    let mut launch = program();
    launch.args(["launch", "--learners", "1", "--samplers", "1", "--"]);
    let there = train(
        "pictured_dedicated",
        launch,
        &["stages.rl.rollout.placement=dedicated"],
    );
    let theirs = outcome(&there);
    assert_eq!(theirs.0, samples);
    assert_eq!(theirs.1, metrics);
}

#[test]
fn completions_of_pictures_go_on_with_the_servers_new_weights() {
    let local = here("pictured_local");
    for (speech, engine, key) in [
        (Speech::Vllm, "vllm", "content_parts"),
        (Speech::Sglang, "sglang", "image_data"),
    ] {
        let server = StandIn::start(speech, &local.join("checkpoints/rl/final"));
        // The first step's are held back until the second's are asked for, which halt in the middle.
        server.inside.crossing.begin(Halting {
            held_back: 0..4,
            halts: 4..8,
            count: 16,
        });
        let by = [
            format!("stages.rl.rollout.engine={engine}"),
            format!("stages.rl.rollout.endpoints=[{}]", server.address),
        ];
        let name = format!("pictured_{engine}");
        let run = train(&name, program(), &by.each_ref().map(String::as_str));
        let asked = server.bodies();
        let pictured = asked.iter().filter(|body| body[key].is_array());
        assert!(pictured.count() >= 16, "no picture was sent");
        assert_eq!(numbers(&run, "rollout/staleness/mean"), [0.0, 1.0, 1.0]);
        assert_eq!(numbers(&run, "engine/retried"), [0.0; 3]);
        assert!(numbers(&run, "policy/kl_mismatch")[0] < 1e-8);
        let mut crossed = 0;
        for step in 1..=3 {
            let rows = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")));
            assert_eq!(rows.len(), 16, "step {step}");
            for row in rows.iter().filter(|row| !row["policy_spans"].is_null()) {
                let end = row["token_ids"].as_array().unwrap().len();
                let spans = json!([{"version": 0, "end": 3}, {"version": 1, "end": end}]);
                assert_eq!((step, &row["policy_spans"]), (2, &spans));
                crossed += usize::from(row["task"] != "draw");
            }
        }
        assert!(crossed > 0, "no completion of a picture met new weights");
    }
}
