//! The names that other trainers give the same numbers, so that their dashboards fit a run: verl's (January 2026) and
//! TRL's (GRPOTrainer, DPOTrainer, 1.16). A name stands here only where the number is the same; evaluations have none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Metric, Metrics, keys};

/// Whose names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AliasSet {
    /// `actor/pg_loss`, `critic/score/mean`, `response_length/mean`, ...
    Verl,
    /// `reward`, `rewards/<reward>/mean`, `completions/mean_length`, ...
    Trl,
}

/// Ours and theirs.
type AliasPair = (&'static Metric, &'static str);

const VERL: &[AliasPair] = &[
    (&keys::POLICY_LOSS, "actor/pg_loss"),
    (&keys::KL_REF, "actor/kl_loss"),
    (&keys::ENTROPY, "actor/entropy"),
    (&keys::GRAD_NORM, "actor/grad_norm"),
    (&keys::LR, "actor/lr"),
    (&keys::REWARD_MEAN, "critic/score/mean"),
    (&keys::REWARD_MEAN, "critic/rewards/mean"),
    (&keys::TOKENS_MEAN, "response_length/mean"),
    (&keys::TOKENS_MAX, "response_length/max"),
    (&keys::TRUNCATED, "response_length/clip_ratio"),
    (&keys::TIME_GENERATE, "timing_s/gen"),
    (&keys::TIME_SCORE_EXPOSED, "timing_s/reward"),
    (&keys::TIME_STEP, "timing_s/step"),
    (&keys::TIME_STEP, "perf/time_per_step"),
    (&keys::MFU, "perf/mfu/actor"),
    (&keys::PEAK_MEMORY, "perf/max_memory_allocated_gb"),
    (&keys::STEP, "training/global_step"),
    (&keys::KL_SAMPLER, "rollout_corr/k3_kl"),
];

const TRL: &[AliasPair] = &[
    (&keys::REWARD_MEAN, "reward"),
    (&keys::REWARD_STD, "reward_std"),
    (&keys::ZERO_SPREAD, "frac_reward_zero_std"),
    (&keys::REWARD_PART, "rewards/<part>/mean"),
    (&keys::REWARD_PART_STD, "rewards/<part>/std"),
    (&keys::TOKENS_MEAN, "completions/mean_length"),
    (&keys::TOKENS_MAX, "completions/max_length"),
    (&keys::TRUNCATED, "completions/clipped_ratio"),
    (&keys::KL_REF, "kl"),
    (&keys::ENTROPY, "entropy"),
    (&keys::POLICY_LOSS, "policy_loss"),
    (&keys::CLIP_LOW, "clip_ratio/low_mean"),
    (&keys::CLIP_HIGH, "clip_ratio/high_mean"),
    (&keys::TIME_STEP, "step_time"),
    (&keys::GRAD_NORM, "grad_norm"),
    (&keys::LR, "learning_rate"),
    (&keys::DPO_LOSS, "loss"),
    (&keys::DPO_ACCURACY, "rewards/accuracies"),
    (&keys::DPO_MARGIN, "rewards/margins"),
    (&keys::DPO_CHOSEN_LOGP, "logps/chosen"),
    (&keys::DPO_REJECTED_LOGP, "logps/rejected"),
];

impl AliasSet {
    fn pairs(self) -> &'static [AliasPair] {
        match self {
            AliasSet::Verl => VERL,
            AliasSet::Trl => TRL,
        }
    }
}

/// The further names of a training step's metrics, with their values.
#[must_use]
pub fn aliases(metrics: &Metrics, sets: &[AliasSet]) -> Vec<(String, f64)> {
    if metrics.held_out_set().is_some() {
        return Vec::new();
    }
    let mut out = Vec::new();
    for (own, theirs) in sets.iter().flat_map(|set| set.pairs()) {
        for (name, value) in metrics.iter() {
            if keys::declared(name) == Some(*own) {
                let part = own.names(name).next().unwrap_or_default();
                out.push((theirs.replace("<part>", part), value));
            }
        }
    }
    // TRL calls SFT's loss and DPO's the same.
    let sft = metrics
        .get(&keys::SFT_LOSS)
        .filter(|_| metrics.get(&keys::DPO_LOSS).is_none());
    if let Some(loss) = sft.filter(|_| sets.contains(&AliasSet::Trl)) {
        out.push(("loss".to_owned(), loss));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_verl_and_trl_have_our_values() {
        let mut metrics = Metrics::new();
        metrics.set(&keys::REWARD_MEAN, 0.5);
        metrics.set_of(&keys::REWARD_PART, &["ssim"], 0.25);
        metrics.set_of(&keys::REWARD_TASK_PART, &["draw", "ssim"], 0.75);
        metrics.set(&keys::GRAD_NORM, 2.0);
        metrics.set(&keys::SFT_LOSS, 3.0);
        let found = aliases(&metrics, &[AliasSet::Verl, AliasSet::Trl]);
        let found: Vec<(&str, f64)> = found
            .iter()
            .map(|(name, value)| (name.as_str(), *value))
            .collect();
        assert_eq!(
            found,
            [
                ("actor/grad_norm", 2.0),
                ("critic/score/mean", 0.5),
                ("critic/rewards/mean", 0.5),
                ("reward", 0.5),
                ("rewards/ssim/mean", 0.25),
                ("grad_norm", 2.0),
                ("loss", 3.0),
            ]
        );
        assert!(aliases(&metrics, &[]).is_empty());
        assert!(aliases(&metrics.held_out("heldout"), &[AliasSet::Trl]).is_empty());
    }

    #[test]
    fn no_alias_is_a_name_of_ours() {
        for (_, theirs) in VERL.iter().chain(TRL) {
            let name = theirs.replace("<part>", "ssim");
            assert!(keys::declared(&name).is_none(), "{name}");
        }
    }
}
