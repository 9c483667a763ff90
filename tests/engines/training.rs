//! Whole runs of the program whose completions come from servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use models::read_tensors;
use serde_json::Value;

use super::stand_in::StandIn;
use super::words::{Fault, Speech};
use crate::cli::program::{Told, program, rows, scratch, told};
use crate::cli::tiny::{self, tiny};

/// Trains the GRPO stage of the small run from its supervised policy, sampled by `servers`.
pub(super) fn train(folder: &Path, servers: &[&StandIn], flags: &[&str]) -> Told {
    train_with(program(), folder, servers, flags)
}

/// [`train`] by `command`, which may start several ranks.
pub(super) fn train_with(
    mut command: Command,
    folder: &Path,
    servers: &[&StandIn],
    flags: &[&str],
) -> Told {
    command.args(["train", "-q"]).arg(tiny::config(folder));
    command.arg("--run-dir").arg(folder.join("run"));
    let addresses: Vec<&str> = servers
        .iter()
        .map(|server| server.address.as_str())
        .collect();
    let engine = match servers[0].inside.speech {
        Speech::Sglang => "sglang",
        _ => "vllm",
    };
    let stage = format!(
        "stages=[{{name: rl, algorithm: grpo, steps: 3, batch: {{size: 4}}, optimizer: {{learning_rate: 1.0e-3}}, \
         eval: {{prompts: 2}}, checkpoint: {{every: 0}}, \
         rollout: {{group_size: 4, max_new_tokens: 48, engine: {engine}, endpoints: {addresses:?}}}}}]"
    );
    let model = tiny().run.join("checkpoints/sft/final");
    let model = format!("model={{path: {model:?}}}");
    command.args(["--set", &stage, "--set", &model]).args(flags);
    told(&mut command)
}

pub(super) fn steps(run: &Path) -> Vec<Value> {
    let rows = rows(&run.join("metrics.jsonl")).into_iter();
    rows.filter(|row| row.get("policy/loss").is_some())
        .collect()
}

/// A run whose completions a server draws; its folder.
pub fn served_run(name: &str) -> PathBuf {
    let folder = scratch(name);
    let server = StandIn::start(Speech::Vllm, &tiny().model());
    train(&folder, &[&server], &[]).fine();
    folder.join("run")
}

#[test]
fn a_run_learns_from_completions_of_servers_that_get_its_weights_after_each_step() {
    for speech in [Speech::Vllm, Speech::Sglang] {
        let folder = scratch(&format!("engines_run_{speech:?}"));
        // They begin with other weights than the run.
        let [first, second] = [(); 2].map(|()| StandIn::start(speech, &tiny().model()));
        first.will([Fault::Status(500), Fault::HalfBody]);
        train(&folder, &[&first, &second], &[]).fine();
        let run = folder.join("run");
        let steps = steps(&run);
        assert_eq!(steps.len(), 3);
        for step in &steps {
            let number = |name: &str| step[name].as_f64().unwrap();
            assert!(number("engine/probe_gap") < 1e-4, "{step}");
            assert!(number("policy/kl_sampler") < 1e-8, "{step}");
            assert!(
                number("engine/sync_bytes") > 10_000.0 && number("engine/sync_s") > 0.0,
                "{step}"
            );
        }
        for (step, version) in [(1, 0), (2, 1), (3, 2)] {
            let rows = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")));
            assert_eq!(rows.len(), 16);
            assert!(rows.iter().all(|row| row["policy_version"] == version));
        }
        // The servers end with the run's last weights.
        let last = read_tensors(&run.join("checkpoints/rl/final/model.safetensors")).unwrap();
        for server in [&first, &second] {
            assert!(server.version().ends_with("-v3"), "{}", server.version());
            // How they share the work hangs on their speed: both are probed, and draw some.
            assert!(server.bodies().len() > 4);
            let theirs = server.weights();
            let name = last.keys().next().unwrap();
            assert_eq!(
                theirs[name],
                last[name].abs().sum(tch::Kind::Double).double_value(&[])
            );
        }
        let left = std::fs::read_dir("/dev/shm").unwrap().flatten();
        let own = format!("svgrl-weights-{}", first.told_folder());
        assert!(
            left.into_iter()
                .all(|entry| entry.file_name() != own.as_str()),
            "weights stay in /dev/shm"
        );
    }
}

