//! Prompts with pictures under sharding: the tower stays whole on every rank, its gradients and optimizer do not.

use std::path::Path;

use serde_json::Value;

use super::super::step_rows;
use super::continued::{close, train};
use crate::cli::program::{copy, numbers, scratch, told};

/// A few steps of each stage; an untrained policy draws nothing, so that entropy alone has a gradient.
const SHORT: [&str; 9] = [
    "stages.sft.steps=2",
    "stages.sft.batch.size=6",
    "stages.sft.eval={prompts: 0}",
    "stages.rl.steps=1",
    "stages.rl.batch.size=6",
    "stages.rl.rollout={group_size: 2, max_new_tokens: 12}",
    "stages.rl.eval={prompts: 0}",
    "stages.rl.advantage.zero_spread=keep",
    "stages.rl.loss.entropy=0.01",
];

#[test]
fn a_policy_that_sees_learns_shared_out_what_it_learns_alone() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/tiny_vlm.yaml");
    for freeze in ["[]", "[vision]", "[decoder]"] {
        let folder = scratch(&format!("sharded_pictured_{}", freeze.len()));
        let frozen = format!("model.freeze={freeze}");
        let set = [
            &SHORT[..],
            &[frozen.as_str(), "stages.rl.kl.coefficient=0.01"],
        ]
        .concat();
        let alone = folder.join("alone");
        told(&mut train(&config, &alone, (1, 0), &set)).fine();
        let rows = |run: &Path, stage: &str| -> Vec<Value> { step_rows(run, stage)[..1].to_vec() };
        let stages = if freeze == "[]" { 2..=3 } else { 3..=3 };
        for stage in stages {
            let whole = folder.join(format!("whole{stage}"));
            told(&mut train(&config, &whole, (2, stage), &set)).fine();
            let keys = ["sft/loss", "optim/grad_norm"];
            close(&rows(&whole, "sft"), &rows(&alone, "sft"), &keys, 1e-5);
            same_samples(&whole, &alone);
            let later = folder.join(format!("later{stage}"));
            copy(&alone, &later);
            std::fs::remove_dir_all(later.join("checkpoints/rl")).unwrap();
            let mut command = train(&config, &later, (2, stage), &set);
            told(command.env("RUST_LOG", "debug")).fine();
            assert!(groups_moved(&later) > 0, "no group with pictures moved");
            let keys = ["policy/loss", "policy/entropy", "optim/grad_norm"];
            close(&rows(&later, "rl"), &rows(&alone, "rl"), &keys, 1e-5);
            assert!(rows(&later, "rl")[0]["optim/grad_norm"].as_f64() > Some(0.0));
        }
    }
}

/// Fails unless the first SFT step of two runs has written the same rows, with pictures, but for rounding.
fn same_samples(ours: &Path, theirs: &Path) {
    let of = |run: &Path| crate::cli::program::rows(&run.join("samples/sft/step_000001.jsonl"));
    let (ours, theirs) = (of(ours), of(theirs));
    assert_eq!((ours.len(), theirs.len()), (6, 6));
    assert!(theirs.iter().any(|row| row.get("images").is_some()));
    for (own, other) in ours.iter().zip(&theirs) {
        for key in [
            "prompt_id",
            "task",
            "token_ids",
            "completion",
            "images",
            "weight",
        ] {
            assert_eq!(own.get(key), other.get(key), "{key}");
        }
        let [own, other] = [own, other].map(|row| numbers(&row["learner_logprobs"]));
        assert!(own.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

/// How many groups of a run learnt elsewhere than where they were sampled.
fn groups_moved(run: &Path) -> u64 {
    let told = crate::cli::program::rows(&run.join("logs/rank_0.jsonl"));
    let told = told
        .iter()
        .filter(|row| row["message"] == "groups shared out by rows");
    told.map(|row| row["moved"].as_u64().unwrap()).sum()
}
