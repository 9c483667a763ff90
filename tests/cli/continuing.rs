//! Runs that are finished, longer, changed or damaged when they are started again.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::program::{Told, program, rows, scratch, told};
use super::tiny::{config, tiny};

fn again(run: &Path, flags: &[&str]) -> Told {
    told(
        program()
            .arg("train")
            .arg(&tiny().config)
            .arg("--run-dir")
            .arg(run)
            .args(flags),
    )
}

fn steps(run: &Path) -> Vec<u64> {
    let rows = rows(&run.join("metrics.jsonl"));
    let rl = rows
        .iter()
        .filter(|row| row["stage"] == "rl" && row.get("optim/grad_norm").is_some());
    rl.map(|row| row["step"].as_u64().unwrap()).collect()
}

#[test]
fn a_finished_run_says_so_and_a_longer_one_goes_on() {
    let run = tiny().copy("continue_longer");
    let before = std::fs::read(run.join("metrics.jsonl")).unwrap();
    let told = again(&run, &[]).fine();
    assert!(told.err.contains("finished"), "{}", told.err);
    assert_eq!(
        std::fs::read(run.join("metrics.jsonl")).unwrap(),
        before,
        "nothing is written twice"
    );
    again(&run, &["--set", "stages.rl.steps=3"]).fine();
    assert_eq!(steps(&run), [1, 2, 3]);
    let now = std::fs::read(run.join("metrics.jsonl")).unwrap();
    assert_eq!(now[..before.len()], before, "earlier rows stay as they are");
    assert!(run.join("samples/rl/step_000003.jsonl").exists());
}

#[test]
fn changed_keys_are_refused_by_name() {
    let run = tiny().copy("continue_changed");
    again(&run, &["--set", "seed=4"]).refused(
        2,
        &[
            "seed: was 3, is 4",
            "--accept-changes seed",
            "--run-dir NEW",
            "--resume never",
        ],
    );
    again(&run, &["--seed", "4"]).refused(2, &["seed"]);
    again(
        &run,
        &[
            "--set",
            "stages.rl.kl.coefficient=0.1",
            "--set",
            "stages.rl.checkpoint.every=2",
        ],
    )
    .refused(2, &["stages.1.kl.coefficient"]);
    again(
        &run,
        &[
            "--set",
            "stages.rl.checkpoint.keep_last=9",
            "--set",
            "stages.rl.steps=2",
        ],
    )
    .fine();
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_previous_whole_one_offered() {
    let run = tiny().copy("continue_damaged");
    let weights = run.join("checkpoints/rl/final/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    let previous = run.join("checkpoints/rl/step_000001");
    let told = again(&run, &[]);
    told.refused(
        2,
        &[
            "checkpoints/rl/final",
            "model.safetensors",
            &format!("--resume {}", previous.display()),
        ],
    );
    again(&run, &["--resume", previous.to_str().unwrap()]).fine();
    assert_eq!(steps(&run), [1, 2]);
    let whole = std::fs::read(tiny().run.join("checkpoints/rl/final/model.safetensors")).unwrap();
    assert!(
        std::fs::read(&weights).unwrap() == whole,
        "the replayed step gives the same weights"
    );
}

#[test]
fn a_missing_part_is_named() {
    let run = tiny().copy("continue_missing");
    std::fs::remove_file(run.join("checkpoints/rl/final/trainer/optimizer.safetensors")).unwrap();
    std::fs::remove_file(run.join("checkpoints/rl/step_000001/trainer/manifest.json")).unwrap();
    again(&run, &[]).refused(
        2,
        &["trainer/optimizer.safetensors", "checkpoints/sft/final"],
    );
    again(&run, &["--resume", run.join("nowhere").to_str().unwrap()]).refused(2, &["nowhere"]);
}

#[test]
fn a_manifest_that_lists_nothing_vouches_for_nothing() {
    let run = tiny().copy("continue_manifest");
    let newest = run.join("checkpoints/rl/final/trainer/manifest.json");
    std::fs::write(newest, "{}").unwrap();
    let part = "trainer/manifest.json: does not list model.safetensors";
    again(&run, &[]).refused(2, &[part, "rl/step_000001"]);
}

#[test]
fn what_a_kill_left_of_checkpoints_is_swept_up() {
    let run = tiny().copy("continue_swept");
    let stage = run.join("checkpoints/rl");
    for name in [".step_000009.partial", ".step_000001.removed"] {
        std::fs::create_dir_all(stage.join(name).join("trainer")).unwrap();
    }
    again(&run, &["--set", "stages.rl.steps=3"]).fine();
    for entry in std::fs::read_dir(&stage).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.'), "{name}");
    }
}

/// The stage's first evaluation, which is on file, is not made again.
#[test]
fn a_signal_drops_a_step_that_cannot_end_in_its_grace() {
    let folder = scratch("continue_dropped");
    let (config, run) = (config(&folder), folder.join("run"));
    // An untrained policy ends about one token in five hundred, and four of its 64 completions are
    // written at a time: a step takes a second at least.
    let stage = "stages=[{name: rl, algorithm: grpo, steps: 1, batch: {size: 2}, rollout: {group_size: 32, slots: 4, max_new_tokens: 20000}, eval: {prompts: 2, max_new_tokens: 8}}]";
    let train = || {
        let mut train = program();
        train
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(&run)
            .args(["--set", "grace_s=0", "--set", stage]);
        train
    };
    let first = train().stderr(Stdio::piped()).spawn().unwrap();
    let (metrics, begin) = (run.join("metrics.jsonl"), Instant::now());
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) < 2 {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "no evaluation was made"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        Command::new("kill")
            .arg(first.id().to_string())
            .status()
            .unwrap()
            .success()
    );
    let output = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(143), "{said}");
    assert!(said.contains("rl step 1 within 0 s (grace_s)"), "{said}");
    assert!(
        run.join("checkpoints/rl/step_000000").exists()
            && !run.join("samples/rl/step_000001.jsonl").exists()
    );
    told(&mut train()).fine();
    let written: Vec<_> = rows(&metrics)
        .iter()
        .map(|row| row["step"].clone())
        .collect();
    assert_eq!(
        written,
        [0, 0, 1, 1, 1],
        "two evaluations, the step, two evaluations"
    );
}

#[test]
fn a_folder_without_checkpoints_starts_over() {
    let run = tiny().copy("continue_over");
    std::fs::remove_dir_all(run.join("checkpoints")).unwrap();
    again(
        &run,
        &[
            "--set",
            "stages.sft.steps=3",
            "--set",
            "stages.rl.steps=1",
            "--seed",
            "8",
        ],
    )
    .fine();
    assert_eq!(steps(&run), [1]);
    assert!(!run.join("samples/rl/step_000002.jsonl").exists());
}
