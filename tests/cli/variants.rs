//! GRPO's options in real runs, judged by what the run folder says of them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{numbers, program, rows, scratch, svgrl, told, write_rows};
use super::tiny::{config, tiny};
use crate::support::larger;

/// Runs one GRPO stage made of `stage` (YAML, without braces); with `model` it starts from the tiny
/// run's policy.
fn run(name: &str, stage: &str, (trained, flags): (bool, &[&str])) -> PathBuf {
    let folder = scratch(name);
    let (config, run) = (config(&folder), folder.join("run"));
    let mut train = program();
    train.arg("train").arg(&config).arg("--run-dir").arg(&run);
    train.args(["--set", &format!("stages=[{{{stage}}}]")]);
    if trained {
        let model = tiny().run.join("checkpoints/sft/final");
        train.args(["--set", &format!("model={{path: {}}}", model.display())]);
    }
    told(train.args(flags)).fine();
    run
}

/// The rows of training steps.
fn steps(run: &Path) -> Vec<Value> {
    let rows = rows(&run.join("metrics.jsonl"));
    let trained = |row: &Value| row.get("optim/lr").is_some();
    rows.into_iter().filter(trained).collect()
}

fn samples(run: &Path, step: u64) -> Vec<Value> {
    rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")))
}

/// An untrained policy's completions are all worth nothing, so there is nothing to learn from; the
/// row says of the policy what every other row says.
#[test]
fn a_step_of_zero_spread_groups_changes_nothing_and_still_measures_the_policy() {
    let run = run(
        "variants_flat",
        "name: rl, algorithm: grpo, steps: 1, batch: {size: 3}, rollout: {group_size: 2, max_new_tokens: 12}",
        (false, &[]),
    );
    let row = &steps(&run)[0];
    for (name, value) in [
        ("reward/zero_spread_frac", 1.0),
        ("policy/loss", 0.0),
        ("policy/ratio_mean", 1.0),
        ("policy/clip_low_frac", 0.0),
        ("policy/clip_high_frac", 0.0),
        ("policy/kl_ref", 0.0),
        ("optim/grad_norm", 0.0),
        ("progress/tokens", 0.0),
    ] {
        assert_eq!(row[name], json!(value), "{name}");
    }
    let entropy = row["policy/entropy"].as_f64().unwrap();
    // 525 tokens are nearly equally likely.
    assert!((entropy - 525f64.ln()).abs() < 0.1, "{entropy}");
    assert!(row["policy/kl_sampler"].as_f64().unwrap() < 1e-6);
}

/// Log-probabilities under the reference come from another command.
#[test]
fn kl_in_the_reward_is_taken_off_each_total_before_siblings_are_compared() {
    let run = run(
        "variants_kl_reward",
        "name: rl, algorithm: grpo, steps: 3, batch: {size: 3}, rollout: {group_size: 4, max_new_tokens: 48}, optimizer: {learning_rate: 1.0e-2}, kl: {coefficient: 0.2, estimator: k1, place: reward}",
        (true, &[]),
    );
    let samples = samples(&run, 3);
    let asked: Vec<Value> = samples
        .iter()
        .enumerate()
        .map(|(index, row)| json!({"id": index, "prompt": row["prompt"], "completion_token_ids": row["token_ids"]}))
        .collect();
    let folder = run.parent().unwrap();
    let (data, out) = (
        write_rows(folder, "asked.jsonl", &asked),
        folder.join("answers.jsonl"),
    );
    let model = tiny().run.join("checkpoints/sft/final");
    let flags = ["--model", "--data", "--out"].map(Path::new);
    let paths = [flags[0], &model, flags[1], &data, flags[2], &out];
    svgrl("logprobs", &paths).fine();
    let reference: Vec<f64> = rows(&out)
        .iter()
        .map(|row| row["sum"].as_f64().unwrap())
        .collect();
    let mut apart = 0.0f64;
    for (group, theirs) in samples.chunks(4).zip(reference.chunks(4)) {
        let total: Vec<f64> = group
            .iter()
            .map(|row| row["total"].as_f64().unwrap())
            .collect();
        let shaped: Vec<f64> = (0..4)
            .map(|index| {
                let own: f64 = numbers(&group[index]["sampler_logprobs"]).iter().sum();
                apart = larger(apart, (own - theirs[index]).abs());
                total[index] - 0.2 * (own - theirs[index])
            })
            .collect();
        let mean = shaped.iter().sum::<f64>() / 4.0;
        let variance = shaped
            .iter()
            .map(|reward| (reward - mean).powi(2))
            .sum::<f64>()
            / 3.0;
        for (row, reward) in group.iter().zip(&shaped) {
            let expected = (reward - mean) / (variance.sqrt() + 1e-4);
            let got = row["advantage"].as_f64().unwrap();
            // The sampler's float32 sums differ from the learner's by 1e-4 at most.
            assert!((expected - got).abs() < 5e-3, "{expected} {got}");
        }
    }
    assert!(apart > 0.05, "the policy has left the reference: {apart}");
}

