//! What a stage holds on one rank, by part and by what the rank does at the time.

use models::{Component, DecoderConfig, KV_PAGE};

use super::activations::{self, MicroRows, PassKind};
use super::encoders::encoder_memory;
use super::hardware::Hardware;
use crate::config::{Config, Dtype, StageConfig};
use crate::learn::HeadOptions;
use crate::memory::{Learning, TrainingMemory};

/// Tokens of a stage's longest rows, as they were found in the data and bounded by the config.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowLengths {
    /// Of a prompt.
    pub prompt: i64,
    /// Of an answer that is imitated, or of a pair the longer one; 0 where none is.
    pub answer: i64,
    /// Patches of a prompt's pictures.
    pub patches: i64,
}

/// One part, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPart {
    /// What it is.
    pub name: &'static str,
    /// How much.
    pub bytes: i64,
    /// Whether it lies in the host's memory although the device is a GPU.
    pub on_host: bool,
}

/// What a rank holds in a stage.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    /// All the time.
    pub held: Vec<MemoryPart>,
    /// While it samples.
    pub sampling: Vec<MemoryPart>,
    /// While it learns.
    pub learning: Vec<MemoryPart>,
    /// The longest sequence, in tokens.
    pub longest: i64,
    /// Rows of a micro-batch, at most.
    pub rows: i64,
}

impl Footprint {
    /// The most bytes on the device at a time.
    pub fn peak(&self) -> i64 {
        let sum = |parts: &[MemoryPart]| -> i64 {
            let own = parts.iter().filter(|part| !part.on_host);
            own.map(|part| part.bytes).sum()
        };
        sum(&self.held) + sum(&self.sampling).max(sum(&self.learning))
    }
}

/// What a stage's footprint is computed from.
#[derive(Clone, Copy)]
pub struct StageShape<'a> {
    /// The run's config.
    pub config: &'a Config,
    /// The stage.
    pub stage: &'a StageConfig,
    /// The policy.
    pub shape: &'a DecoderConfig,
    /// What of it learns.
    pub learning: &'a Learning,
    /// The stage's rows.
    pub lengths: RowLengths,
    /// What it runs on.
    pub hardware: &'a Hardware,
}

pub(super) fn part(name: &'static str, bytes: i64) -> MemoryPart {
    MemoryPart {
        name,
        bytes,
        on_host: false,
    }
}

