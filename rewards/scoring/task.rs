//! Scoring one completion of one task: shape, rendering beside the reference, each reward, the total.

use crate::encode::Encoders;
use crate::error::RewardError;
use crate::failures::Failures;
use crate::invalid::{Invalid, ReferenceFault};
use crate::judge::JudgeCount;
use crate::options::clip;
use crate::picture::Picture;
use crate::reference::Reference;
use crate::rules::{
    CompletionPictures, Drawn, OfInvalid, RewardConfig, ScoringCase, Value, Waited, Waiter,
};
use crate::scores::Scores;
use crate::scoring::active::ActiveRewards;
use crate::scoring::pending::{Outcome, PendingScore};
use crate::scoring::references::{KeptReference, References};
use crate::scoring::rubric::TruncatedTotal;
use crate::scoring::task_scoring::{MeasureWhen, TaskScoring};
use crate::types::{Reward, ScoreJob, TokenCounter};
use indexmap::IndexMap;
use std::sync::Arc;
use std::time::Instant;
use svg::Renderer;

/// One task's scoring with all it needs; shared by the scoring threads.
pub(crate) struct Task {
    scoring: TaskScoring,
    renderer: Arc<Renderer>,
    rewards: Arc<ActiveRewards>,
    references: References,
    failures: Arc<Failures>,
}

/// What a scorer's tasks share.
pub(crate) struct SharedTools {
    pub renderer: Arc<Renderer>,
    pub tokens: Option<TokenCounter>,
    pub encoders: Arc<Encoders>,
    /// References that each keeps.
    pub reference_cache: usize,
    /// Where rewards that could not be had are told.
    pub failures: Arc<Failures>,
}

/// A job with what its task makes of its wishes.
struct MeasuredJob<'a> {
    job: &'a ScoreJob,
    /// Whether metrics are wanted besides.
    measure: bool,
}

impl Task {
    /// Starts the judges, where there are any.
    ///
    /// # Errors
    /// A judge that cannot be asked; a layer that BERTScore's encoder has not.
    pub fn new(scoring: TaskScoring, shared: &SharedTools) -> Result<Self, RewardError> {
        let (encoders, tokens) = (shared.encoders.clone(), shared.tokens.clone());
        let rewards = Arc::new(ActiveRewards::start(&scoring, encoders, tokens)?);
        let references = References::new(
            shared.renderer.clone(),
            scoring.render.clone(),
            rewards.clone(),
            shared.reference_cache,
        );
        Ok(Task {
            scoring,
            renderer: shared.renderer.clone(),
            rewards,
            references,
            failures: shared.failures.clone(),
        })
    }

    /// Whether judgements may wait for somebody else than this process' threads.
    pub fn waits_for_others(&self) -> bool {
        self.rewards.wait_for_others()
    }

    /// Whether it asks judges.
    pub fn has_judges(&self) -> bool {
        self.rewards.has_judges()
    }

    /// What its judges have done.
    pub fn judge_count(&self) -> JudgeCount {
        self.rewards.judge_count()
    }

    /// Milliseconds that one drawing may take.
    #[cfg(feature = "service")]
    pub fn drawing_ms(&self) -> Option<u64> {
        u64::try_from(self.renderer.deadline().as_millis()).ok()
    }

    /// The judgement; none where drawing the completion takes more than `patience`.
    pub fn score(&self, job: &ScoreJob, patience: svg::WaitBudget) -> Option<Outcome> {
        let measure = job.measure || self.scoring.measured == MeasureWhen::Always;
        let asked = MeasuredJob { job, measure };
        let mut outcome = match self.scoring.completion.extract(&job.candidate.text) {
            Ok(words) if self.scoring.completion.is_text() => self.judge(&asked, words, None),
            Ok(source) => self.score_svg(source, &asked, patience)?,
            Err(fault) => Outcome::Done(self.invalid(Invalid::Shape(fault), &asked)),
        };
        if let (true, TruncatedTotal::Value(value)) =
            (job.candidate.truncated, self.scoring.rubric.truncated)
        {
            match &mut outcome {
                Outcome::Done(reward) => reward.total = reward.total.map(|_| value),
                Outcome::Pending(pending) => pending.total = Some(value),
            }
        }
        Some(outcome)
    }

    /// The judgement with the parts that it waited for; none when nobody wants it any more.
    pub fn finish(&self, pending: &PendingScore, waiter: &Waiter) -> Option<Reward> {
        let reward = self.finished(pending, waiter);
        (!(waiter.gone)()).then_some(reward)
    }

