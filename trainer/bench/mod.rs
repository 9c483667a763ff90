//! Whole pieces of work for measuring: a GRPO step with forced completion lengths, a DPO step, decoding, scoring,
//! encoders. The code that runs is the trainer's own; only the prompts, the lengths and the texts
//! that are scored are given from outside, so that a peer can be given the same.

mod decode;
mod dpo;
mod encoders;
mod fixed_loader;
mod scoring;
mod shape;
mod step;

pub use decode::{DecodeBench, DecodeRate, decode_rate};
pub use dpo::{DpoBench, dpo_times};
pub use encoders::measure;
pub use scoring::{scoring_jobs, scoring_tasks, shapes};
pub use shape::Shape;
pub use step::{StepBench, StepTimes, step_times};
