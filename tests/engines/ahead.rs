//! Sampling ahead of the learner: the next batch is asked for before this one is learnt from, and new weights meet it on its
//! way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rollout::engine::PartialCompletions;
use serde_json::Value;

use super::crossing::{Halting, Happening};
use super::stand_in::StandIn;
use super::training::{steps, train, train_with};
use super::words::{Fault, Speech};
use super::{adapters, quick, said, short, small, submission};
use crate::cli::program::{program, rows, scratch};
use crate::cli::tiny::tiny;

/// One step ahead, nothing evaluated: every completion is one of a step.
const AHEAD: [&str; 4] = [
    "--set",
    "stages.rl.rollout.max_staleness=1",
    "--set",
    "stages.rl.eval.prompts=0",
];

/// Whose words, and what is said of how weights get there.
const WAYS: [(Speech, &[&str]); 3] = [
    (Speech::Vllm, &[]),
    (Speech::Sglang, &[]),
    (
        Speech::Sglang,
        &["--set", "stages.rl.rollout.servers.update=group"],
    ),
];

/// Four draws of four completions a step: the first step's are held back until the second's are asked for, which halt.
fn meet(server: &StandIn) {
    server.inside.crossing.begin(Halting {
        held_back: 0..4,
        halts: 4..8,
        count: 16,
    });
}

fn samples(run: &Path, step: u64) -> Vec<Value> {
    rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")))
}

fn numbers(run: &Path, name: &str) -> Vec<f64> {
    let steps = steps(run);
    steps
        .iter()
        .map(|row| row[name].as_f64().unwrap())
        .collect()
}

/// Where the second batch was first asked for, and where the update after the first step began.
fn order(server: &StandIn) -> (usize, usize) {
    let happened = server.inside.crossing.happened();
    let asked = happened
        .iter()
        .position(|it| matches!(it, Happening::Asked(draw) if (4..8).contains(draw)));
    let pauses = happened
        .iter()
        .enumerate()
        .filter(|(_, it)| matches!(it, Happening::Told(path) if path.starts_with("/pause")));
    let update = pauses.map(|(at, _)| at).nth(1);
    (asked.unwrap(), update.unwrap())
}

#[test]
fn completions_that_are_kept_go_on_with_the_new_weights_and_say_so() {
    for (place, (speech, update)) in WAYS.iter().enumerate() {
        let folder = scratch(&format!("ahead_kept_{place}"));
        let server = StandIn::start(*speech, &tiny().model());
        meet(&server);
        train(&folder, &[&server], &[&AHEAD[..], update].concat()).fine();
        let run = folder.join("run");
        let (asked, update) = order(&server);
        assert!(asked < update, "the second batch waited for the first");
        assert_eq!(numbers(&run, "rollout/staleness/mean"), [0.0, 1.0, 1.0]);
        assert_eq!(numbers(&run, "engine/queue"), [1.0, 1.0, 0.0]);
        assert_eq!(numbers(&run, "engine/dropped"), [0.0; 3]);
        assert_eq!(numbers(&run, "engine/retried"), [0.0; 3]);
        for (step, version) in [(1, 0), (2, 0), (3, 1)] {
            let rows = samples(&run, step);
            assert_eq!(rows.len(), 16);
            for row in &rows {
                assert_eq!(row["policy_version"], version, "step {step}");
                let tokens = row["token_ids"].as_array().unwrap().len();
                let spans = &row["policy_spans"];
                match (step, tokens > 3) {
                    (2, true) => assert_eq!(
                        *spans,
                        serde_json::json!([{"version": 0, "end": 3}, {"version": 1, "end": tokens}])
                    ),
                    _ => assert!(spans.is_null(), "step {step}: {spans}"),
                }
            }
        }
        // The last batch is the policy's of a step before, all of it.
        let gaps = numbers(&run, "policy/kl_mismatch");
        assert!(gaps[0] < 1e-8 && gaps[2] > 1e-6, "{gaps:?}");
        assert!(server.version().ends_with("-v3"));
    }
}