#[test]
fn two_ranks_share_a_server_and_one_of_them_sends_it_the_weights() {
    let completions = |run: &Path, step: u64| -> Vec<Value> {
        let rows = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl"))).into_iter();
        rows.map(|row| row["token_ids"].clone()).collect()
    };
    let [alone, shared] = [1, 2].map(|ranks| {
        let folder = scratch(&format!("engines_ranks_{ranks}"));
        let server = StandIn::start(Speech::Vllm, &tiny().model());
        let mut command = program();
        if ranks > 1 {
            command.args(["launch", "--nproc-per-node", "2", "--"]);
        }
        train_with(command, &folder, &[&server], &[]).fine();
        let run = folder.join("run");
        assert_eq!(steps(&run).len(), 3);
        let updates = server
            .told()
            .into_iter()
            .filter(|(path, _)| path == "/finish_weight_update");
        assert_eq!(updates.count(), 4, "the beginning's and each step's, once");
        assert!(server.version().ends_with("-v3"));
        run
    });
    // What a server draws is keyed by the draw, not by who asks.
    assert_eq!(completions(&alone, 1), completions(&shared, 1));
    assert_eq!(completions(&shared, 3).len(), 16);
}

#[test]
fn servers_that_vanish_end_the_run_so_that_a_restart_mends_it() {
    let folder = scratch("engines_vanished");
    let server = StandIn::start(Speech::Vllm, &tiny().model());
    server.will(vec![Fault::HangUp; 100_000]);
    let ended = train(
        &folder,
        &[&server],
        &["--set", "stages.rl.rollout.servers.deadline_s=3"],
    );
    ended.refused(75, &[&server.address]);
}

#[test]
fn what_a_config_says_of_servers_must_fit_together() {
    let folder = scratch("engines_config");
    let config = tiny::config(&folder);
    for (set, part) in [
        ("stages.rl.rollout.engine=vllm", "rollout.endpoints"),
        (
            "stages.rl.rollout.endpoints=[http://a:1]",
            "rollout.endpoints",
        ),
        (
            "stages.rl.rollout={engine: vllm, endpoints: [a:1]}",
            "http://127.0.0.1:8000",
        ),
        (
            "stages.rl.rollout={engine: vllm, endpoints: [http://a:1, http://a:1]}",
            "twice",
        ),
        (
            "stages.rl.rollout={engine: vllm, endpoints: [http://a:1], servers: {in_flight: 0}}",
            "servers.in_flight",
        ),
        (
            "stages.rl.rollout={servers: {in_flight: 1}}",
            "rollout.servers",
        ),
        (
            "stages=[{name: rl, algorithm: grpo, rollout: {max_staleness: 1}, advantage: {zero_spread: refill}}]",
            "refill",
        ),
        (
            "stages=[{name: rl, algorithm: grpo, rollout: {max_staleness: 1}, loss: {tis_cap: 2}}]",
            "correction",
        ),
        ("stages.rl.rollout={partial: abort}", "rollout.partial"),
        (
            "stages.rl.rollout={max_staleness: 1, partial: keep}",
            "rollout.partial",
        ),
        (
            "stages.rl.rollout={engine: vllm, endpoints: [http://a:1], partial: keep}",
            "rollout.partial",
        ),
        (
            "stages.rl.rollout={engine: vllm, endpoints: [http://a:1], max_staleness: 1, servers: {sleep: true}}",
            "servers.sleep",
        ),
        (
            "stages.rl.correction={level: sequence, anchor: sampler}",
            "recomputed",
        ),
        ("stages.rl.correction={low: 3}", "correction.low"),
        (
            "stages=[{name: rl, algorithm: grpo, correction: {anchor: sampler}, loss: {old_logprobs: recomputed}}]",
            "contradicts",
        ),
    ] {
        told(program().arg("check").arg(&config).args(["--set", set])).refused(2, &[part]);
    }
}
