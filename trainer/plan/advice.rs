//! What to change where a stage does not fit: each key alone, the sum that it would come to, and the longest sequence
//! that fits.

use models::Recompute;

use super::footprint::{RowLengths, StageShape, gib};
use crate::config::{AlgorithmConfig, Config, Dtype, StageConfig};
use crate::memory::Learning;

/// A change of one key.
struct PlanChange {
    /// The key and its value.
    key: String,
    config: Config,
    stage: StageConfig,
    learning: Learning,
    lengths: RowLengths,
}

/// Why `shape` does not fit its hardware and what would; none where it fits, or where the memory is not known.
pub(super) fn advice(shape: &StageShape) -> Option<String> {
    let room = shape.hardware.bytes?;
    let needed = shape.footprint().peak();
    if needed <= room {
        return None;
    }
    let mut said = shape.lacks("rank", (needed, room));
    let changes = changes(shape);
    let with: Vec<(&str, i64)> = changes
        .iter()
        .map(|change| (change.key.as_str(), change.shape(shape).footprint().peak()))
        .filter(|(_, bytes)| *bytes < needed - needed / 100)
        .collect();
    let listed = |fits: bool| {
        let of = with.iter().filter(|(_, bytes)| (*bytes <= room) == fits);
        let words = of.map(|(key, bytes)| format!("{key} ({})", gib(*bytes)));
        words.collect::<Vec<_>>().join(", ")
    };
    let (enough, less) = (listed(true), listed(false));
    match (enough.is_empty(), less.is_empty()) {
        (false, _) => said.push_str(&format!(" Any of these makes it fit: {enough}.")),
        (true, false) => said.push_str(&format!(" These lower it, none alone enough: {less}.")),
        (true, true) => {
            said.push_str(" No key lowers it: take a smaller network or larger devices.")
        }
    }
    if let Some(longest) = longest_that_fits(shape, room) {
        said.push_str(&longest);
    }
    Some(said)
}

/// Keys that lower what a stage holds, each alone.
fn changes(shape: &StageShape) -> Vec<PlanChange> {
    let (config, stage) = (shape.config, shape.stage);
    let name = stage.name();
    let mut out = Vec::new();
    let plain = |key: String| PlanChange {
        key,
        config: config.clone(),
        stage: stage.clone(),
        learning: shape.learning.clone(),
        lengths: shape.lengths,
    };
    let batch = &stage.common.batch;
    if batch.recompute == Recompute::None {
        let mut change = plain(format!("stages.{name}.batch.recompute: blocks"));
        change.stage.common.batch.recompute = Recompute::Blocks;
        out.push(change);
    }
    for part in [2, 4, 8] {
        let tokens = batch.micro_tokens / part;
        if tokens as i64 >= shape.footprint().longest {
            let mut change = plain(format!("stages.{name}.batch.micro_tokens: {tokens}"));
            change.stage.common.batch.micro_tokens = tokens;
            out.push(change);
        }
    }
    let mut change = plain(format!("stages.{name}.batch.logit_rows: 64"));
    change.stage.common.batch.logit_rows = 64;
    out.push(change);
    for part in [2, 4, 8] {
        let mut change = plain(String::new());
        if let AlgorithmConfig::Grpo(options) = &mut change.stage.algorithm {
            let all = batch.size.div_ceil(shape.hardware.ranks.max(1)) * options.rollout.group_size;
            let slots = match options.rollout.slots {
                0 => all,
                slots => slots.min(all),
            } / part;
            if slots > 0 {
                options.rollout.slots = slots;
                change.key = format!("stages.{name}.rollout.slots: {slots}");
                out.push(change);
            }
        }
    }
    if shape.hardware.ranks > 1 {
        for level in config.sharding.stage + 1..=3 {
            let mut change = plain(format!("sharding.stage: {level}"));
            change.config.sharding.stage = level;
            out.push(change);
        }
    }
    if shape.hardware.gpu && !config.sharding.offload_optimizer {
        let mut change = plain("sharding.offload_optimizer: true".into());
        change.config.sharding.offload_optimizer = true;
        out.push(change);
    }
    let compares = stage.algorithm.options().needs().reference_policy;
    if shape.hardware.gpu && compares && !config.sharding.offload_reference {
        let mut change = plain("sharding.offload_reference: true".into());
        change.config.sharding.offload_reference = true;
        out.push(change);
    }
    if config.dtype == Dtype::Float32 && stage.common.lora.is_none() {
        let mut change = plain("dtype: bfloat16".into());
        change.config.dtype = Dtype::Bfloat16;
        let frozen = &config.model.freeze;
        change.learning = Learning::of(shape.shape, frozen, Dtype::Bfloat16);
        out.push(change);
    }
    if stage.common.lora.is_none() {
        let lora = models::LoraConfig::default();
        if let Ok(units) = shape.shape.adapter_units(&lora) {
            let mut change = plain(format!("stages.{name}.lora: {{rank: {}}}", lora.rank));
            change.learning = Learning::adapters(shape.shape, units, config.dtype);
            change.stage.common.lora = Some(lora);
            out.push(change);
        }
    }
    out
}

impl PlanChange {
    /// The stage with it.
    fn shape<'a>(&'a self, of: &StageShape<'a>) -> StageShape<'a> {
        StageShape {
            config: &self.config,
            stage: &self.stage,
            learning: &self.learning,
            lengths: self.lengths,
            ..*of
        }
    }
}

/// Where even a sequence that goes alone does not fit: the longest that does.
fn longest_that_fits(shape: &StageShape, room: i64) -> Option<String> {
    let alone = |tokens: i64| {
        let mut stage = shape.stage.clone();
        stage.common.batch.micro_tokens = 1;
        stage.common.batch.size = 1;
        let prompt = shape.prompt().min(tokens - 1).max(0);
        let answer = tokens - prompt;
        if let AlgorithmConfig::Grpo(options) = &mut stage.algorithm {
            options.rollout.max_new_tokens = answer as usize;
        }
        let own = StageShape {
            stage: &stage,
            lengths: RowLengths {
                prompt,
                answer,
                ..shape.lengths
            },
            ..*shape
        };
        let parts = own.footprint();
        let held = parts.held.iter().chain(&parts.learning);
        let here = held.filter(|part| !part.on_host);
        here.map(|part| part.bytes).sum::<i64>() <= room
    };
    let longest = shape.footprint().longest;
    if alone(longest) {
        return None;
    }
    let key = "prompt and answer together";
    let least = 2;
    if !alone(least) {
        // What stays is too much already.
        return None;
    }
    let (mut low, mut high) = (least, longest);
    while high - low > 1 {
        let middle = (low + high) / 2;
        match alone(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    Some(format!(
        " A sequence is computed whole, and one of {longest} tokens ({key}) does not fit: the longest that does has {low}."
    ))
}
