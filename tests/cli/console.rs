//! What a run says to people: a line about itself, a line a step, warnings once, what it came to, and why it ended.

use super::program::{program, scratch, told};
use super::tiny::{self, tiny};

/// The lines of a run of the tiny config with `set`, and its status.
fn lines(name: &str, set: &[&str]) -> (Vec<String>, i32) {
    let folder = scratch(name);
    let config = tiny::config(&folder);
    let run = folder.join("run");
    let mut command = program();
    command.arg("train").arg(&config).arg("--run-dir").arg(&run);
    for set in set {
        command.args(["--set", set]);
    }
    let done = told(&mut command);
    let log = std::fs::read_to_string(run.join("train.log")).unwrap();
    (log.lines().map(str::to_owned).collect(), done.code)
}

#[test]
fn a_run_says_what_it_is_and_what_it_came_to() {
    let run = &tiny().run;
    let log = std::fs::read_to_string(run.join("train.log")).unwrap();
    let first = log.lines().find(|line| line.contains("policy")).unwrap();
    for part in [
        "1 rank",
        " rows",
        "from the start",
        &run.display().to_string(),
    ] {
        assert!(first.contains(part), "{part} in: {first}");
    }
    let steps: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("s/step") && line.ends_with("left"))
        .collect();
    assert_eq!(steps.len(), 62, "60 of sft, 2 of rl");
    assert!(steps.iter().all(|line| line.chars().count() <= 100));
    assert!(
        steps[60].contains("  reward ") && steps[60].contains("valid"),
        "{}",
        steps[60]
    );
    let last: Vec<&str> = log.lines().rev().take(3).collect();
    assert!(
        last[0].starts_with("next: svgrl generate --model "),
        "{last:?}"
    );
    assert!(
        last[1].starts_with("report: ") && last[1].ends_with("report.html"),
        "{last:?}"
    );
    assert!(
        last[2].starts_with("checkpoints: ") && last[2].ends_with("rl/final"),
        "{last:?}"
    );
    assert!(
        log.lines()
            .any(|line| line.starts_with("held-out reward: rl ")),
        "{log}"
    );
}

#[test]
fn what_a_run_should_be_warned_of_is_said_once() {
    let (lines, code) = lines(
        "console_warnings",
        &[
            "stages.sft.steps=1",
            "stages.sft.eval={prompts: 0}",
            "stages.rl.steps=12",
            "stages.rl.batch.size=1",
            "stages.rl.eval={prompts: 0}",
            "stages.rl.rollout={group_size: 2, max_new_tokens: 3}",
            "stages.rl.checkpoint.every=0",
        ],
    );
    assert_eq!(code, 0, "{lines:#?}");
    let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
    assert_eq!(
        count("references are longer than rollout.max_new_tokens"),
        1,
        "{lines:#?}"
    );
    assert_eq!(
        count("no completion of the last 10 steps was a valid SVG"),
        1,
        "{lines:#?}"
    );
}

#[test]
fn why_a_run_ended_stands_in_its_log() {
    let (lines, code) = lines(
        "console_fatal",
        &[
            "data.sources.drawings.path=gone.jsonl",
            "data.sources.drawings.format=jsonl",
        ],
    );
    assert_eq!(code, 2);
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("error: ") && last.contains("gone.jsonl"),
        "{lines:#?}"
    );
}
