//! Samplers as processes of their own: they change no completion, and a run bears what becomes of them.

mod engine;
mod faults;
mod pictured;
mod starts;
mod stuck;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cli::program::{Told, program, rows, scratch, told};
use crate::cli::tiny::{self, tiny};

/// The GRPO stage of the small run alone, from its supervised policy.
struct Training {
    folder: PathBuf,
    flags: Vec<String>,
}

impl Training {
    fn new(name: &str) -> Self {
        let folder = scratch(name);
        tiny::config(&folder);
        let stage = "stages=[{name: rl, algorithm: grpo, steps: 3, batch: {size: 4}, optimizer: {learning_rate: 1.0e-3}, \
             eval: {prompts: 2}, checkpoint: {every: 0}, \
             rollout: {group_size: 4, max_new_tokens: 48}}]";
        let model = tiny().run.join("checkpoints/sft/final");
        let model = format!("model={{path: {model:?}}}");
        Self {
            folder,
            flags: [stage, &model].map(str::to_owned).to_vec(),
        }
    }

    /// The same by dedicated samplers.
    fn dedicated(name: &str) -> Self {
        Self::new(name).set("stages.rl.rollout.placement=dedicated")
    }

    fn set(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    fn config(&self) -> PathBuf {
        self.folder.join("tiny.yaml")
    }

    fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// `train` and its flags, behind whatever `command` begins with.
    fn finish(&self, mut command: Command) -> Command {
        command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "60");
        command.arg("train").arg(self.config()).arg("--run-dir");
        command.arg(self.run());
        for flag in &self.flags {
            command.args(["--set", flag]);
        }
        command
    }

    /// `svgrl train` without `svgrl launch`.
    fn alone(&self) -> Command {
        self.finish(program())
    }

    /// `svgrl launch` with these flags.
    fn launch(&self, flags: &str) -> Command {
        let mut command = program();
        command.arg("launch").args(flags.split_whitespace());
        command.arg("--");
        self.finish(command)
    }

    /// `svgrl launch` as a process that goes on.
    fn start(&self, flags: &str) -> std::process::Child {
        let mut command = self.launch(flags);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

/// Everything that a run sampled, and its metrics but for times and what engines say of themselves.
fn outcome(run: &Path) -> (Vec<Value>, Vec<Value>) {
    let mut samples = Vec::new();
    let mut files: Vec<PathBuf> = walk(&run.join("samples"));
    files.retain(|file| file.extension().is_some_and(|ending| ending == "jsonl"));
    files.sort();
    for file in files {
        samples.extend(rows(&file));
    }
    for row in &mut samples {
        if let Some(row) = row.as_object_mut() {
            row.remove("render_ms");
        }
    }
    let mut metrics = rows(&run.join("metrics.jsonl"));
    for row in &mut metrics {
        let row = row.as_object_mut().unwrap();
        row.retain(|key, _| {
            let measured = ["time", "perf/", "engine/", "svg/render_ms"];
            !measured.iter().any(|start| key.starts_with(start)) && !key.contains("render_ms")
        });
    }
    (samples, metrics)
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path().is_dir() {
            true => all.extend(walk(&entry.path())),
            false => all.push(entry.path()),
        }
    }
    all
}

/// Checks that two runs sampled and learnt the same.
#[track_caller]
fn same(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (outcome(ours), outcome(theirs));
    assert_eq!(ours.0.len(), theirs.0.len());
    for (ours, theirs) in ours.0.iter().zip(&theirs.0) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.1, theirs.1);
    assert!(ours.0.len() >= 48 && ours.1.len() >= 4);
}

/// The colocated run that others are compared with; its cache is bounded, because rows are then computed alike whatever
/// stands beside them, as samplers always do.
fn colocated(name: &str, flags: &[&str]) -> PathBuf {
    let mut here = Training::new(name).set("stages.rl.rollout.cache_tokens=1000000");
    for flag in flags {
        here = here.set(flag);
    }
    told(&mut here.alone()).fine();
    here.run()
}

#[test]
fn one_sampler_draws_what_the_learner_draws_bit_for_bit() {
    let here = colocated("samplers_here", &[]);
    let there = Training::dedicated("samplers_one");
    let done = told(&mut there.launch("--learners 1 --samplers 1")).fine();
    same(&there.run(), &here);
    for row in rows(&there.run().join("metrics.jsonl")) {
        if row.get("policy/loss").is_some() {
            let number = |name: &str| row[name].as_f64().unwrap();
            assert!(number("engine/sync_bytes") > 10_000.0 && number("engine/sync_s") > 0.0);
            assert_eq!(number("engine/retried"), 0.0);
            assert!(number("policy/kl_sampler") < 1e-8, "{row}");
        }
    }
    assert!(there.run().join("logs/sampler_0.jsonl").exists());
    assert!(!done.err.contains("lost"), "{}", done.err);
}

