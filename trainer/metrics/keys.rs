//! Every metric, declared once: emitters, report, console and reference use these keys. Names are
//! `area/quantity[/stat]` with the unit in the name; `<..>` stands for a name of the user's.

/// A declared metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, or the pattern of its names.
    pub name: &'static str,
    /// What it says, for the reference.
    pub meaning: &'static str,
}

impl Metric {
    /// The name with its `<..>` filled in, in order.
    pub fn of(&self, names: &[&str]) -> String {
        let mut names = names.iter();
        let parts = self
            .name
            .split('/')
            .map(|part| match part.starts_with('<') {
                true => names.next().copied().unwrap_or(part),
                false => part,
            });
        parts.collect::<Vec<_>>().join("/")
    }

    /// What stands for the `<..>` in `name`, one of this metric's.
    pub fn names<'a>(&self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let parts = self.name.split('/').zip(name.split('/'));
        parts
            .filter(|(own, _)| own.starts_with('<'))
            .map(|(_, part)| part)
    }

    /// Whether `name` is this metric's, with any names for `<..>`.
    pub fn matches(&self, name: &str) -> bool {
        let (mut ours, mut theirs) = (self.name.split('/'), name.split('/'));
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => return true,
                (Some(own), Some(part)) if own.starts_with('<') || own == part => {}
                _ => return false,
            }
        }
    }
}

macro_rules! metrics {
    ($($key:ident = $name:literal, $meaning:literal;)*) => {
        $(#[doc = concat!("`", $name, "`: ", $meaning)]
        pub const $key: Metric = Metric { name: $name, meaning: $meaning };)*

        /// Every metric, in the reference's order.
        pub const ALL: &[Metric] = &[$($key),*];
    };
}

