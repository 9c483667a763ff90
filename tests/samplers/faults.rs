//! Samplers that die or stop: nothing is lost, nothing counted twice, and the run learns the same.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Training, colocated, ended, same};
use crate::cli::program::rows;

/// How long anything may take before a test is given up; nothing is measured by it.
const LONG: Duration = Duration::from_secs(120);

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that `launcher` started whose environment has `entry`.
fn children(launcher: &Child, entry: &str) -> Vec<String> {
    let list = format!("/proc/{0}/task/{0}/children", launcher.id());
    let list = std::fs::read_to_string(list).unwrap_or_default();
    let has = |pid: &&str| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|own| own == entry.as_bytes())
    };
    list.split_whitespace()
        .filter(has)
        .map(str::to_owned)
        .collect()
}

fn signal(pid: &str, name: &str) {
    // One that has ended needs none.
    let _ = Command::new("kill").args([name, pid]).status();
}

fn steps(run: &Path) -> usize {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("\"policy/loss\""))
        .count()
}

/// Waits until `count` steps are written.
fn after_steps(run: &Path, count: usize) {
    wait_for("no step was made", || (steps(run) >= count).then_some(()));
}

const STEPS: &str = "stages.rl.steps=12";

#[test]
fn a_killed_sampler_s_prompts_go_to_the_other_and_another_takes_its_place() {
    let here = colocated("samplers_killed_here", &[STEPS]);
    let there = Training::dedicated("samplers_killed").set(STEPS);
    let launcher = there.start("--learners 1 --samplers 2");
    after_steps(&there.run(), 2);
    let victim = wait_for("no sampler 1", || {
        children(&launcher, "SVGRL_SAMPLER=1").pop()
    });
    signal(&victim, "-KILL");
    // And its successor, at whatever it is doing.
    let next = wait_for("no successor", || {
        let all = children(&launcher, "SVGRL_SAMPLER=1");
        all.into_iter().find(|pid| *pid != victim)
    });
    std::thread::sleep(Duration::from_millis(300));
    signal(&next, "-KILL");
    let done = ended(launcher).fine();
    assert!(done.err.contains("sampler 1 (on "), "{}", done.err);
    assert!(
        done.err.contains(&format!("process {victim}")),
        "{}",
        done.err
    );
    assert!(
        done.err.contains("launch: sampler 1 of 2 ended with"),
        "{}",
        done.err
    );
    same(&there.run(), &here);
}

#[test]
fn a_sampler_whose_memory_is_full_while_it_draws_says_so_and_is_replaced() {
    let here = colocated("samplers_full_here", &[STEPS]);
    let there = Training::dedicated("samplers_full").set(STEPS);
    let mut command = there.launch("--learners 1 --samplers 2");
    // The system is asked for every tensor: what a limit leaves is then nothing.
    command.env("MALLOC_MMAP_THRESHOLD_", "2048");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let launcher = command.spawn().unwrap();
    after_steps(&there.run(), 2);
    let victim = wait_for("no sampler 1", || {
        children(&launcher, "SVGRL_SAMPLER=1").pop()
    });
    let none = Rlimit {
        current: Some(1 << 20),
        maximum: Some(1 << 20),
    };
    prlimit(Pid::from_raw(victim.parse().unwrap()), Resource::As, none).unwrap();
    let done = ended(launcher).fine();
    for part in [
        "sampler 1 (on ",
        &format!("process {victim}"),
        "memory",
        "launch: sampler 1 of 2 ended with exit status: 1",
    ] {
        assert!(done.err.contains(part), "`{part}` is not in: {}", done.err);
    }
    same(&there.run(), &here);
}

#[test]
fn a_stopped_sampler_is_given_up_and_killed_by_who_started_it() {
    let here = colocated("samplers_stopped_here", &[STEPS]);
    let there = Training::dedicated("samplers_stopped")
        .set(STEPS)
        .set("stages.rl.rollout.samplers.silence_s=2");
    let launcher = there.start("--learners 1 --samplers 2 --grace-s 3");
    after_steps(&there.run(), 2);
    let victim = wait_for("no sampler 0", || {
        children(&launcher, "SVGRL_SAMPLER=0").pop()
    });
    signal(&victim, "-STOP");
    let done = ended(launcher).fine();
    assert!(
        done.err.contains("no sign of life within 2 s"),
        "{}",
        done.err
    );
    assert!(
        done.err.contains(&format!("process {victim}")),
        "{}",
        done.err
    );
    same(&there.run(), &here);
}

