//! A task's rewards and metrics, ready to be asked: their judges and the user's own programs started, their encoders
//! checked.

use crate::encode::Encoders;
use crate::error::RewardError;
use crate::judge::{JudgeClient, JudgeCount};
use crate::own::OwnClient;
use crate::rules::{
    AnyKept, AnyReward, ReferencePictures, RewardConfig, ScoreContext, ScoringCase, Tools, Value,
};
use crate::scoring::task_scoring::TaskScoring;
use crate::types::TokenCounter;
use std::ops::Range;
use std::sync::Arc;

/// The value of a reward whose reference lacks what it needs. Whoever asks first whether the reference can serve is
/// told so and never sees it.
const MISSING: f64 = 0.0;

/// The rubric's rewards, then the metrics.
pub(crate) struct ActiveRewards {
    all: Vec<Active>,
    /// How many are the rubric's.
    rewards: usize,
    encoders: Arc<Encoders>,
    tokens: Option<TokenCounter>,
    /// What each keeps of a reference without a picture; none for those that need one.
    without: Vec<Option<AnyKept>>,
}

struct Active {
    config: RewardConfig,
    judge: Option<JudgeClient>,
    own: Option<OwnClient>,
}

impl ActiveRewards {
    /// Starts the judges and the user's own programs, where there are any.
    ///
    /// # Errors
    /// A judge that cannot be asked, a function that cannot be loaded; an encoder that cannot do what is asked of it. The key is named.
    pub fn start(
        scoring: &TaskScoring,
        encoders: Arc<Encoders>,
        tokens: Option<TokenCounter>,
    ) -> Result<Self, RewardError> {
        let start = |(key, config): (String, &RewardConfig)| {
            let at = |said: String| RewardError::Config(format!("{key}.{said}"));
            config.reward().check_encoder(&encoders).map_err(at)?;
            let judge = config.reward().judge().map(JudgeClient::start).transpose();
            let own = config.reward().own();
            let own = own.as_ref().map(OwnClient::start).transpose();
            let keyed = |error| match error {
                RewardError::Config(said) => at(said),
                other => other,
            };
            Ok::<_, RewardError>(Active {
                judge: judge.map_err(keyed)?,
                own: own.map_err(keyed)?,
                config: config.clone(),
            })
        };
        let all = scoring.rules().map(start).collect::<Result<_, _>>()?;
        let mut active = ActiveRewards {
            all,
            rewards: scoring.rubric.rewards.len(),
            encoders,
            tokens,
            without: Vec::new(),
        };
        let without = |index: usize| {
            let needs_none = !active.reward(index).needs().reference_picture;
            needs_none.then(|| active.prepare(index, &ReferencePictures::default()))
        };
        active.without = (0..active.all.len()).map(without).collect();
        Ok(active)
    }

    /// The places of the rubric's rewards, and of the metrics where those are wanted.
    pub fn places(&self, metrics: bool) -> Range<usize> {
        match metrics {
            true => 0..self.all.len(),
            false => 0..self.rewards,
        }
    }

    /// The places of the metrics, with what each is.
    pub fn metrics(&self) -> impl Iterator<Item = (usize, &RewardConfig)> {
        let all = self.all.iter().map(|active| &active.config).enumerate();
        all.skip(self.rewards)
    }

    /// The reward at a place.
    pub fn config(&self, index: usize) -> &RewardConfig {
        &self.all[index].config
    }

    fn reward(&self, index: usize) -> &dyn AnyReward {
        self.all[index].config.reward()
    }

    /// Whether one at these places needs what the prompt showed.
    pub fn need_draft(&self, mut places: Range<usize>) -> bool {
        places.any(|index| self.reward(index).needs().draft)
    }

    /// What the reward at a place keeps of a reference.
    pub fn prepare(&self, index: usize, reference: &ReferencePictures) -> AnyKept {
        self.reward(index).prepare(reference, &self.tools(index))
    }

    /// The value of the reward at a place; `kept` is what it kept of the reference's picture, where it has one.
    pub fn score(&self, index: usize, case: &ScoringCase, kept: Option<&AnyKept>) -> Value {
        let missing = self.config(index).missing(&case.job.reference);
        let kept = kept.or(self.without[index].as_ref());
        let (Some(kept), None) = (kept, missing) else {
            return Value::Known(MISSING);
        };
        let tools = self.tools(index);
        let cx = ScoreContext { case, tools };
        self.reward(index).score(&cx, kept)
    }

    fn tools(&self, index: usize) -> Tools<'_> {
        let tokens = self.tokens.as_deref();
        Tools {
            encoders: &self.encoders,
            tokens: tokens.map(|count| count as &dyn Fn(&str) -> usize),
            judge: self.all[index].judge.as_ref(),
            own: self.all[index].own.as_ref(),
        }
    }

    /// Whether judgements may wait for somebody else than this process' threads.
    pub fn wait_for_others(&self) -> bool {
        let asks = |active: &Active| active.judge.is_some() || active.own.is_some();
        self.all.iter().any(asks)
    }

    /// Whether there are judges.
    pub fn has_judges(&self) -> bool {
        self.all.iter().any(|active| active.judge.is_some())
    }

    /// What its judges have done.
    pub fn judge_count(&self) -> JudgeCount {
        let mut sum = JudgeCount::default();
        let judges = self.all.iter().filter_map(|active| active.judge.as_ref());
        judges.for_each(|judge| sum += judge.count());
        sum
    }
}