#[test]
fn masked_completions_count_in_their_group_and_are_not_learnt_from() {
    let stage = |more: &str| {
        format!(
            "name: rl, algorithm: grpo, steps: 1, batch: {{size: 4}}, rollout: {{group_size: 4, max_new_tokens: 29}}, loss: {{truncated: {more}}}"
        )
    };
    let masked = run("variants_mask", &stage("mask"), (true, &[]));
    let kept = run("variants_keep", &stage("keep"), (true, &[]));
    let tokens = |run: &Path| steps(run)[0]["progress/tokens"].as_f64().unwrap() as usize;
    let count = |every: bool| -> usize {
        samples(&kept, 1)
            .chunks(4)
            .filter(|group| group.iter().any(|row| row["advantage"] != json!(0.0)))
            .flatten()
            .filter(|row| every || row["finish_reason"] == "stop")
            .map(|row| row["token_ids"].as_array().unwrap().len())
            .sum()
    };
    assert!(0 < count(false) && count(false) < count(true));
    assert_eq!(tokens(&kept), count(true));
    assert_eq!(tokens(&masked), count(false));
    let advantages = |run: &Path| -> Vec<Value> {
        let rows = samples(run, 1);
        rows.iter().map(|row| row["advantage"].clone()).collect()
    };
    assert_eq!(advantages(&masked), advantages(&kept));
}

#[test]
fn refills_draw_further_prompts_at_most_twice_over() {
    let run = run(
        "variants_refill",
        "name: rl, algorithm: grpo, steps: 2, batch: {size: 2}, rollout: {group_size: 2, max_new_tokens: 8}, advantage: {zero_spread: refill}",
        (false, &[]),
    );
    for step in [1, 2] {
        let ids: Vec<Value> = samples(&run, step)
            .iter()
            .step_by(2)
            .map(|row| row["prompt_id"].clone())
            .collect();
        let marks = |mark: &str| {
            let marked = |id: &&Value| id.as_str().unwrap().ends_with(mark);
            ids.iter().filter(marked).count()
        };
        assert_eq!(
            (ids.len(), marks("#refill1"), marks("#refill2")),
            (6, 2, 2),
            "{ids:?}"
        );
    }
    assert_eq!(steps(&run)[1]["progress/prompts"], json!(12.0));
}

/// The optimizer's master weights are float32: what small updates add up to is not lost.
#[test]
fn bfloat16_learns_as_float32_does() {
    let stage = "name: warm, algorithm: sft, steps: 40, batch: {size: 6}, optimizer: {learning_rate: 1.0e-2}, checkpoint: {every: 30}}, {name: rl, algorithm: grpo, steps: 1, batch: {size: 2}, rollout: {group_size: 4, max_new_tokens: 48}";
    let narrow = run("variants_bf16", stage, (false, &["--dtype", "bfloat16"]));
    let wide = run("variants_f32", stage, (false, &[]));
    let losses = |run: &Path| -> Vec<f64> {
        let rows = steps(run);
        rows.iter()
            .filter_map(|row| row.get("sft/loss")?.as_f64())
            .collect()
    };
    let (narrow_losses, wide_losses) = (losses(&narrow), losses(&wide));
    assert!(wide_losses[39] < 0.5 * wide_losses[0], "{wide_losses:?}");
    for (a, b) in narrow_losses.iter().zip(&wide_losses) {
        // 7 % apart at most, towards the end.
        assert!((a - b).abs() < 0.1 * b, "{a} {b}");
    }
    let folder = narrow.join("checkpoints/rl/final");
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    assert!(config.contains("bfloat16"), "{config}");
    let kl = steps(&narrow)[40]["policy/kl_sampler"].as_f64().unwrap();
    assert!(kl < 1e-3, "sampler and learner agree: {kl}");
}