impl StageShape<'_> {
    /// That each `who` needs more than its device has.
    pub(super) fn lacks(&self, who: &str, (needed, room): (i64, i64)) -> String {
        format!(
            "stages.{}: needs {} on each {who}, {} has {}.",
            self.stage.name(),
            gib(needed),
            self.hardware.name,
            gib(room)
        )
    }

    pub(super) fn element(&self) -> i64 {
        match self.config.dtype {
            Dtype::Float32 => 4,
            Dtype::Bfloat16 => 2,
        }
    }

    fn pass(&self) -> PassKind<'_> {
        PassKind {
            dtype: self.config.dtype,
            gpu: self.hardware.gpu,
            recompute: self.stage.common.batch.recompute,
            lora: self.stage.common.lora.as_ref(),
        }
    }

    /// Tokens of the longest prompt.
    pub(super) fn prompt(&self) -> i64 {
        self.lengths.prompt
    }

    /// Answers to a prompt.
    pub(super) fn answers(&self) -> i64 {
        let options = self.stage.algorithm.options();
        match options.rollout().filter(|_| options.pairs().is_none()) {
            Some(_) => options.samples() as i64,
            None if options.needs().pair || options.pairs().is_some() => 2,
            None => 1,
        }
    }

    /// Tokens of an answer, at most.
    pub(super) fn answer(&self) -> i64 {
        let options = self.stage.algorithm.options();
        match options.rollout().filter(|_| options.pairs().is_none()) {
            Some(rollout) => rollout.max_new_tokens as i64,
            None => self.lengths.answer,
        }
    }

    /// Prompts, or rows, of a step on one rank.
    pub(super) fn own(&self) -> i64 {
        let (size, ranks) = (self.stage.common.batch.size, self.hardware.ranks);
        size.div_ceil(ranks.max(1)) as i64
    }

    /// The rows of a micro-batch.
    pub(super) fn packed(&self) -> MicroRows {
        let (prompt, answers, answer) = (self.prompt(), self.answers(), self.answer());
        let longest = prompt + answer;
        // Prompts are computed once for their siblings.
        let group = prompt + answers * answer;
        let budget = self.stage.common.batch.micro_tokens as i64;
        let together = if answers == 2 { group } else { longest };
        let rows = budget.min(self.own() * group).max(together);
        let completions = (rows * answers / group.max(1)).max(1);
        MicroRows {
            rows,
            targets: (completions * answer).min(rows),
            keys: rows + completions * prompt,
            longest,
        }
    }

    /// What the stage holds on a rank.
    pub fn footprint(&self) -> Footprint {
        let (config, shape) = (self.config, self.shape);
        let (sharding, gpu) = (&config.sharding, self.hardware.gpu);
        let world = (sharding, self.hardware.ranks);
        let memory = TrainingMemory::of_rank(shape, self.learning, world);
        let mut held = vec![
            part("weights", memory.weights),
            part("gradients", memory.gradients),
            MemoryPart {
                on_host: gpu && sharding.offload_optimizer,
                ..part("optimizer", memory.optimizer)
            },
        ];
        let lora = self.stage.common.lora.is_some();
        if self.stage.algorithm.options().needs().reference_policy && !lora {
            held.push(MemoryPart {
                on_host: gpu && sharding.offload_reference,
                ..part("reference policy", memory.weights)
            });
        }
        let mut passes = 0;
        if config.rewards.endpoint.is_none() {
            let mut weights = 0;
            for encoder in config.encoders.values() {
                let own = encoder_memory(encoder, gpu);
                weights += own.weights;
                passes = passes.max(own.pass);
            }
            if weights > 0 {
                held.push(part("encoders", weights));
            }
        }
        let rows = self.packed();
        let mut learning = self.learning_parts(rows);
        if memory.moving > 0 {
            learning.push(part("units on the move", memory.moving));
        }
        let mut sampling = self.sampling_parts();
        if passes > 0 && !sampling.is_empty() {
            sampling.push(part("encoders' passes", passes));
        }
        let mut footprint = Footprint {
            held,
            sampling,
            learning,
            longest: rows.longest,
            rows: rows.rows,
        };
        let workspace = self.workspace(footprint.peak());
        footprint.held.push(part("workspace", workspace));
        footprint
    }

    fn learning_parts(&self, rows: MicroRows) -> Vec<MemoryPart> {
        let (shape, common) = (self.shape, &self.stage.common);
        let (kept, block) = activations::learning(shape, rows, &self.pass());
        let options = HeadOptions {
            temperature: 1.0,
            rows: common.batch.logit_rows,
        };
        let entropy = self.stage.algorithm.options().rollout().is_some();
        let head = activations::head(shape, rows.targets, (&options, entropy, self.config.dtype));
        let mut parts = vec![part("activations", kept)];
        // The head is done before the way back begins.
        match head > block {
            true => parts.push(part("vocabulary head", head)),
            false => parts.push(part("a block on its way back", block)),
        }
        if let Some(vision) = &shape.vision
            && self.lengths.patches > 0
        {
            let shown = (rows.rows / rows.longest.max(1)).max(1).min(self.own());
            let learns = !self.config.model.freeze.contains(&Component::Vision);
            let bytes = activations::tower(
                &vision.tower,
                shown * self.lengths.patches,
                (learns, self.config.dtype),
            );
            parts.push(part("vision tower", bytes));
        }
        parts
    }

    fn sampling_parts(&self) -> Vec<MemoryPart> {
        let options = self.stage.algorithm.options();
        let mut parts = match options.rollout() {
            // Whoever samples has a memory of its own, and is given whole weights.
            Some(rollout) if rollout.is_elsewhere() => match self.config.sharding.stage {
                3 => return vec![part("gathered to be sent", self.learning.gathered())],
                _ => Vec::new(),
            },
            Some(rollout) => self.drawing_parts(self.hardware.ranks, rollout.slots),
            None => self.drawing_parts(self.hardware.ranks, 0),
        };
        if self.config.sharding.stage == 3 && !parts.is_empty() {
            parts.push(part("gathered to sample", self.learning.gathered()));
        }
        parts
    }

    /// What drawing takes where `world` processes share the work, `most_slots` completions at a time (0: all).
    pub(super) fn drawing_parts(&self, world: usize, most_slots: usize) -> Vec<MemoryPart> {
        let (shape, common) = (self.shape, &self.stage.common);
        let options = self.stage.algorithm.options();
        let eval = &common.eval;
        let world = world.max(1);
        let prompt = self.lengths.prompt;
        let most_tokens = options.rollout().map_or(0, |it| it.cache_tokens);
        // Prompts, completions of each, and their tokens: of a step, and of an evaluation.
        let step = options.rollout().map(|rollout| {
            (
                common.batch.size.div_ceil(world) as i64,
                options.samples() as i64,
                rollout.max_new_tokens as i64,
            )
        });
        let evaluated = (eval.prompts > 0).then(|| {
            (
                eval.prompts.div_ceil(world) as i64,
                eval.samples as i64,
                eval.max_new_tokens as i64,
            )
        });
        let head_dim = shape.num_kv_heads * shape.head_dim;
        let token = 2 * shape.num_layers * head_dim * self.element();
        let pages = |tokens: i64| (tokens + KV_PAGE - 1) / KV_PAGE * KV_PAGE;
        let mut parts = Vec::new();
        // The sum, the cache's part and the rest of the larger one.
        let mut most: Option<(i64, i64, i64)> = None;
        for (prompts, samples, new) in step.into_iter().chain(evaluated) {
            let all = prompts * samples;
            let slots = match most_slots as i64 {
                0 => all,
                slots => slots.min(all),
            };
            let tokens = prompts.min(slots) * pages(prompt) + slots * pages(new);
            let tokens = match most_tokens as i64 {
                0 => tokens,
                bound => tokens.min(bound),
            };
            let logits = 5 * 4 * slots * shape.vocab_size;
            let prefilled = (prompts * prompt).min(activations::PREFILL_ROWS.max(prompt));
            let prefill = activations::forward(shape, prefilled, &self.pass());
            let patches = prompts.min(slots) * self.lengths.patches;
            let seen = shape.vision.as_ref().map_or(0, |vision| {
                activations::tower(&vision.tower, patches, (false, self.config.dtype))
            });
            // On a GPU the numbers that completions are drawn by lie there.
            let drawn = if self.hardware.gpu {
                8 * slots * new
            } else {
                0
            };
            let work = logits.max(prefill).max(seen) + drawn;
            let sum = tokens * token + work;
            if most.is_none_or(|(before, ..)| sum > before) {
                most = Some((sum, tokens * token, work));
            }
        }
        if let Some((_, cache, work)) = most {
            parts.push(part("KV cache, at most", cache));
            parts.push(part("logits and prompts", work));
        }
        parts
    }

    /// What libraries take: on a GPU the driver's context, cuBLAS, NCCL's buffers and the allocator's gaps, on a CPU
    /// the packed matrices of its products.
    pub(super) fn workspace(&self, rest: i64) -> i64 {
        let mib = 1 << 20;
        match self.hardware.gpu {
            true => {
                let ranks = if self.hardware.ranks > 1 {
                    512 * mib
                } else {
                    0
                };
                700 * mib + ranks + rest / 50
            }
            // Blocks of up to 32 MiB that glibc keeps when they are free: 9 and 13 % of two measured runs.
            false => 32 * mib + rest / 10,
        }
    }
}

/// Bytes of a stage's checkpoint: weights, or adapters, and the optimizer's state of all ranks.
pub fn checkpoint_bytes(stage: &StageShape) -> i64 {
    let learn = stage.learning.parameters();
    let masters = if stage.learning.gathered() == 4 * learn {
        0
    } else {
        4
    };
    let weights = match stage.stage.common.lora {
        Some(_) => stage.learning.gathered(),
        None => stage.learning.gathered() + stage.learning.stays(),
    };
    weights + (8 + masters) * learn
}

/// How many of a stage's checkpoints are there at the end, at most.
pub fn checkpoints_kept(stage: &StageConfig) -> u64 {
    let common = &stage.common;
    let checkpoint = &common.checkpoint;
    let every = |every: u64| common.steps.checked_div(every).unwrap_or(0);
    let written = every(checkpoint.every);
    let last = match checkpoint.keep_last {
        0 => written,
        last => written.min(last as u64),
    };
    last + every(checkpoint.keep_every).min(written) + 1 + u64::from(checkpoint.best.is_some())
}

/// Bytes for people.
pub(super) fn gib(bytes: i64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1u32 << 30))
}
