//! Looking at a run without starting it: inputs, memory of each rank by part, tokens a step, disk; on this machine or
//! on hardware that is not here.
//!
//! Memory is told by formula (`activations`, `footprint`, [`TrainingMemory`](crate::TrainingMemory)). Left out: what
//! the program itself needs before it has a policy (libtorch, tokenizer, data), the renders' own processes, and gaps
//! between blocks of the allocator.

pub mod activations;
mod advice;
mod elsewhere;
mod encoders;
pub mod footprint;
mod hardware;
mod inputs;
mod measure;

use std::fmt::Write as _;

pub use hardware::Hardware;

use self::advice::advice;
use self::footprint::{MemoryPart, StageShape, checkpoint_bytes, checkpoints_kept, gib};
use self::inputs::{PlanInputs, inputs};
pub(crate) use self::inputs::{survey, tasks_without_rows};
use self::measure::stage_times;
use crate::TrainError;
use crate::config::{Config, StageConfig};
use crate::memory::Learning;
use crate::samplers::check_placement;

/// Opens what a config names, without loading weights: tokenizer, templates, data, and the prompts of up to a
/// thousand rows of every source. Gives what was left out of the data, and what the stages make of the rows'
/// lengths, a line each.
///
/// # Errors
/// The first thing that `run` would refuse.
pub fn check_inputs(config: &Config) -> Result<Vec<String>, TrainError> {
    let inputs = inputs(config)?;
    Ok(inputs.notes)
}

/// What a run will do and need, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPlan {
    /// A line each.
    pub text: String,
    /// Why it cannot be done on that hardware, and what to change: a paragraph each stage that does not fit.
    pub refusals: Vec<String>,
}

/// The plan of `config` for `hardware`, with `measures` with the time of its steps, from passes and token steps of its
/// shape that are run.
///
/// # Errors
/// Whatever [`check_inputs`] refuses; samplers whom no stage asks.
pub fn plan(config: &Config, hardware: Hardware, measures: bool) -> Result<RunPlan, TrainError> {
    if hardware.samplers > 0 {
        check_placement(config, Some(hardware.samplers))?;
    }
    let inputs = inputs(config)?;
    let config = &inputs.config;
    let learning = |index: usize| learning(&inputs, index);
    let mut out = PlanLines::default();
    opening(&mut out, &inputs, &hardware);
    let (mut refusals, mut disk) = (Vec::new(), 0);
    for (index, stage) in config.stages.iter().enumerate() {
        let learning = learning(index);
        let shape = StageShape {
            config,
            stage,
            shape: &inputs.shape,
            learning: &learning,
            lengths: inputs.lengths[index],
            hardware: &hardware,
        };
        stage_lines(&mut out, &inputs, &shape);
        if measures {
            time_line(&mut out, &shape)?;
        }
        refusals.extend(advice(&shape));
        refusals.extend(shape.sampler_advice());
        disk += checkpoint_bytes(&shape) * checkpoints_kept(stage) as i64;
    }
    out.line("disk: all checkpoints", gib(disk));
    Ok(RunPlan {
        text: out.text,
        refusals,
    })
}

/// What of the policy learns in stage `index`.
fn learning(inputs: &PlanInputs, index: usize) -> Learning {
    let (shape, config) = (&inputs.shape, &inputs.config);
    match &inputs.adapters[index] {
        Some(units) => Learning::adapters(shape, units.clone(), config.dtype),
        None => Learning::of(shape, &config.model.freeze, config.dtype),
    }
}

/// The plan's lines: a name, and what is said of it.
struct PlanLines {
    text: String,
}

impl Default for PlanLines {
    fn default() -> Self {
        Self {
            text: String::from("plan\n"),
        }
    }
}

impl PlanLines {
    fn line(&mut self, name: &str, text: impl AsRef<str>) {
        let _ = writeln!(self.text, "  {name:<28} {}", text.as_ref());
    }
}

/// What holds for all stages.
fn opening(out: &mut PlanLines, inputs: &PlanInputs, hardware: &Hardware) {
    let (config, shape) = (&inputs.config, &inputs.shape);
    let parameters = shape.parameters() as f64;
    out.line("parameters", format!("{:.1} M", parameters / 1e6));
    let frozen = &config.model.freeze;
    if !frozen.is_empty() {
        let learn = shape.parameters_without(frozen) as f64;
        out.line("parameters that learn", format!("{:.1} M", learn / 1e6));
    }
    let each = hardware.bytes.map_or_else(
        || "of unknown memory".to_owned(),
        |bytes| format!("of {}", gib(bytes)),
    );
    let count = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        more => format!("{more} {what}s"),
    };
    let ranks = count(hardware.ranks, "rank");
    let ranks = match (hardware.ranks, hardware.samplers) {
        (1, 0) => ranks,
        (_, 0) => format!("{ranks}, each"),
        (_, samplers) => format!("{ranks} and {}, each", count(samplers, "sampler")),
    };
    out.line("hardware", format!("{ranks} on {} {each}", hardware.name));
    if config.sharding.stage > 0 {
        let of = format!(
            "stage {} over {} ranks; memory is each one's",
            config.sharding.stage, hardware.ranks
        );
        out.line("sharding", of);
    }
    for source in inputs.catalog.summary() {
        out.line(
            &format!("data: {}", source.name),
            format!(
                "{} rows to train on, {} held out, {} left out by length, task {}",
                source.train, source.held_out, source.filtered, source.task
            ),
        );
    }
    for note in &inputs.notes {
        out.line("note", note);
    }
}

