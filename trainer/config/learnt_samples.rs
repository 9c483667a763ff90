//! What a stage that learns from given answers writes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Files of what a step has learnt from: RUN/samples/STAGE/step_NNNNNN.jsonl, a row an answer with its prompt, its
/// tokens, and the log-probability of each before the update (`learner_logprobs`), which the step computes in any case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LearntSamplesConfig {
    /// Every how many steps all rows of the step are written, the first step's besides; 1: of every step; 0: none. A
    /// row takes about four times the bytes of its answer on the disk.
    pub every: u64,
}

impl Default for LearntSamplesConfig {
    fn default() -> Self {
        Self { every: 10 }
    }
}

impl LearntSamplesConfig {
    /// Whether the rows of `step` are written.
    pub fn writes(&self, step: u64) -> bool {
        self.every > 0 && (step == 1 || step.is_multiple_of(self.every))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_written_unless_none_is() {
        let written = |every: u64| -> Vec<u64> {
            let config = LearntSamplesConfig { every };
            (1..=9).filter(|step| config.writes(*step)).collect()
        };
        assert_eq!(written(4), [1, 4, 8]);
        assert_eq!(written(1).len(), 9);
        assert_eq!(written(0), [0; 0]);
    }
}