metrics! {
    REWARD_MEAN = "reward/total/mean", "mean total reward of the step's completions";
    REWARD_STD = "reward/total/std", "its standard deviation over all completions";
    REWARD_PART = "reward/<part>/mean", "mean of one reward before its weight";
    REWARD_PART_STD = "reward/<part>/std", "its standard deviation over the completions that have it";
    REWARD_TASK = "reward/<task>/total/mean", "mean total reward of one task's completions";
    REWARD_TASK_STD = "reward/<task>/total/std", "its standard deviation over the task's completions";
    REWARD_TASK_PART = "reward/<task>/<part>/mean", "mean of one reward within one task";
    METRIC = "metric/<metric>/mean", "mean of one of the tasks' metrics, which no total holds, over the rows it was measured on";
    METRIC_TASK = "metric/<task>/<metric>/mean", "the same within one task";
    UNSCORED = "reward/unscored_frac", "share of completions that could not be scored, because a judge, an encoder or a service failed: they count in no mean";
    ZERO_SPREAD = "reward/zero_spread_frac", "share of groups whose rewards are all equal";
    SFT_LOSS = "sft/loss", "mean negative log-probability of the targets' tokens (DPO: of the chosen answers'), natural log";
    DPO_LOSS = "dpo/loss", "the loss: a mean over the step's pairs, with the SFT term times its weight";
    DPO_ACCURACY = "dpo/accuracy", "share of pairs whose chosen answer has the larger log-ratio to the reference policy (TRL's rewards/accuracies)";
    DPO_MARGIN = "dpo/margin", "mean of beta times the difference of chosen and rejected log-ratios, sums over tokens under every loss (TRL's rewards/margins)";
    DPO_CHOSEN_LOGP = "dpo/chosen_logp", "mean log-probability of a chosen answer, summed over its tokens, natural log (TRL's logps/chosen)";
    DPO_REJECTED_LOGP = "dpo/rejected_logp", "the same of rejected answers (TRL's logps/rejected)";
    VALID = "svg/valid_frac", "share of completions of the asked form whose SVG renders, of tasks whose completions are SVG";
    VALID_TASK = "svg/<task>/valid_frac", "the same within one task";
    REASON = "svg/reason/<reason>_frac", "share of completions whose SVG is invalid for this reason (`svg/reason/no_svg_frac`), of tasks whose completions are SVG; absent where none is";
    DEADLINE_HITS = "svg/deadline_hits", "completions whose rendering was ended by the deadline";
    RENDER_MS = "svg/render_ms/mean", "mean milliseconds spent rendering a completion";
    TOKENS_MEAN = "completion/tokens/mean", "mean completion length";
    TOKENS_MAX = "completion/tokens/max", "longest completion";
    TOKENS_LIMIT = "completion/tokens/limit", "tokens that the step's completions could have at most";
    TRUNCATED = "completion/truncated_frac", "share of completions that reached the maximum length";
    POLICY_LOSS = "policy/loss", "the policy loss, without KL and entropy terms, a mean over the step's updates";
    ENTROPY = "policy/entropy", "mean entropy of the policy's next-token distributions, nats";
    KL_REF = "policy/kl_ref", "estimated KL divergence to the reference policy per token";
    KL_SAMPLER = "policy/kl_sampler", "k3 estimate of the gap between sampler and learner per token";
    RATIO = "policy/ratio_mean", "mean importance ratio before clipping";
    RATIO_RAW = "policy/ratio_raw_mean", "mean of exp(learner - sampler), the learner before the update, before anything is truncated, masked or clipped";
    KL_MISMATCH = "policy/kl_mismatch", "k3 estimate per token of the KL divergence between sampler and learner before the update: what `correction.max_kl_mismatch` bounds";
    CLIP_LOW = "policy/clip_low_frac", "share of tokens clipped from below";
    CLIP_HIGH = "policy/clip_high_frac", "share of tokens clipped from above";
    LR = "optim/lr", "learning rate";
    GRAD_NORM = "optim/grad_norm", "global gradient norm before clipping";
    SKIPPED = "optim/skipped", "updates refused because loss or gradient was not finite";
    TIME_GENERATE = "time/generate_s", "seconds until the step's last completion ended";
    TIME_SCORE_EXPOSED = "time/score_exposed_s", "seconds of scoring that decoding did not hide";
    TIME_FORWARD_BACKWARD = "time/forward_backward_s", "seconds that the learner computed before gradients were summed";
    TIME_REDUCE = "time/reduce_s", "seconds of summing gradients over ranks";
    TIME_OPTIM = "time/optim_s", "seconds of clipping and the optimizer";
    TIME_STEP = "time/step_s", "seconds of the whole step";
    TOKENS_PER_S = "perf/tokens_per_s", "tokens sampled (GRPO) or learnt from (SFT, DPO) per second of the step";
    ROLLOUTS_PER_S = "perf/rollouts_per_s", "completions per second of the step";
    S_PER_SVG = "perf/s_per_svg", "seconds of sampling (time/generate_s) for each completion whose SVG renders; absent where none does";
    MFU = "perf/mfu", "model FLOPs of this rank's learning over what its device does at most in time/forward_backward_s";
    PICTURES = "perf/pictures", "pictures that went through this rank's vision tower in the step, for sampling and learning";
    PREFILLS = "perf/prefills", "prompts that this rank ran for sampling: one a group";
    SYNC_S = "engine/sync_s", "seconds of giving the servers of rollout.endpoints or the dedicated samplers the step's weights, probes and answers among them";
    SYNC_BYTES = "engine/sync_bytes", "bytes that this took";
    PROBE_GAP = "engine/probe_gap", "largest difference between a server's log-probability and the learner's in the greedy probes after it, natural log";
    RETRIED = "engine/retried", "completions that were asked for again, since the stage was started or resumed, because a server or a sampler failed";
    REDRAWN = "engine/redrawn", "completions that were drawn anew, since then, because they held an id that the policy never draws";
    DROPPED = "engine/dropped", "completions that new weights dropped and that were asked for again, since then (`rollout.partial: abort`)";
    QUEUE = "engine/queue", "batches ahead of the step when it learnt, sampled or under way";
    STALENESS = "rollout/staleness/mean", "mean number of the policy's updates between the weights that wrote a completion's first token and those that learnt from it";
    PEAK_MEMORY = "perf/peak_memory_gib", "largest memory so far: the process's, or the GPU allocator's";
    STEP = "progress/step", "steps of the stage done";
    PROMPTS = "progress/prompts", "examples drawn in the stage";
    TOKENS = "progress/tokens", "completion tokens learnt from in the stage";
    LONG_PROMPTS = "data/long_prompts", "prompts left out for their length in this step";
    REFERENCE_LENGTH = "data/<task>/reference_length/mean", "mean characters of the references of the step's prompts, as the curriculum measures them";
    BUCKET = "data/<task>/bucket/mean", "mean number, from 1, of the curriculum's buckets that the step's prompts come from";
    SPREAD = "data/<task>/spread/<bucket>", "what the curriculum `observed` knows of a bucket: the running mean of its groups' spread of reward";
    JUDGE_ASKED = "judge/asked", "completions that the judges of all ranks were asked about since the run was started or resumed";
    JUDGE_FAILED = "judge/failed", "of them, those without an answer that could be understood";
    JUDGE_COST = "judge/cost", "their price so far";
    EVAL = "eval/<set>/<metric>", "the metric on held-out prompts, in a row of its own; for a benchmark, by its name as the set, its own numbers (`eval/sarena-icon/final`) and those of its tasks (`eval/sarena-icon/text2svg/clip_t2i`)";
}

