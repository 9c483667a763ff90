//! What a step leaves in its file of samples.

use std::path::Path;

use crate::TrainError;
use crate::learnt_rows::LearntRow;
use crate::samples::{self, SampleRow};

/// A step's rows, all ranks' on rank 0; none on the others.
#[derive(Debug)]
pub enum StepSamples {
    /// Completions with their scores.
    Sampled(Vec<SampleRow>),
    /// Given answers that were learnt from; none where the step is not to be written.
    Learnt(Vec<LearntRow>),
}

impl StepSamples {
    /// Writes `samples/<stage>/step_NNNNNN.jsonl` of the run, whole.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn write(&self, run: &Path, stage: &str, step: u64) -> Result<(), TrainError> {
        match self {
            Self::Sampled(rows) => samples::write(run, stage, step, rows),
            Self::Learnt(rows) => samples::write(run, stage, step, rows),
        }
    }
}
