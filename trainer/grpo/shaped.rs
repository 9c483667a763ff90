//! What advantages are made of: total rewards, or normalised parts where a task's rubric says so, less
//! the KL penalty where it acts in the reward.

use std::rc::Rc;

use models::EncodedImages;
use rollout::FinishReason;
use tch::Kind;

use super::loss::kl_estimate;
use crate::TrainError;
use crate::algorithm::StepContext;
use crate::config::{GrpoConfig, KlPlace};
use crate::learn::{MicroBatch, Trajectory, micro_batches};
use crate::rollout_batch::ScoredGroup;

/// A scored group with the rewards that its advantages are made of.
#[derive(Clone)]
pub(super) struct ShapedGroup {
    pub(super) scored: ScoredGroup,
    /// None of those that could not be scored.
    pub(super) shaped: Vec<Option<f64>>,
    /// The prompt's pictures.
    pub(super) view: Option<Rc<EncodedImages>>,
}

impl ShapedGroup {
    /// Its completions as rows to learn from, and why each ended.
    pub(super) fn trajectories(
        self,
        advantages: &[f64],
    ) -> impl Iterator<Item = (Trajectory, FinishReason)> {
        let (group, view) = (self.scored.group, self.view);
        let prompt = group.prompt.ids;
        let completions = group.completions.into_iter().zip(advantages);
        completions.map(move |(completion, advantage)| {
            let trajectory = Trajectory {
                prompt: prompt.clone(),
                view: view.clone(),
                ids: completion.ids,
                sampler_logprobs: completion.logprobs,
                advantage: *advantage,
            };
            (trajectory, completion.finish)
        })
    }
}

/// Each group with the rewards that its advantages are made of; `views` are the prompts' pictures.
///
/// # Errors
/// libtorch ending an operation of the reference policy; a lost rank.
pub(super) fn shaped_groups(
    config: &GrpoConfig,
    cx: &StepContext,
    scored: Vec<ScoredGroup>,
    views: Vec<Option<Rc<EncodedImages>>>,
) -> Result<Vec<ShapedGroup>, TrainError> {
    let mut groups: Vec<ShapedGroup> = scored
        .into_iter()
        .zip(views)
        .map(|(scored, view)| {
            let task = cx.stage.tasks.get(&scored.group.prompt.task);
            let shaped = match task.and_then(|task| task.rubric.as_ref()) {
                Some(rubric) => rubric.shaped(&scored.rewards, cx.schedule_step()),
                None => scored.rewards.iter().map(|reward| reward.total).collect(),
            };
            ShapedGroup {
                scored,
                shaped,
                view,
            }
        })
        .collect();
    if config.kl.place == KlPlace::Reward {
        let penalties = kl_penalties(config, cx, &groups)?;
        for (group, penalties) in groups.iter_mut().zip(penalties) {
            for (reward, penalty) in group.shaped.iter_mut().zip(penalties) {
                *reward = reward.map(|reward| reward - config.kl.coefficient * penalty);
            }
        }
    }
    Ok(groups)
}

/// The KL estimate of each group's completions, summed over their tokens; none without a reference policy.
fn kl_penalties(
    config: &GrpoConfig,
    cx: &StepContext,
    groups: &[ShapedGroup],
) -> Result<Vec<Vec<f64>>, TrainError> {
    let all = groups.iter().map(|group| micros_of(config, cx, group));
    let all = all.enumerate().flat_map(|(index, micros)| {
        let of_group = micros.into_iter().map(move |micro| (index, micro));
        of_group.collect::<Vec<_>>()
    });
    let mut all = all.collect::<Vec<_>>().into_iter();
    let mut penalties = vec![Vec::new(); groups.len()];
    let head = config.head(cx.stage.common);
    for _ in 0..cx.learner.passes(all.len())? {
        let Some((index, micro)) = all.next() else {
            cx.stage.reference.idle(cx.learner)?;
            continue;
        };
        let theirs = cx.stage.reference.log_probs(cx.learner, &micro, &head)?;
        let Some(theirs) = theirs else {
            return Ok(Vec::new());
        };
        let kl = kl_estimate(&(theirs - &micro.sampler), config.kl.estimator).to_kind(Kind::Double);
        let lengths: Vec<i64> = micro.lengths.iter().map(|len| *len as i64).collect();
        penalties[index].extend(
            kl.split_with_sizes(lengths.as_slice(), 0)
                .iter()
                .map(|kl| kl.sum(Kind::Double).double_value(&[])),
        );
    }
    Ok(penalties)
}

/// A group's completions, packed.
fn micros_of(config: &GrpoConfig, cx: &StepContext, group: &ShapedGroup) -> Vec<MicroBatch> {
    let zeros = vec![0.0; group.shaped.len()];
    let trajectories: Vec<_> = group
        .clone()
        .trajectories(&zeros)
        .map(|(trajectory, _)| trajectory)
        .collect();
    micro_batches(
        &trajectories,
        &config.loss_norm(1.0, 1.0),
        cx.stage.common.batch.micro_tokens,
        cx.learner.device(),
    )
}
