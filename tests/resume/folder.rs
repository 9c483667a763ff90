//! The run folder as kills, lost power, other processes and people leave it.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use super::tiny::{Tiny, told, wait_for};

#[test]
fn a_second_process_is_refused_and_touches_nothing() {
    let tiny = Tiny::new();
    let long = ["--set", "stages.sft.steps=100000"];
    let mut first = tiny.command().args(long).spawn().unwrap();
    wait_for(&mut first, || tiny.lines() >= 3);
    for flags in [&[][..], &["--resume", "never"]] {
        let second = tiny.command().args(long).args(flags).output().unwrap();
        assert_eq!(second.status.code(), Some(2));
        let said = told(&second);
        let who = format!("process {}", first.id());
        assert!(said.contains(&who) && said.contains("run/lock"), "{said}");
    }
    kill_process(Pid::from_child(&first), Signal::TERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(143));
    assert!(!tiny.run_folder().join("lock").exists());
    let steps = tiny.trained("sft");
    let expected: Vec<u64> = (1..=steps.len() as u64).collect();
    assert_eq!(steps, expected, "the first one wrote on as if alone");
}

#[test]
fn a_killed_runs_lock_stops_no_resume() {
    let tiny = Tiny::new();
    let mut first = tiny.start();
    wait_for(&mut first, || tiny.lines() >= 3);
    first.kill().unwrap();
    first.wait().unwrap();
    let run = tiny.run_folder();
    assert!(run.join("lock").exists());
    // And what kills within a write leave, wherever a run writes.
    let folders = folders_below(&run);
    assert!(folders.len() > 6, "{folders:?}");
    for folder in &folders {
        std::fs::write(folder.join(".torn.partial"), "x").unwrap();
    }
    tiny.finish();
    tiny.outcome().assert_whole("a lock left behind");
    for folder in folders {
        assert!(!folder.join(".torn.partial").exists(), "{folder:?}");
    }
}

#[test]
fn what_a_loss_of_power_empties_is_written_anew() {
    let tiny = Tiny::new();
    let mut first = tiny.start();
    wait_for(&mut first, || tiny.lines() >= 13);
    first.kill().unwrap();
    first.wait().unwrap();
    let run = tiny.run_folder();
    for name in ["config.yaml", "config.resolved.yaml", "environment.json"] {
        std::fs::write(run.join(name), "").unwrap();
    }
    // A torn line of a step that a checkpoint covers, and events cut in the middle.
    let metrics = run.join("metrics.jsonl");
    let text = std::fs::read_to_string(&metrics).unwrap();
    let covered = text.match_indices('\n').nth(8).unwrap().0;
    std::fs::write(&metrics, &text[..covered - 20]).unwrap();
    std::fs::write(run.join("tensorboard/sft/events.out.tfevents.0.svgrl"), "x").unwrap();
    tiny.finish();
    tiny.outcome().assert_whole("emptied files");
    assert!(
        std::fs::metadata(run.join("config.resolved.yaml"))
            .unwrap()
            .len()
            > 100
    );
    assert!(
        std::fs::metadata(run.join("tensorboard/sft/events.out.tfevents.0.svgrl"))
            .unwrap()
            .len()
            > 1000
    );
}