#[test]
fn completions_that_are_dropped_are_asked_for_again_with_the_same_keys() {
    for (place, (speech, update)) in WAYS.iter().enumerate() {
        let folder = scratch(&format!("ahead_dropped_{place}"));
        let server = StandIn::start(*speech, &tiny().model());
        meet(&server);
        let abort = ["--set", "stages.rl.rollout.partial=abort"];
        train(&folder, &[&server], &[&AHEAD[..], update, &abort].concat()).fine();
        let run = folder.join("run");
        let (asked, update) = order(&server);
        assert!(asked < update, "the second batch waited for the first");
        let key = match speech {
            Speech::Sglang => "rid",
            _ => "request_id",
        };
        let bodies = server.bodies();
        let mut twice = 0;
        for (at, body) in bodies.iter().enumerate() {
            let again = bodies[at + 1..].iter().find(|it| it[key] == body[key]);
            if let Some(again) = again.filter(|_| !body[key].as_str().unwrap().contains("probe")) {
                assert_eq!(again, body, "the same draw is asked for otherwise");
                twice += 1;
            }
        }
        assert!(twice > 8, "{twice}");
        let dropped = numbers(&run, "engine/dropped");
        assert_eq!(dropped.last(), Some(&f64::from(twice)));
        assert_eq!(numbers(&run, "engine/retried"), [0.0; 3]);
        let rows = samples(&run, 2);
        assert_eq!(rows.len(), 16);
        assert!(rows.iter().all(|row| row["policy_spans"].is_null()));
        let newer = rows.iter().filter(|row| row["policy_version"] == 1);
        assert_eq!(newer.count(), twice as usize);
    }
}

#[test]
fn two_ranks_sample_ahead_from_a_server_that_one_of_them_updates() {
    let folder = scratch("ahead_ranks");
    let server = StandIn::start(Speech::Vllm, &tiny().model());
    meet(&server);
    let mut command = program();
    command.args(["launch", "--nproc-per-node", "2", "--"]);
    train_with(command, &folder, &[&server], &AHEAD).fine();
    let run = folder.join("run");
    assert_eq!(numbers(&run, "rollout/staleness/mean"), [0.0, 1.0, 1.0]);
    let crossed = samples(&run, 2);
    let crossed = crossed.iter().filter(|row| row["policy_spans"].is_array());
    assert!(crossed.count() > 0);
    assert_eq!(numbers(&run, "engine/retried"), [0.0; 3]);
}