/// How evaluations' names begin.
const HELD_OUT: &str = "eval/";

/// How the names of sets of held-out prompts begin; others are benchmarks'.
const HELD_OUT_SETS: &str = "heldout";

/// Whether a metric of this name stands in an evaluation's row.
pub fn is_evaluation(name: &str) -> bool {
    name.starts_with(HELD_OUT)
}

/// The name of `metric` (a whole name) on the held-out set `set`.
pub fn held_out(set: &str, metric: &str) -> String {
    format!("{HELD_OUT}{set}/{metric}")
}

/// The set and the metric of a held-out name.
pub fn of_held_out(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(HELD_OUT)?.split_once('/')
}

/// The declared metric that a name of metrics.jsonl belongs to: one written out whole before a pattern.
pub fn declared(name: &str) -> Option<&'static Metric> {
    let name = match of_held_out(name) {
        // A benchmark's numbers have names of their own.
        Some((set, _)) if !set.starts_with(HELD_OUT_SETS) => return Some(&EVAL),
        Some((_, metric)) => metric,
        None => name,
    };
    let whole = ALL.iter().find(|metric| metric.name == name);
    whole.or_else(|| {
        ALL.iter()
            .find(|metric| *metric != &EVAL && metric.matches(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_and_found_again() {
        assert_eq!(
            REWARD_TASK_PART.of(&["draw", "ssim"]),
            "reward/draw/ssim/mean"
        );
        assert_eq!(declared("reward/draw/ssim/mean"), Some(&REWARD_TASK_PART));
        assert_eq!(declared("reward/draw/total/mean"), Some(&REWARD_TASK));
        assert_eq!(declared("reward/total/mean"), Some(&REWARD_MEAN));
        assert_eq!(declared("eval/heldout/svg/valid_frac"), Some(&VALID));
        assert_eq!(declared("eval/heldout/text2svg/fid"), None);
        assert_eq!(declared("eval/sarena-icon/text2svg/fid"), Some(&EVAL));
        assert_eq!(declared("reward/a/b/c/mean"), None);
        assert_eq!(declared("policy/los"), None);
    }

    #[test]
    fn a_metric_is_declared_once() {
        for (at, metric) in ALL.iter().enumerate() {
            assert!(!ALL[..at].iter().any(|other| other.name == metric.name));
        }
    }
}