#[test]
fn two_learners_and_two_samplers_draw_what_two_ranks_do_and_go_on_from_a_checkpoint() {
    let both = ["stages.rl.checkpoint.every=1", "stages.rl.steps=4"];
    let mut here = Training::new("samplers_two_here").set("stages.rl.rollout.cache_tokens=1000000");
    let mut there =
        Training::dedicated("samplers_two").set("stages.rl.rollout.samplers.in_flight=4");
    for flag in both {
        (here, there) = (here.set(flag), there.set(flag));
    }
    told(&mut here.launch("--nproc-per-node 2")).fine();
    let half = there.flags.clone();
    there = there.set("stages.rl.steps=2");
    told(&mut there.launch("--learners 2 --samplers 2")).fine();
    std::fs::remove_dir_all(there.run().join("checkpoints/rl/final")).unwrap();
    there.flags = half;
    // Another number of samplers changes nothing.
    told(&mut there.launch("--learners 2 --samplers 3")).fine();
    let (ours, theirs) = (outcome(&there.run()), outcome(&here.run()));
    let steps = |all: &[Value]| -> Vec<Value> {
        let mut all = all.to_vec();
        all.retain(|row| row["step"].as_u64().unwrap() != 2 || row.get("policy/loss").is_some());
        all
    };
    let trained = |all: &[Value]| -> Vec<Value> {
        let mut all = all.to_vec();
        all.retain(|row| row.get("advantage").is_some_and(Value::is_number));
        all
    };
    assert_eq!(trained(&ours.0), trained(&theirs.0));
    assert!(trained(&ours.0).len() >= 4 * 16);
    assert_eq!(steps(&ours.1), steps(&theirs.1));
}

#[test]
fn shared_out_weights_go_whole_to_samplers_and_adapters_merged() {
    let sharding = "sharding={stage: 3}";
    let here = Training::new("samplers_sharded_here")
        .set("stages.rl.rollout.cache_tokens=1000000")
        .set(sharding);
    told(&mut here.launch("--nproc-per-node 2")).fine();
    let there = Training::dedicated("samplers_sharded").set(sharding);
    told(&mut there.launch("--learners 2 --samplers 1")).fine();
    same(&there.run(), &here.run());

    let adapters = "stages.rl.lora={rank: 2}";
    let there = Training::dedicated("samplers_lora").set(adapters);
    told(&mut there.launch("--learners 1 --samplers 1")).fine();
    for row in rows(&there.run().join("metrics.jsonl")) {
        if let Some(gap) = row.get("policy/kl_sampler") {
            assert!(gap.as_f64().unwrap() < 1e-8, "{row}");
        }
    }
}

#[test]
fn samplers_ahead_of_the_learner_draw_what_its_own_engine_draws_in_that_order() {
    let ahead = "stages.rl.rollout.max_staleness=1";
    let here = colocated("samplers_ahead_here", &[ahead]);
    let there = Training::dedicated("samplers_ahead").set(ahead);
    told(&mut there.launch("--learners 1 --samplers 2")).fine();
    same(&there.run(), &here);
    let seen: std::collections::BTreeSet<(u64, u64)> = outcome(&there.run())
        .0
        .iter()
        .map(|row| {
            let number = |key: &str| row[key].as_u64().unwrap();
            (number("step"), number("policy_version"))
        })
        .collect();
    // Evaluations before and after; the second and third batch are a step old.
    let expected = [(0, 0), (1, 0), (2, 0), (3, 1), (3, 3)];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
    for partial in ["keep", "abort"] {
        let refused = Training::dedicated("samplers_partial")
            .set(ahead)
            .set(&format!("stages.rl.rollout.partial={partial}"));
        told(&mut refused.launch("--learners 1 --samplers 1"))
            .refused(2, &["rollout.partial", "finish what they write first"]);
    }
}

/// What standard error of an ended `svgrl launch` holds.
fn ended(child: std::process::Child) -> Told {
    let output = child.wait_with_output().unwrap();
    Told {
        code: output.status.code().unwrap_or(-1),
        out: String::new(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
