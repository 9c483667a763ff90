//! What every stage has: batch, evaluation, checkpoints, cadence.

use models::{LoraConfig, Recompute};
use rollout::data::CurriculumConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::optimizer::OptimizerConfig;
use super::suite::StageSuite;

/// What every stage has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageCommon {
    /// Name of the stage, unique in the run.
    pub name: String,
    /// Optimizer steps of SFT and DPO; rollout batches of GRPO, each followed by `updates` optimizer steps; >= 1.
    pub steps: u64,
    /// The stage's length in passes over its rows instead of steps, > 0, fractions as well: one epoch is as many draws
    /// as the stage's sources have rows to train on, held-out and bad rows apart (bad rows of large files count until
    /// they are drawn), whatever their weights; a step draws `batch.size` of them (rows of SFT, prompts of GRPO), and the
    /// last one is begun when rows are left. The steps that this comes to are told at the start, stand as `steps` in
    /// config.resolved.yaml, and are what warm-up and schedules go by. Not together with `steps`.
    #[serde(default)]
    pub epochs: Option<f64>,
    /// Order in which examples are drawn.
    pub curriculum: CurriculumConfig,
    /// Optimizer and schedule.
    pub optimizer: OptimizerConfig,
    /// Examples or prompts of a step, and micro-batches.
    pub batch: BatchConfig,
    /// Held-out evaluation.
    pub eval: EvalConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// Whether the schedules of reward weights go on from the steps of the stages of this algorithm before it; otherwise
    /// they begin anew. Evaluations are always scored with the weights that a schedule ends with.
    #[serde(default)]
    pub continue_schedules: bool,
    /// Low-rank adapters (LoRA) in place of full training: the policy's own weights stay as they are, and small matrices
    /// beside its linear layers learn, float32 whatever `dtype` says. They begin without effect, drawn anew in each stage.
    /// Where a loss compares with the stage's first policy, that is the policy without its adapters: no second copy is held.
    /// A checkpoint's root holds PEFT's adapter_config.json and adapter_model.safetensors and no weights; the weights
    /// beside them are `model.path`, the last stage's `final/`, or else written once as RUN/lora_base/STAGE. The next
    /// stage begins with the adapters merged into the weights, and `svgrl merge` writes such a folder.
    #[serde(default)]
    pub lora: Option<LoraConfig>,
}

/// How much is learnt from at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Examples of an SFT step, prompts of a GRPO step, or pairs of a DPO step, over all ranks; >= 1.
    pub size: usize,
    /// Tokens of a micro-batch, packed without padding; >= 1. A longer sequence goes alone.
    pub micro_tokens: usize,
    /// Rows of logits that exist at a time; 0 takes as many as fit in 64 million numbers.
    pub logit_rows: usize,
    /// Which activations are computed anew in the backward pass.
    pub recompute: Recompute,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            size: 32,
            micro_tokens: 8192,
            logit_rows: 0,
            recompute: Recompute::None,
        }
    }
}

/// Held-out evaluation: completions of the sources' held-out rows, scored by their tasks. Each completion is a row of
/// RUN/samples/STAGE/eval/SET/step_NNNNNN.jsonl with the keys of training samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Steps between evaluations; 0: only before the first step and after the last, if there is anything to evaluate.
    pub every: u64,
    /// Held-out prompts, evenly spread over the held-out rows and the same each time; 0: none.
    pub prompts: usize,
    /// Completions of each prompt, >= 1.
    pub samples: usize,
    /// Sampling temperature, > 0.
    pub temperature: f64,
    /// Whether a greedy completion of each prompt is scored too (`eval/heldout_greedy/...`).
    pub greedy: bool,
    /// Whether prompts with pictures are scored once more with the picture of another held-out
    /// prompt of their task (`eval/heldout_swapped/...`), at the same temperature: a policy that
    /// looks does worse.
    pub swap_images: bool,
    /// Longest completion, in tokens; 0 takes the stage's (SFT, DPO: 512).
    pub max_new_tokens: usize,
    /// Name of the task whose rubric and metrics score the completions; absent: each row's own task.
    pub rubric: Option<String>,
    /// A benchmark that is answered and judged besides, at the same times, with or without held-out prompts.
    pub suite: Option<StageSuite>,
    /// Of each set, how many drawings, from the first row that renders on, are kept as pictures beside the rows:
    /// RUN/samples/STAGE/eval/SET/step_NNNNNN/ROW.png, ROW counting from 0, the longer side 256 pixels; 0: none.
    pub pictures: usize,
    /// The stage ends early when this many evaluations in a row bring no better value of `checkpoint.best`'s metric than
    /// the best one so far; 0: it makes all its steps. The evaluation before the first step does not count.
    pub stop_after: u64,
}

impl EvalConfig {
    /// Whether anything is evaluated.
    pub fn evaluates(&self) -> bool {
        self.prompts > 0 || self.suite.is_some()
    }

    /// The names of the sets that it makes rows of, as far as the rows allow.
    pub fn sets(&self) -> Vec<&'static str> {
        let mut sets = vec![Self::SAMPLED];
        sets.extend(self.greedy.then_some(Self::GREEDY));
        sets.extend(self.swap_images.then_some(Self::SWAPPED));
        sets
    }

    /// Held-out prompts, sampled.
    pub const SAMPLED: &'static str = "heldout";

    /// The same, greedily.
    pub const GREEDY: &'static str = "heldout_greedy";

    /// Held-out prompts with another one's picture.
    pub const SWAPPED: &'static str = "heldout_swapped";
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every: 0,
            prompts: 0,
            samples: 1,
            temperature: 1.0,
            greedy: true,
            swap_images: false,
            max_new_tokens: 0,
            rubric: None,
            suite: None,
            pictures: 16,
            stop_after: 0,
        }
    }
}

/// When checkpoints are written and which are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; 0 writes none on the way.
    pub every: u64,
    /// Newest checkpoints of the stage that are kept, >= 1.
    pub keep_last: usize,
    /// Checkpoints at multiples of this step are kept for good; 0 keeps none.
    pub keep_every: u64,
    /// Whether the stage's end is written as `final/`; one with a successor always is.
    pub at_end: bool,
    /// Whether learning goes on while a checkpoint is written, from a copy in the host's memory: of the weights on rank
    /// 0, of each rank's part of the optimizer's state. `final/` is waited for.
    pub background: bool,
    /// Which checkpoint is the stage's best one: it is written when an evaluation after a step is better than all before
    /// it, kept whatever `keep_last` says until a better one is there, and named in checkpoints/STAGE/best.json. The
    /// evaluation before the first step does not count.
    pub best: Option<BestCheckpoint>,
}

/// What makes a checkpoint the best one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestCheckpoint {
    /// A held-out metric by its name in metrics.jsonl, such as `eval/heldout/reward/total/mean` or
    /// `eval/heldout_greedy/svg/valid_frac`; of evaluations that are equally good the earlier one stays the best.
    pub metric: String,
    /// Whether larger (`max`) or smaller (`min`) values are better.
    #[serde(default)]
    pub mode: BestMode,
}

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BestMode {
    /// Larger ones.
    #[default]
    Max,
    /// Smaller ones.
    Min,
}

impl BestMode {
    /// Whether `value` is better than `other`.
    pub fn is_better(self, value: f64, other: f64) -> bool {
        match self {
            Self::Max => value > other,
            Self::Min => value < other,
        }
    }
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        Self {
            every: 50,
            keep_last: 2,
            keep_every: 0,
            at_end: true,
            background: true,
            best: None,
        }
    }
}