#[test]
fn what_was_under_way_at_a_checkpoint_is_asked_for_again() {
    let folder = scratch("ahead_resumed");
    let server = StandIn::start(Speech::Vllm, &tiny().model());
    let often = ["--set", "stages.rl.checkpoint={every: 1, keep_last: 9}"];
    meet(&server);
    train(&folder, &[&server], &[&AHEAD[..], &often].concat()).fine();
    let run = folder.join("run");
    let ids = |step| -> Vec<Value> {
        let rows = samples(&run, step).into_iter();
        rows.map(|row| row["prompt_id"].clone()).collect()
    };
    let before = [1, 2, 3].map(ids);
    let first = run.join("checkpoints/rl/step_000001");
    let stored = std::fs::read_to_string(first.join("trainer/ahead.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["batches"][0]["step"], 2);
    let from = first.to_str().unwrap();
    let server = StandIn::start(Speech::Vllm, &tiny().model());
    let flags = [&AHEAD[..], &often, &["--resume", from]].concat();
    train(&folder, &[&server], &flags).fine();
    let happened = server.inside.crossing.happened();
    let again = |it: &&Happening| matches!(it, Happening::Asked(draw) if (4..8).contains(draw));
    let known = stored["batches"][0]["groups"].as_object().unwrap().len();
    assert_eq!(happened.iter().filter(again).count(), 4 * (4 - known));
    assert_eq!([1, 2, 3].map(ids), before, "rows were drawn twice, or lost");
    assert_eq!(steps(&run).len(), 3);
}

#[test]
fn a_run_whose_sampler_is_another_policy_ends_with_what_to_do() {
    let folder = scratch("ahead_mismatch");
    let server = StandIn::start(Speech::Vllm, &tiny().model());
    meet(&server);
    // Rounding alone is 1e-9 at most; a batch that is one update old is 6e-4 off, but for the second, whose update is
    // the first one and small.
    let flags = ["--set", "stages.rl.correction={max_kl_mismatch: 1.0e-5}"];
    let ended = train(&folder, &[&server], &[&AHEAD[..], &flags].concat());
    ended.refused(
        1,
        &["step 3 of `rl`", "policy/kl_mismatch", "max_staleness"],
    );
    assert_eq!(steps(&folder.join("run")).len(), 2);
}

#[test]
fn several_submissions_are_under_way_and_are_told_apart_by_their_groups() {
    let policy = small("ahead_several");
    let server = policy.server(Speech::Vllm);
    let mut engine = policy.open_ahead(&server, PartialCompletions::Keep);
    engine.sync(policy.model.as_ref(), 1).unwrap();
    server.slow_down(Duration::from_millis(20));
    server.will([Fault::Status(500), Fault::HalfBody]);
    let first = policy.requests(4);
    let mut second = policy.requests(4);
    for (place, request) in second.iter_mut().enumerate() {
        request.group = first.len() + place;
        request.draw += 100;
    }
    engine.submit(submission(first.clone(), short())).unwrap();
    engine.submit(submission(second.clone(), short())).unwrap();
    let mut drawn = BTreeMap::new();
    while let Some(finished) = engine.next().unwrap() {
        // What has come meanwhile is there without waiting.
        for finished in [Some(finished), engine.poll().unwrap()]
            .into_iter()
            .flatten()
        {
            assert_eq!(finished.completion.version(), 1);
            let place = (finished.group, finished.index);
            assert!(drawn.insert(place, finished.completion).is_none());
        }
    }
    assert!(engine.poll().unwrap().is_none());
    policy.check(&[first, second].concat(), &drawn, 1.0);
    // One that does not sample ahead takes them one after the other.
    let mut engine = policy.synced(&[&server], quick());
    engine
        .submit(submission(policy.requests(1), short()))
        .unwrap();
    let told = said(engine.submit(submission(policy.requests(1), short())));
    assert!(told.contains("still under way"), "{told}");
}

#[test]
fn adapters_stay_as_long_as_completions_may_be_asked_of_them() {
    let base = small("ahead_adapters");
    let policy = super::Policy {
        model: adapters::adapted(&base),
        tokenizer: base.tokenizer.clone(),
        folder: base.folder.clone(),
    };
    let server = policy.server(Speech::Vllm);
    let mut engine = policy.open_ahead(&server, PartialCompletions::Keep);
    for version in 0..4 {
        adapters::learn(&policy.model, 0.05 * f64::from(version));
        engine.sync(policy.model.as_ref(), version as u64).unwrap();
    }
    let forgotten: Vec<String> = server
        .told()
        .into_iter()
        .filter(|(path, _)| path == "/v1/unload_lora_adapter")
        .map(|(_, body)| body["lora_name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(forgotten.len(), 1, "{forgotten:?}");
    assert!(forgotten[0].ends_with("-v0"), "{forgotten:?}");
    let asked = policy.requests(2);
    engine.submit(submission(asked.clone(), short())).unwrap();
    let mut drawn = BTreeMap::new();
    while let Some(finished) = engine.next().unwrap() {
        assert_eq!(finished.completion.version(), 3);
        drawn.insert((finished.group, finished.index), finished.completion);
    }
    policy.check(&asked, &drawn, 1.0);
}
