//! What a DPO stage computes before its first step: the reference policy's log-probabilities of every
//! pair that its steps will draw. The order of rows is known beforehand, so that no second network need
//! lie in memory while the policy learns.

use std::collections::HashSet;

use models::{AdapterMode, Decoder};

use super::draw::DrawnPairs;
use super::loss::{PairNorm, sequence_sums};
use crate::TrainError;
use crate::algorithm::{PrepareContext, Prepared};
use crate::config::{DpoConfig, DpoReference};
use crate::learn::{HeadOptions, Learner, Trajectory};
use crate::reference_logprobs::{PairKey, PairLogprobs, ReferenceLogprobs, pair_key};
use crate::weights_digest::weights_digest;

impl DpoConfig {
    /// Sees to it that the pairs of all steps to come are known.
    ///
    /// # Errors
    /// A bad row, the learner's, the file system's, a lost rank.
    pub(super) fn reference_logprobs(
        &self,
        cx: &mut PrepareContext,
    ) -> Result<Prepared, TrainError> {
        if self.reference == DpoReference::Policy {
            return Ok(Prepared::Nothing);
        }
        let mut known = ReferenceLogprobs::open(cx.run, &cx.stage.common.name, &cx.stage.ranks)?;
        let steps = cx.done + 1..=cx.stage.common.steps;
        let trusted = cx.done > 0 && !cx.changed;
        if trusted && steps.clone().all(|step| known.covers(step)) {
            return Ok(Prepared::Logprobs(known));
        }
        let policy = (cx.first_policy)()?;
        let digest = {
            let _whole = cx.learner.whole()?;
            weights_digest(&policy)?
        };
        known.begin(&digest, cx.done == 0)?;
        let before = cx.loader.state();
        let total = cx.stage.common.steps.saturating_sub(cx.done);
        for step in steps {
            if cx.stage.ranks.any(cx.stage.interrupt.asked())? {
                known.sync()?;
                cx.loader.restore(&before)?;
                return Ok(Prepared::Interrupted);
            }
            let drawn = DrawnPairs::draw(self, cx.stage.common.batch.size, cx.loader, cx.learner)?;
            let own = self.unknown_logprobs(cx, &policy, &known, drawn)?;
            if cx.stage.ranks.any(!own.is_empty() || !known.covers(step))? {
                known.add(step, &own, &cx.stage.ranks)?;
            }
            (cx.progress)("reference log-probabilities, steps", step - cx.done, total);
        }
        known.sync()?;
        cx.loader.restore(&before)?;
        Ok(Prepared::Logprobs(known))
    }

    /// The log-probabilities of this rank's pairs that are not known yet, each once.
    fn unknown_logprobs(
        &self,
        cx: &PrepareContext,
        policy: &Decoder,
        known: &ReferenceLogprobs,
        drawn: DrawnPairs,
    ) -> Result<Vec<(PairKey, PairLogprobs)>, TrainError> {
        let mut seen = HashSet::new();
        let mut keys = Vec::new();
        let mut answers: Vec<Trajectory> = Vec::new();
        for pair in drawn.answers.chunks(2) {
            let key = pair_key(pair);
            if known.get(&key).is_none() && seen.insert(key.clone()) {
                keys.push(key);
                answers.extend(pair.iter().cloned());
            }
        }
        let new = drawn.with(answers);
        let batch = &cx.stage.common.batch;
        let head = HeadOptions {
            temperature: 1.0,
            rows: batch.logit_rows,
        };
        let norm = PairNorm {
            pairs: 1.0,
            chosen_tokens: 1.0,
        };
        let mut sums: Vec<f64> = Vec::new();
        let parts = new.micros(batch.micro_tokens, &norm, cx.learner.device());
        for pass in 0..cx.learner.passes(parts.len())? {
            let Some(part) = parts.get(pass) else {
                Learner::idle_log_probs(policy)?;
                continue;
            };
            let source = cx.learner.vision_features();
            // Adapters, where there are any, are the stage's own.
            let mode = AdapterMode::Off;
            let logprobs = Learner::log_probs(policy, &part.micro, &head, source, mode)?;
            let own = Vec::<f64>::try_from(sequence_sums(&logprobs, &part.micro.lengths));
            sums.extend(own.map_err(|error| TrainError::Learner(error.to_string()))?);
        }
        let values = sums.chunks(2).map(|pair| [pair[0], pair[1]]);
        Ok(keys.into_iter().zip(values).collect())
    }
}