#[test]
fn the_only_sampler_is_replaced_within_a_step() {
    let here = colocated("samplers_only_here", &[STEPS]);
    let there = Training::dedicated("samplers_only").set(STEPS);
    let launcher = there.start("--learners 2 --samplers 1 --sampler-restarts 9");
    // At several places within a step, where one learner may have all that it waits for and the other not yet.
    for (count, later) in [(1, 0), (2, 8), (3, 12), (4, 16), (5, 20), (7, 24), (9, 32)] {
        after_steps(&there.run(), count);
        std::thread::sleep(Duration::from_millis(later));
        if let Some(victim) = children(&launcher, "SVGRL_SAMPLER=0").pop() {
            signal(&victim, "-KILL");
        }
    }
    let done = ended(launcher).fine();
    assert!(done.err.contains("sampler 0 (on "), "{}", done.err);
    // Two ranks sum gradients in another order than one: what is sampled is what is compared, as far as that is the same.
    let sampled = |run: &Path| {
        let rows = rows(&run.join("samples/rl/step_000001.jsonl"));
        rows.into_iter()
            .map(|row| row["token_ids"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(sampled(&there.run()), sampled(&here));
    assert_eq!(steps(&there.run()), 12);
    for step in 1..=12 {
        let rows = rows(&there.run().join(format!("samples/rl/step_{step:06}.jsonl")));
        assert_eq!(rows.len(), 16, "step {step}");
    }
}

#[test]
fn when_all_samplers_are_gone_the_run_ends_and_names_them() {
    let there = Training::dedicated("samplers_gone")
        .set("stages.rl.steps=100000")
        .set("stages.rl.rollout.samplers={deadline_s: 2}");
    let launcher = there.start("--learners 1 --samplers 2 --sampler-restarts 0");
    after_steps(&there.run(), 1);
    for number in [0, 1] {
        for victim in children(&launcher, &format!("SVGRL_SAMPLER={number}")) {
            signal(&victim, "-KILL");
        }
    }
    let parts = ["no sampler within 2 s", "sampler 0 (on ", "sampler 1 (on "];
    ended(launcher).refused(75, &parts);
}

/// Weights that are shared out lie in no rank's memory while samplers draw: nobody may look at them.
#[test]
fn shared_out_weights_are_not_looked_at_when_the_only_sampler_goes_within_a_step() {
    let there = Training::dedicated("samplers_shared_gone")
        .set("sharding={stage: 3}")
        .set("stages.rl.steps=100000");
    let mut launcher = there.start("--learners 2 --samplers 1 --sampler-restarts 1000");
    after_steps(&there.run(), 1);
    // One that goes while weights are given is replaced, and the run goes on: each is left a little longer.
    for left in (0u64..).map(|times| Duration::from_millis(15 * times)) {
        std::thread::sleep(left);
        if let Some(victim) = children(&launcher, "SVGRL_SAMPLER=0").pop() {
            signal(&victim, "-KILL");
        }
        let before = steps(&there.run());
        let over = wait_for("neither a step nor an end", || {
            let over = launcher.try_wait().unwrap().is_some();
            (over || steps(&there.run()) > before).then_some(over)
        });
        if over {
            break;
        }
    }
    let parts = ["all samplers were lost within a step", "sharding.stage: 3"];
    ended(launcher).refused(75, &parts);
}

#[test]
fn samplers_end_with_the_learners_whatever_these_end_by() {
    for (name, signalled, code) in [("killed", "-KILL", 137), ("stopped", "-TERM", 143)] {
        let there =
            Training::dedicated(&format!("samplers_learner_{name}")).set("stages.rl.steps=100000");
        let launcher = there.start("--learners 2 --samplers 2");
        after_steps(&there.run(), 1);
        let samplers = [0, 1].map(|number| {
            let entry = format!("SVGRL_SAMPLER={number}");
            wait_for("no sampler", || children(&launcher, &entry).pop())
        });
        match signalled {
            "-KILL" => signal(&children(&launcher, "RANK=1")[0], signalled),
            _ => signal(&launcher.id().to_string(), signalled),
        }
        let done = ended(launcher);
        assert_eq!(done.code, code, "{name}: {done:#?}");
        for pid in samplers {
            let gone = || (!Path::new("/proc").join(&pid).exists()).then_some(());
            wait_for("a sampler outlives its run", gone);
        }
        if code == 143 {
            let saved = std::fs::read_dir(there.run().join("checkpoints/rl"))
                .unwrap()
                .count();
            assert!(saved > 0, "the state is written");
        }
    }
}