    fn finished(&self, pending: &PendingScore, waiter: &Waiter) -> Reward {
        let rubric = &self.scoring.rubric;
        let mut parts = IndexMap::new();
        let (mut values, mut unscored) = (Vec::new(), Vec::new());
        for (index, value) in pending.parts.iter().enumerate() {
            let common = self.rewards.config(index).common();
            let had = match self.had((common.name, value), pending, waiter) {
                Ok(had) => had,
                Err(why) => return self.failed(Invalid::Encoder(why), pending.step),
            };
            match &had {
                None => unscored.push(common.name.to_owned()),
                Some(scores) => {
                    parts.insert(common.name.to_owned(), clip(scores.value, common.clip));
                    let named = scores.named.iter();
                    let below =
                        |(name, value): &(String, f64)| (format!("{}.{name}", common.name), *value);
                    parts.extend(named.map(below));
                }
            }
            values.push(had.map(|scores| clip(scores.value, common.clip)));
        }
        let metrics = pending.metrics.iter().filter_map(|(index, value)| {
            let common = self.rewards.config(*index).common();
            let had = self.had((common.name, value), pending, waiter).ok()??;
            Some((common.name, clip(had.value, common.clip)))
        });
        let total = rubric.total(&values, pending.step, pending.blank);
        Reward {
            // A completion that is cut off has its total whatever its parts are.
            total: pending.total.or(total),
            metrics: named(metrics),
            parts,
            unscored,
            ..pending.reward.clone()
        }
    }

    /// A reward's numbers; none where they could not be had and nothing stands for them. The first failure is told.
    ///
    /// # Errors
    /// Why an encoder does not read what the completion draws.
    fn had(
        &self,
        (name, value): (&str, &Value),
        pending: &PendingScore,
        waiter: &Waiter,
    ) -> Result<Option<Scores>, Arc<str>> {
        let (why, counts_as) = match value.wait(waiter) {
            Waited::Scores(scores) if scores.are_finite() => return Ok(Some(scores)),
            Waited::Refused(why) => return Err(why),
            Waited::Scores(_) => ("it gave no finite number".into(), None),
            Waited::Failed(why, counts_as) => (why, counts_as),
        };
        if (waiter.gone)() {
            return Ok(None);
        }
        if value.is_encoded() {
            // What failed once may come the next time.
            self.references.forget(&pending.reference);
        }
        let counts_as = counts_as.or(self.scoring.rubric.unscored.number());
        self.failures.note(name, &why, counts_as);
        Ok(counts_as.map(Scores::of))
    }

    /// Whether a reference can serve this task.
    pub fn check_reference(&self, reference: &Reference) -> Result<(), ReferenceFault> {
        self.check_fields(reference)?;
        if self.scoring.completion.is_text() {
            return Ok(());
        }
        let target = self.references.get(reference, false);
        target.map(drop).map_err(ReferenceFault::Render)
    }

    /// Whether it has what the rewards need.
    pub fn check_fields(&self, reference: &Reference) -> Result<(), ReferenceFault> {
        match self.scoring.rubric.missing(reference) {
            Some(missing) => Err(ReferenceFault::Missing(missing)),
            None => Ok(()),
        }
    }

    fn score_svg(
        &self,
        source: &str,
        asked: &MeasuredJob,
        patience: svg::WaitBudget,
    ) -> Option<Outcome> {
        let target = match self.references.get(&asked.job.reference, asked.measure) {
            Ok(target) => target,
            Err(failure) => {
                return Some(Outcome::Done(
                    self.invalid(Invalid::BadReference(failure), asked),
                ));
            }
        };
        let config = &self.scoring.render;
        let canvas = target
            .as_ref()
            .map_or(config.own_target(), |t| config.target_beside(t.canvas));
        let start = Instant::now();
        let rendered = self
            .renderer
            .render_within(source, (canvas, config), patience);
        let render_ms = start.elapsed().as_secs_f64() * 1e3;
        let rendered = match rendered {
            Ok(rendered) => rendered?,
            Err(failure) => {
                let invalid = Invalid::Render(failure);
                return Some(Outcome::Done(Reward {
                    render_ms,
                    ..self.invalid(invalid, asked)
                }));
            }
        };
        let drawn = Drawn {
            picture: Arc::new(Picture::drawn(&rendered.raster, config)),
            intrinsic: rendered.intrinsic,
        };
        let canvas = target.as_ref().map(|target| target.canvas);
        let pair = Pair {
            pictures: CompletionPictures {
                fitted: drawn.picture.on_canvas(canvas),
                drawn,
            },
            target,
        };
        let mut outcome = self.judge(asked, source, Some(&pair));
        match &mut outcome {
            Outcome::Done(reward) => reward.render_ms = render_ms,
            Outcome::Pending(pending) => pending.reward.render_ms = render_ms,
        }
        Some(outcome)
    }

