//! A stage on pairs that is killed and continued, in every part of it, and one of two ranks.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::{config, curve, pairs, told_rows, train, weights};
use crate::cli::program::{copy, rows, scratch, told, write_rows};

const STAGES: &str = "  - {name: sft, algorithm: sft, steps: 3, batch: {size: 4}}
  - {name: dpo, algorithm: dpo, steps: 9, batch: {size: 4, micro_tokens: 300}, optimizer: {learning_rate: 2.0e-3}, checkpoint: {every: 2}}
";

fn lines(path: &Path) -> usize {
    let text = std::fs::read(path).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count()
}

fn wait(child: &mut Child, moment: &dyn Fn() -> bool) {
    let started = Instant::now();
    while !moment() && child.try_wait().unwrap().is_none() {
        assert!(
            started.elapsed() < Duration::from_secs(120),
            "it never came"
        );
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Starts the run and kills it when `moment` comes.
pub fn kill(config: &Path, run: &Path, moment: &dyn Fn() -> bool) {
    let mut command = train(config, run);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait(&mut child, moment);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_stage_killed_anywhere_and_continued_is_the_whole_stage() {
    let folder = scratch("dpo_killed");
    write_rows(&folder, "pairs.jsonl", &pairs());
    let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", STAGES);
    let whole = folder.join("whole");
    told(&mut train(&config, &whole)).fine();
    let known = |run: &Path| run.join("reference/dpo.jsonl");
    // Six pairs in nine steps: each once, in the first two or three of them.
    let reference = rows(&known(&whole));
    let each: usize = reference[1..]
        .iter()
        .map(|line| line["pairs"].as_array().unwrap().len())
        .sum();
    assert_eq!(each, 6, "{reference:?}");
    let run = folder.join("run");
    // Before anything is known, in the middle of it, within the steps.
    for (of_reference, of_metrics) in [(1, 0), (3, 0), (0, 5), (0, 8)] {
        kill(&config, &run, &|| match of_metrics {
            0 => lines(&known(&run)) >= of_reference,
            some => lines(&run.join("metrics.jsonl")) >= some,
        });
    }
    told(&mut train(&config, &run)).fine();
    assert_eq!(told_rows(&run), told_rows(&whole));
    assert!(weights(&run, "dpo") == weights(&whole, "dpo"));
    assert_eq!(rows(&known(&run)), reference);
    // With more steps than were asked for, what is known of the rows is used again.
    let more = ["--set", "stages.dpo.steps=11"];
    for run in [&run, &whole] {
        told(train(&config, run).args(more)).fine();
    }
    assert_eq!(curve(&run, "dpo", "dpo/loss").len(), 11);
    assert!(weights(&run, "dpo") == weights(&whole, "dpo"));
}

#[test]
fn a_copy_of_a_run_takes_along_what_its_reference_policy_said() {
    let folder = scratch("dpo_forked");
    write_rows(&folder, "pairs.jsonl", &pairs());
    let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", STAGES);
    let whole = folder.join("whole");
    told(&mut train(&config, &whole)).fine();
    let fork = folder.join("fork");
    let from = whole.join("checkpoints/dpo/step_000008");
    told(train(&config, &fork).arg("--resume").arg(&from)).fine();
    assert!(weights(&fork, "dpo") == weights(&whole, "dpo"));
    let known = |run: &Path| std::fs::read(run.join("reference/dpo.jsonl")).unwrap();
    assert_eq!(known(&fork), known(&whole));
}

#[test]
fn two_ranks_learn_what_one_does() {
    let folder = scratch("dpo_ranks");
    write_rows(&folder, "pairs.jsonl", &pairs());
    let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", STAGES);
    let one = folder.join("one");
    told(&mut train(&config, &one)).fine();
    for (stage, reference) in [(0, "cached"), (3, "cached"), (3, "policy")] {
        let two = folder.join(format!("two_{stage}_{reference}"));
        copy(&one, &two);
        std::fs::remove_dir_all(two.join("checkpoints/dpo")).unwrap();
        std::fs::remove_dir_all(two.join("reference")).unwrap();
        let mut command = super::two(&config, &two);
        command.args(["--accept-changes", "stages.dpo.reference"]);
        for set in [
            format!("sharding.stage={stage}"),
            format!("stages.dpo.reference={reference}"),
        ] {
            command.arg("--set").arg(set);
        }
        told(&mut command).fine();
        learnt_the_same(&two, &one);
    }
}

#[track_caller]
fn learnt_the_same(two: &Path, one: &Path) {
    for (key, most) in [
        ("dpo/loss", 1e-5),
        ("dpo/chosen_logp", 1e-3),
        ("dpo/rejected_logp", 1e-3),
        ("optim/grad_norm", 1e-3),
    ] {
        let (ours, theirs) = (curve(two, "dpo", key), curve(one, "dpo", key));
        assert_eq!(ours.len(), 9);
        // Later steps are further from each other: rounding grows with the updates.
        let gap = (ours[0] - theirs[0]).abs();
        assert!(
            gap <= most * theirs[0].abs().max(1.0),
            "{key}: {ours:?} and {theirs:?}"
        );
        assert!(
            (ours[8] - theirs[8]).abs() <= 0.05 * theirs[8].abs().max(1.0),
            "{key}"
        );
    }
}

#[test]
fn a_rank_without_a_pair_of_its_own_takes_part_all_the_same() {
    let folder = scratch("dpo_one_pair");
    write_rows(&folder, "pairs.jsonl", &pairs());
    let config = config(&folder, "pairs: {format: dpo, path: pairs.jsonl}", STAGES);
    let run = folder.join("run");
    let mut command = super::two(&config, &run);
    for set in ["stages.dpo.batch.size=1", "stages.dpo.steps=2"] {
        command.arg("--set").arg(set);
    }
    told(&mut command).fine();
    let loss = curve(&run, "dpo", "dpo/loss");
    assert!((loss[0] - 2f64.ln()).abs() < 1e-4, "{loss:?}");
    assert!(curve(&run, "dpo", "optim/grad_norm")[0] > 0.0);
}
