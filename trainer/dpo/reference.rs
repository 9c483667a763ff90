//! What a step's pairs are compared with: log-probabilities under the reference policy, from the cache or
//! from the frozen policy itself.

use tch::Tensor;

use super::draw::DrawnPairs;
use super::loss::sequence_sums;
use crate::TrainError;
use crate::algorithm::{ReferencePolicy, StepContext};
use crate::learn::{HeadOptions, MicroBatch, flops};

/// The cached log-probabilities of the drawn pairs, `[P, 2]` float64; none where a policy computes them.
///
/// # Errors
/// A pair that was not prepared.
pub(super) fn known_logprobs(
    cx: &StepContext,
    drawn: &DrawnPairs,
) -> Result<Option<Tensor>, TrainError> {
    let ReferencePolicy::Logprobs(known) = cx.stage.reference else {
        return Ok(None);
    };
    let found = drawn.keys().map(|key| known.get(&key));
    let found: Option<Vec<[f64; 2]>> = found.collect();
    let found = found.ok_or_else(|| {
        TrainError::Other("a pair was drawn whose reference log-probabilities are not known".into())
    })?;
    // A rank may have none.
    let known = Tensor::from_slice(&found.concat()).view([found.len() as i64, 2]);
    Ok(Some(known.to_device(cx.learner.device())))
}

/// The pairs' log-probabilities under the frozen reference policy, `[2P]` float64.
///
/// # Errors
/// libtorch's.
pub(super) fn policy_logprobs(
    cx: &mut StepContext,
    micro: &MicroBatch,
    head: &HeadOptions,
) -> Result<Tensor, TrainError> {
    let learner = &mut *cx.learner;
    learner.flops += flops::forward(&learner.model, micro, learner.vision_features());
    let logprobs = cx.stage.reference.log_probs(learner, micro, head)?;
    let logprobs = logprobs.ok_or_else(|| {
        TrainError::Other("the stage has no reference policy to compare with".into())
    })?;
    Ok(sequence_sums(&logprobs, &micro.lengths))
}