    /// Every reward's value of `text`, which is the SVG where `pair` is there.
    fn judge(&self, asked: &MeasuredJob, text: &str, pair: Option<&Pair>) -> Outcome {
        let target = pair.and_then(|pair| pair.target.as_deref());
        let case = ScoringCase {
            text,
            job: asked.job,
            pictures: pair.map(|pair| &pair.pictures),
        };
        let value = |index: usize| {
            let kept = target.map(|target| &target.kept[index]);
            self.rewards.score(index, &case, kept)
        };
        let pending = PendingScore {
            parts: self.rewards.places(false).map(value).collect(),
            metrics: self
                .measurable(asked)
                .map(|index| (index, value(index)))
                .collect(),
            reward: Reward::valid(),
            step: asked.job.step,
            reference: asked.job.reference.clone(),
            blank: pair.is_some_and(|pair| pair.pictures.fitted.is_blank()),
            total: None,
        };
        match pending.is_known() {
            true => Outcome::Done(self.finished(&pending, &Waiter::ENDLESS)),
            false => Outcome::Pending(Box::new(pending)),
        }
    }

    /// The metrics that this job is measured by, by their place: those whose reference is there.
    fn measurable(&self, asked: &MeasuredJob) -> impl Iterator<Item = usize> {
        let wanted = asked.measure.then(|| self.rewards.metrics());
        let can = |(index, metric): (usize, &RewardConfig)| {
            let missing = metric.missing(&asked.job.reference);
            missing.is_none().then_some(index)
        };
        wanted.into_iter().flatten().filter_map(can)
    }

    /// The judgement of a completion that is none: its metrics fail as its rewards do, but for those that say
    /// nothing of it then.
    fn invalid(&self, reason: Invalid, asked: &MeasuredJob) -> Reward {
        let value = |index: usize| {
            let metric = self.rewards.config(index);
            let value = match metric.reward().of_invalid() {
                OfInvalid::FailureValue => self.scoring.rubric.failure_value,
                OfInvalid::Zero => 0.0,
                OfInvalid::Unmeasured => return None,
            };
            Some((metric.common().name, value))
        };
        if reason.is_no_verdict() {
            let counts_as = self.scoring.rubric.unscored.number();
            self.failures
                .note(&reason.word(), &reason.to_string(), counts_as);
            return self.failed(reason, asked.job.step);
        }
        Reward {
            metrics: named(self.measurable(asked).filter_map(value)),
            ..self.failed(reason, asked.job.step)
        }
    }

    /// The judgement of a completion of which nothing is known but that it failed, or that nobody could judge it.
    pub fn failed(&self, reason: Invalid, step: u64) -> Reward {
        let rubric = &self.scoring.rubric;
        let names = || rubric.rewards.iter().map(|r| r.common().name);
        let (values, total) = match (reason.is_no_verdict(), rubric.unscored.number()) {
            (false, _) => rubric.failure(step),
            (true, Some(value)) => {
                let values = vec![value; rubric.rewards.len()];
                let all: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
                (values, rubric.total(&all, step, false).unwrap_or_default())
            }
            (true, None) => {
                return Reward {
                    unscored: names().map(str::to_owned).collect(),
                    ..Reward::none(reason)
                };
            }
        };
        Reward {
            total: Some(total),
            parts: named(names().zip(values)),
            ..Reward::none(reason)
        }
    }

    /// The number for those who need one where a completion could not be scored.
    #[cfg(feature = "service")]
    pub fn failure_total(&self, step: u64) -> f64 {
        self.scoring.rubric.failure(step).1
    }
}

/// A drawn completion and what is kept of its reference.
struct Pair {
    pictures: CompletionPictures,
    target: Option<Arc<KeptReference>>,
}

fn named<'a>(values: impl IntoIterator<Item = (&'a str, f64)>) -> IndexMap<String, f64> {
    let values = values.into_iter();
    values
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}