#[test]
fn a_whole_checkpoint_that_lacks_its_name_alone_is_used() {
    let tiny = Tiny::new();
    let mut first = tiny.start();
    wait_for(&mut first, || {
        tiny.run_folder()
            .join("checkpoints/rl/step_000002")
            .exists()
    });
    first.kill().unwrap();
    first.wait().unwrap();
    let stage = tiny.run_folder().join("checkpoints/rl");
    std::fs::rename(
        stage.join("step_000002"),
        stage.join(".step_000002.partial"),
    )
    .unwrap();
    let mut command = tiny.command();
    let output = command
        .args(["--set", "stages.rl.steps=2"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let state = std::fs::read_to_string(stage.join("final/trainer/state.json")).unwrap();
    assert!(state.contains("\"step\": 2"), "{state}");
    tiny.finish();
}

#[test]
fn a_damaged_reference_policy_is_named() {
    let tiny = Tiny::new();
    let mut first = tiny.start();
    wait_for(&mut first, || {
        tiny.run_folder()
            .join("checkpoints/rl/step_000002")
            .exists()
    });
    first.kill().unwrap();
    first.wait().unwrap();
    let path = tiny
        .run_folder()
        .join("checkpoints/sft/final/model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let metrics = std::fs::read(tiny.run_folder().join("metrics.jsonl")).unwrap();
    let output = tiny.command().output().unwrap();
    let said = told(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("sft/final") && said.contains("reference policy of `rl`"),
        "{said}"
    );
    let now = std::fs::read(tiny.run_folder().join("metrics.jsonl")).unwrap();
    assert_eq!(now, metrics, "nothing is cut before everything is loaded");
}

#[test]
fn lowered_steps_still_end_in_a_whole_folder() {
    for (rows, stage, lowered) in [(14, "rl", 1), (6, "sft", 1)] {
        let tiny = Tiny::new();
        let mut first = tiny.start();
        wait_for(&mut first, || tiny.lines() >= rows);
        kill_process(Pid::from_child(&first), Signal::TERM).unwrap();
        assert_eq!(first.wait().unwrap().code(), Some(143));
        let mut command = tiny.command();
        let set = format!("stages.{stage}.steps={lowered}");
        let output = command.args(["--set", &set]).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        for stage in ["sft", "rl"] {
            assert!(
                tiny.run_folder()
                    .join(format!("checkpoints/{stage}/final/config.json"))
                    .exists()
            );
        }
        let log = std::fs::read_to_string(tiny.run_folder().join("train.log")).unwrap();
        assert!(
            log.contains(&format!("more than the {lowered} that are asked for")),
            "{log}"
        );
    }
}

#[test]
fn a_folder_removed_under_the_run_ends_it_with_a_sentence() {
    let tiny = Tiny::new();
    let mut command = tiny.command();
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&mut child, || tiny.lines() >= 3);
    let run = tiny.run_folder();
    std::fs::rename(&run, run.with_file_name("gone")).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = told(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the run folder was removed, moved or replaced"),
        "{said}"
    );
}

#[test]
fn closed_outputs_end_nothing() {
    let tiny = Tiny::new();
    let script = "\"$@\" 2>&1 | true";
    let run = tiny.command();
    let mut shell = std::process::Command::new("/bin/bash");
    shell.args(["-o", "pipefail", "-c", script, "bash"]);
    shell
        .arg(run.get_program())
        .args(run.get_args().filter(|argument| *argument != "-q"));
    let status = shell.env_remove("WORLD_SIZE").status().unwrap();
    assert!(status.success(), "{status}");
    tiny.outcome().assert_whole("closed outputs");
    let log = std::fs::read_to_string(tiny.run_folder().join("train.log")).unwrap();
    assert!(log.contains("rl 4/4"), "{log}");
    // Nothing but the program's own status says anything of a reader that left.
    for command in ["schema", "reference", "completions zsh", "train --help"] {
        let script = format!(
            "{} {command} | head -n 1 >/dev/null",
            env!("CARGO_BIN_EXE_svgrl")
        );
        let mut shell = std::process::Command::new("/bin/bash");
        let output = shell
            .args(["-o", "pipefail", "-c", &script])
            .output()
            .unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            told(&output)
        );
    }
    let full = "\"$0\" schema >/dev/full";
    let mut shell = std::process::Command::new("/bin/sh");
    let output = shell
        .args(["-c", full, env!("CARGO_BIN_EXE_svgrl")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("standard output"),
        "{}",
        told(&output)
    );
}

/// The folder itself and every folder below it.
fn folders_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![folder.to_path_buf()];
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(folders_below(&entry.path()));
        }
    }
    found
}
