//! What happens to a gradient before it is applied, seen from the run folder: the clipping of its
//! norm, and the refusal of what is not finite.

use std::path::{Path, PathBuf};

use models::read_tensors;
use serde_json::Value;

use super::program::{program, rows, scratch, told};
use super::tiny::config;

/// Runs one supervised stage made of `stage` (YAML, without braces), every step a checkpoint.
fn run(name: &str, stage: &str) -> PathBuf {
    let folder = scratch(name);
    let run = folder.join("run");
    let mut train = program();
    train.arg("train").arg(config(&folder));
    train.arg("--run-dir").arg(&run);
    let stage = format!(
        "stages=[{{name: sft, algorithm: sft, batch: {{size: 6}}, checkpoint: {{every: 1, keep_last: 9}}, {stage}}}]"
    );
    told(train.args(["--set", &stage])).fine();
    run
}

fn metrics(run: &Path) -> Vec<Value> {
    let rows = rows(&run.join("metrics.jsonl"));
    let trained = |row: &Value| row.get("optim/lr").is_some();
    rows.into_iter().filter(trained).collect()
}

/// After one step the first moment is a tenth of the gradient.
fn first_moment(run: &Path) -> f64 {
    let path = run.join("checkpoints/sft/step_000001/trainer/optimizer.safetensors");
    let moment = &read_tensors(&path).unwrap()["exp_avg"];
    moment.norm().double_value(&[])
}

#[test]
fn gradients_are_clipped_to_one_global_norm() {
    let with = |name: &str, clip: &str| {
        run(
            name,
            &format!("steps: 2, optimizer: {{beta1: 0.9, clip_norm: {clip}}}"),
        )
    };
    let free = with("updates_free", "null");
    let norm = metrics(&free)[0]["optim/grad_norm"].as_f64().unwrap();
    assert!(norm > 0.5, "{norm}");
    assert!((first_moment(&free) / norm - 0.1).abs() < 1e-6);
    let tight = with("updates_clipped", "0.25");
    // The metric is the norm that was found.
    assert_eq!(metrics(&tight)[0]["optim/grad_norm"], norm);
    assert!((first_moment(&tight) / 0.25 - 0.1).abs() < 1e-6);
    let loose = with("updates_loose", "1000");
    assert_eq!(first_moment(&loose), first_moment(&free));
}

#[test]
fn an_update_that_is_not_finite_is_logged_and_refused() {
    // A first step that large leaves weights whose gradients overflow.
    let run = run(
        "updates_broken",
        "steps: 3, optimizer: {learning_rate: 1.0e+30}",
    );
    let skipped: Vec<f64> = metrics(&run)
        .iter()
        .map(|row| row["optim/skipped"].as_f64().unwrap())
        .collect();
    assert_eq!(skipped, [0.0, 1.0, 1.0]);
    let log = std::fs::read_to_string(run.join("train.log")).unwrap();
    assert!(
        log.contains("sft step 2: an update was refused: loss or gradient is not finite"),
        "{log}"
    );
    for part in ["model.safetensors", "trainer/optimizer.safetensors"] {
        let read = |step: &str| {
            let folder = run.join("checkpoints/sft").join(step);
            std::fs::read(folder.join(part)).unwrap()
        };
        let first = read("step_000001");
        for later in ["step_000002", "final"] {
            assert!(read(later) == first, "{part} of {later}");
        }
    }
}
