//! The trace log of given answers: what a step of SFT or DPO has learnt from, one JSON row each, beside the rows of
//! completions ([`crate::samples`]). Rewards and advantages are no part of it: nothing was sampled.

use rewards::ImageSource;
use rollout::{FinishReason, Prompt};
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::TrainError;
use crate::samples::{GroupRows, StepId};

/// One answer that was learnt from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearntRow {
    /// Stage name.
    pub stage: String,
    /// Step, from 1.
    pub step: u64,
    /// The prompt's id, unique within the step.
    pub prompt_id: String,
    /// Task name.
    pub task: String,
    /// 0; of a pair 0 for the chosen answer and 1 for the rejected one.
    pub index: usize,
    /// The prompt as the policy sees it.
    pub prompt: String,
    /// The answer's text as it is learnt, without the token that ends it.
    pub completion: String,
    /// Its token ids as they are learnt, that token included.
    pub token_ids: Vec<i64>,
    /// Log-probability of each before the step's update, as the step computed it; null where it is no number.
    pub learner_logprobs: Vec<Option<f32>>,
    /// `length` where the answer is cut off at the stage's `max_tokens`.
    pub finish_reason: FinishReason,
    /// SFT: the mean negative log-probability of its tokens. DPO: the loss of its pair, without the SFT term. Null where
    /// it is no number.
    pub loss: Option<f64>,
    /// SFT: the weight of its tokens in the step's loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// DPO: whether it is the pair's chosen answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<bool>,
    /// DPO: its log-probability under the reference policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_logp: Option<f64>,
    /// DPO: beta times how much more the chosen answer's log-ratio is than the rejected one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// Updates of the policy in this stage before the step.
    pub policy_version: u64,
    /// The row's own prompt: the user's words.
    pub reward_prompt: String,
    /// The drawing that the row asks to be worked on or described, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
    /// The pictures that the prompt shows, as the row has them: paths, or base64; on the first row of a prompt alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageSource>,
}

/// An answer without the numbers of the step.
pub(crate) struct GivenAnswer<'a> {
    /// Its prompt.
    pub prompt: &'a Prompt,
    /// Which of the prompt's answers.
    pub index: usize,
    /// The tokens that are learnt.
    pub ids: &'a [i64],
    /// Their text.
    pub text: String,
    /// Whether the answer went on.
    pub cut: bool,
}

impl GivenAnswer<'_> {
    /// Its row with the log-probabilities of its tokens; what the algorithm adds is not in it yet.
    pub fn row(self, id: &StepId, logprobs: &[f32]) -> LearntRow {
        let prompt = self.prompt;
        LearntRow {
            stage: id.stage.clone(),
            step: id.step,
            prompt_id: prompt.id.clone(),
            task: prompt.task.clone(),
            index: self.index,
            prompt: prompt.text.as_deref().unwrap_or_default().to_owned(),
            completion: self.text,
            token_ids: self.ids.to_vec(),
            learner_logprobs: logprobs.iter().copied().map(finite).collect(),
            finish_reason: match self.cut {
                true => FinishReason::Length,
                false => FinishReason::Stop,
            },
            loss: None,
            weight: None,
            chosen: None,
            reference_logp: None,
            margin: None,
            policy_version: id.policy_version,
            reward_prompt: prompt.asked.to_string(),
            draft: prompt.reference.draft.clone(),
            images: match self.index {
                0 => prompt.images.to_vec(),
                _ => Vec::new(),
            },
        }
    }
}

fn finite(value: f32) -> Option<f32> {
    value.is_finite().then_some(value)
}

/// A number that JSON has.
pub(crate) fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// A prompt's rows in their place among a step's: by the draw, then, of a conversation's answers, as they come.
pub(crate) fn of_prompt(prompt: &Prompt, rows: Vec<LearntRow>) -> GroupRows<LearntRow> {
    GroupRows::new((prompt.draw, prompt.ids.len()), rows)
}

/// The log-probabilities that a step's passes have given, one after the other, on the host.
///
/// # Errors
/// libtorch refusing the tensors.
pub(crate) fn on_host(passes: &[Tensor]) -> Result<Vec<f32>, TrainError> {
    if passes.is_empty() {
        return Ok(Vec::new());
    }
    let all = Tensor::cat(passes, 0).to_kind(Kind::Float);
    Vec::<f32>::try_from(all).map_err(|error| TrainError::Learner(error.to_string()))
}
