//! What is continued is what was interrupted: other rows, weights or keys are refused by name, and the ways on work.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::program::{Told, program, rows, scratch, told};
use crate::cli::tiny::config;

/// A run of two short stages in a folder of its own.
struct Run {
    folder: PathBuf,
    config: PathBuf,
}

impl Run {
    /// One GRPO step done, of as many as one likes.
    fn begun(name: &str) -> Self {
        let folder = scratch(name);
        let run = Self {
            config: config(&folder),
            folder,
        };
        run.train("run", &[]).fine();
        run
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Trains in the folder `name`: four steps and one, where `flags` say no other number.
    fn train(&self, name: &str, flags: &[&str]) -> Told {
        let mut command = program();
        command
            .arg("train")
            .arg(&self.config)
            .arg("--run-dir")
            .arg(self.at(name));
        command.args(["--set", "stages.sft.steps=4"]);
        if !flags.iter().any(|flag| flag.contains("stages.rl.steps")) {
            command.args(["--set", "stages.rl.steps=1"]);
        }
        told(command.args(flags))
    }

    fn more(&self, flags: &[&str]) -> Told {
        self.train("run", &[&["--set", "stages.rl.steps=2"], flags].concat())
    }

    fn record(&self, name: &str) -> Vec<Value> {
        rows(&self.at(name).join("continued.jsonl"))
    }
}

/// Stage and step of every row of training.
fn steps(run: &Path) -> Vec<(String, u64)> {
    let all = rows(&run.join("metrics.jsonl"));
    let trained = all
        .iter()
        .filter(|row| row.get("optim/grad_norm").is_some());
    trained
        .map(|row| {
            (
                row["stage"].as_str().unwrap().to_owned(),
                row["step"].as_u64().unwrap(),
            )
        })
        .collect()
}

fn all_steps(rl: u64) -> Vec<(String, u64)> {
    let of = |stage: &str, count| {
        (1..=count)
            .map(move |step| (stage.to_owned(), step))
            .collect::<Vec<_>>()
    };
    [of("sft", 4), of("rl", rl)].concat()
}

fn weights(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoints/rl/final/model.safetensors")).unwrap()
}

#[test]
fn other_rows_are_refused_and_accepted_by_word() {
    let run = Run::begun("changed_rows");
    let data = run.at("drawings.jsonl");
    let before = std::fs::read_to_string(&data).unwrap();
    let metrics = std::fs::read(run.at("run/metrics.jsonl")).unwrap();
    std::fs::write(&data, before.replace("red", "orange")).unwrap();
    run.more(&[]).refused(
        2,
        &[
            "data.sources.drawings: the 8 rows of the source are others",
            "--accept-changes data",
            "rl/final --run-dir NEW",
            "--resume never",
        ],
    );
    assert_eq!(
        std::fs::read(run.at("run/metrics.jsonl")).unwrap(),
        metrics,
        "nothing is touched"
    );
    // The rows in another place and another form are the same rows.
    let rows: String = before
        .lines()
        .rev()
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .map(|line| format!(" {line}\n\n"))
        .collect();
    std::fs::write(run.at("elsewhere.jsonl"), rows).unwrap();
    let elsewhere = ["--set", "data.sources.drawings.path=elsewhere.jsonl"];
    run.more(&elsewhere).fine();
    assert!(!run.at("run/continued.jsonl").exists());
    // Fewer of them, accepted.
    let fewer: String = before
        .lines()
        .take(6)
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&data, fewer).unwrap();
    let three = ["--set", "stages.rl.steps=3"];
    run.train("run", &three)
        .refused(2, &["had 8 rows and now has 6"]);
    let accepted = run
        .train("run", &[&three[..], &["--accept-changes", "data"]].concat())
        .fine();
    assert!(
        accepted.err.contains("accepted: data.sources.drawings"),
        "{}",
        accepted.err
    );
    assert_eq!(steps(&run.at("run")), all_steps(3));
    let record = run.record("run");
    assert_eq!(record.len(), 1);
    assert_eq!(record[0]["changes"][0]["key"], "data.sources.drawings");
    assert!(record[0]["from"].as_str().unwrap().ends_with("rl/final"));
}