/// One stage: what it does, its memory by part, its disk.
fn stage_lines(out: &mut PlanLines, inputs: &PlanInputs, shape: &StageShape) {
    let (stage, config) = (shape.stage, shape.config);
    let options = stage.algorithm.options();
    let size = stage.common.batch.size;
    out.line(
        &format!("stage: {}", stage.name()),
        options.describe(&stage.common),
    );
    if let (Some(lora), Some(units)) = (&stage.common.lora, inputs.units(stage)) {
        let learn = units.iter().sum::<i64>() as f64 / 1e6;
        let rank = lora.rank;
        out.line(
            "adapters",
            format!("{learn:.1} M learn, rank {rank}, the weights stay as they are"),
        );
    }
    let footprint = shape.footprint();
    match options.rollout().filter(|_| options.samples() > 0) {
        Some(rollout) => {
            let rollouts = size * options.samples();
            out.line(
                "a step",
                format!(
                    "{rollouts} rollouts, at most {} tokens drawn, {} rows a pass on each rank",
                    rollouts * rollout.max_new_tokens,
                    footprint.rows
                ),
            );
        }
        None => out.line(
            "a step",
            format!(
                "at most {} tokens, {} rows a pass on each rank",
                size as i64 * footprint.longest,
                footprint.rows
            ),
        ),
    }
    let host = |part: &MemoryPart| if part.on_host { ", on the host" } else { "" };
    let mut parts = |when: &str, parts: &[MemoryPart]| {
        for part in parts {
            let name = format!("memory: {}", part.name);
            out.line(&name, format!("{}{}{when}", gib(part.bytes), host(part)));
        }
    };
    parts("", &footprint.held);
    parts(", while it samples", &footprint.sampling);
    parts(", while it learns", &footprint.learning);
    if options.needs().reference_policy && stage.common.lora.is_some() {
        out.line(
            "memory: reference policy",
            "none: the policy without its adapters",
        );
    }
    let of = shape
        .hardware
        .bytes
        .map(|bytes| format!(" of {}", gib(bytes)));
    let sum = footprint.peak();
    out.line(
        "memory: sum",
        format!("{}{} on each rank", gib(sum), of.unwrap_or_default()),
    );
    sampler_lines(out, shape);
    let common = &stage.common;
    let bytes = checkpoint_bytes(shape);
    if common.checkpoint.background && common.checkpoint.every > 0 {
        let ranks = shape.hardware.ranks.max(1) as i64;
        let optimizer = footprint.held.iter().find(|part| part.name == "optimizer");
        let optimizer = optimizer.map_or(0, |part| part.bytes);
        let shared = if config.sharding.stage > 0 {
            optimizer * ranks
        } else {
            optimizer
        };
        out.line(
            "host: copy for a checkpoint",
            gib(bytes - shared + optimizer),
        );
    }
    let kept = checkpoints_kept(stage);
    out.line(
        "disk: a checkpoint",
        format!("{}, at most {kept} of them kept", gib(bytes)),
    );
}

/// What whoever samples in the ranks' place takes.
fn sampler_lines(out: &mut PlanLines, shape: &StageShape) {
    if let Some(footprint) = shape.sampler_footprint() {
        let mut parts = |when: &str, parts: &[MemoryPart]| {
            for part in parts {
                let name = format!("sampler: {}", part.name);
                out.line(&name, format!("{}{when}", gib(part.bytes)));
            }
        };
        parts("", &footprint.held);
        parts(", while it samples", &footprint.sampling);
        parts(", while it is given weights", &footprint.learning);
        let of = shape.hardware.bytes;
        let of = of.map_or_else(String::new, |bytes| format!(" of {}", gib(bytes)));
        let each = match shape.hardware.samplers {
            0 | 1 => "on each sampler".to_owned(),
            samplers => format!("on each of {samplers} samplers"),
        };
        out.line(
            "sampler: sum",
            format!("{}{of} {each}", gib(footprint.peak())),
        );
    }
    if let Some((bytes, place)) = shape.server_weights() {
        out.line(
            "host: weights for servers",
            format!(
                "{} in {place}, two versions while they change",
                gib(2 * bytes)
            ),
        );
    }
}

/// How long a step takes here, as measured now.
fn time_line(out: &mut PlanLines, shape: &StageShape) -> Result<(), TrainError> {
    let config = shape.config;
    let device = config.device.resolve(0).map_err(TrainError::Input)?;
    crate::threads(config.threads);
    let times = stage_times(shape, (config.dtype.kind(), device))?;
    let mut whole = times.learning;
    let mut said = format!("learning {:.2} s", times.learning);
    if let Some(sampling) = times.sampling {
        whole += sampling;
        said = format!("drawing {sampling:.2} s, {said}");
    }
    let steps = shape.stage.common.steps;
    out.line(
        "time: a step",
        format!(
            "{said}; {:.1} min for {steps} (rewards and evaluations come on top)",
            whole * steps as f64 / 60.0
        ),
    );
    Ok(())
}

impl PlanInputs {
    /// The numbers of a stage's adapters, by units.
    fn units(&self, stage: &StageConfig) -> Option<&Vec<i64>> {
        let stages = self.config.stages.iter();
        let index = stages.clone().position(|it| it.name() == stage.name())?;
        self.adapters[index].as_ref()
    }
}