#[test]
fn other_weights_at_the_models_path_are_refused() {
    let run = Run::begun("changed_model");
    let model = run.at("model");
    crate::cli::program::copy(&run.at("run/checkpoints/sft/final"), &model);
    let set = format!("model={{path: {model:?}}}");
    let kl = "stages=[{name: rl, algorithm: grpo, steps: STEPS, batch: {size: 4}, rollout: {group_size: 4, max_new_tokens: 48}, kl: {coefficient: 0.1}, eval: {prompts: 2}}]";
    let train = |steps: &str, flags: &[&str]| {
        let stage = kl.replace("STEPS", steps);
        let mut command = program();
        command
            .arg("train")
            .arg(&run.config)
            .arg("--run-dir")
            .arg(run.at("on"));
        command.args(["--set", &set, "--set", &stage]);
        told(command.args(flags))
    };
    train("1", &[]).fine();
    let path = model.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    train("2", &[]).refused(
        2,
        &[
            "model.path: the folder holds other weights",
            "--accept-changes model",
        ],
    );
    train("2", &["--accept-changes", "model"]).fine();
    // Accepted once, it stays so until a checkpoint has it.
    train("3", &[]).fine();
    // The tokenizer lies there too.
    let path = model.join("tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + "\n").unwrap();
    train("4", &[]).refused(
        2,
        &[
            "tokenizer: its files are others",
            "--accept-changes tokenizer",
        ],
    );
}

#[test]
fn a_key_is_accepted_by_its_stages_name_and_recorded() {
    let run = Run::begun("changed_key");
    let rate = ["--set", "stages.rl.optimizer.learning_rate=0.002"];
    run.more(&rate).refused(
        2,
        &[
            "stages.1.optimizer.learning_rate: was 0.001, is 0.002",
            "--accept-changes stages.1.optimizer.learning_rate",
        ],
    );
    let wrong = [
        &rate[..],
        &["--accept-changes", "stages.sft.optimizer,seed"],
    ]
    .concat();
    run.more(&wrong).refused(2, &["learning_rate"]);
    let right = [&rate[..], &["--accept-changes", "seed,stages.rl.optimizer"]].concat();
    run.more(&right).fine();
    assert_eq!(
        run.record("run")[0]["changes"][0]["text"],
        "was 0.001, is 0.002"
    );
    // Memory, threads and cadence need no word.
    let free = [
        "--set",
        "threads=2",
        "--set",
        "stages.rl.batch.micro_tokens=512",
        "--set",
        "stages.rl.checkpoint.every=2",
    ];
    run.train(
        "run",
        &[&["--set", "stages.rl.steps=3"], &rate[..], &free[..]].concat(),
    )
    .fine();
    assert_eq!(run.record("run").len(), 1);
}

#[test]
fn another_runs_checkpoint_starts_a_run_of_its_own() {
    let run = Run::begun("changed_fork");
    let from = run.at("run/checkpoints/rl/final");
    let from = from.to_str().unwrap();
    run.train("other", &["--seed", "9"]).fine();
    let before = std::fs::read(run.at("other/metrics.jsonl")).unwrap();
    let two = ["--set", "stages.rl.steps=2", "--resume", from];
    run.train("other", &two)
        .refused(2, &["is not of the run in", "--run-dir NEW", from]);
    assert_eq!(
        std::fs::read(run.at("other/metrics.jsonl")).unwrap(),
        before
    );
    assert!(run.at("other/checkpoints/rl/final").exists());
    // The way that it names.
    let told = run.train("new", &two).fine();
    assert!(told.err.contains("a run of its own from"), "{}", told.err);
    assert_eq!(steps(&run.at("new")), all_steps(2));
    assert!(
        run.at("new/checkpoints/sft/final/model.safetensors")
            .exists()
    );
    assert!(run.at("new/samples/rl/step_000001.jsonl").exists());
    assert!(run.at("new/tensorboard/sft").exists());
    assert_eq!(
        steps(&run.at("run")),
        all_steps(1),
        "the other run stays as it is"
    );
    run.more(&[]).fine();
    assert!(
        weights(&run.at("new")) == weights(&run.at("run")),
        "it is the run that goes on"
    );
    // Said again, as a queue does: its own newest checkpoint goes on.
    let three = ["--set", "stages.rl.steps=3", "--resume", from];
    run.train("new", &three).fine();
    assert_eq!(steps(&run.at("new")), all_steps(3));
    // With other rows too, which are recorded.
    let data = run.at("drawings.jsonl");
    let text = std::fs::read_to_string(&data).unwrap();
    std::fs::write(&data, text.replace("red", "orange")).unwrap();
    run.train("newer", &three).fine();
    assert_eq!(
        run.record("newer")[1]["changes"][0]["key"],
        "data.sources.drawings"
    );
    assert_eq!(steps(&run.at("newer")), all_steps(3));
}

#[test]
fn a_run_that_starts_over_moves_the_one_before_aside() {
    let run = Run::begun("changed_never");
    let before = std::fs::read(run.at("run/metrics.jsonl")).unwrap();
    let told = run
        .train("run", &["--resume", "never", "--seed", "8"])
        .fine();
    assert!(
        told.err.contains("is now") && told.err.contains("run.before-1"),
        "{}",
        told.err
    );
    assert_eq!(
        std::fs::read(run.at("run.before-1/metrics.jsonl")).unwrap(),
        before
    );
    assert_eq!(steps(&run.at("run")), all_steps(1));
    assert!(run.at("run.before-1/checkpoints/rl/final").exists());
}
