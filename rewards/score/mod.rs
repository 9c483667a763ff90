//! Scoring one completion of one task: shape, rendering beside the reference, each reward, the total.

mod parts;

use crate::cache::{Cache, key};
use crate::compare::Feature;
use crate::config::{Measured, RewardConfig, TaskScoring};
use crate::encode::Encoders;
use crate::error::RewardError;
use crate::judge::{Judge, JudgeCount};
use crate::pending::{Judged, Part, Pending};
use crate::picture::Picture;
use crate::reference::{MAX_IMAGE_SIDE, Reference};
use crate::rubric::{Truncated, clip};
use crate::scorer::{ScoreJob, TokenCounter};
use indexmap::IndexMap;
use serde::Serialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use svg::{Failure, Filter, Patience, Raster, Reason, Rendered, Renderer};

/// The reason of a row whose reference cannot be drawn: no completion has it.
pub(crate) const BAD_REFERENCE: &str = "bad_reference";
/// What is said of such a reference itself.
const NO_TARGET: &str = "reference does not render";

/// Failures that are the machine's, not the drawing's.
const MACHINE: [Reason; 2] = [Reason::WorkerUnavailable, Reason::WorkerCrashed];

/// Whether this reason of a completion or a reference says only that nothing could be drawn for lack of
/// processes or threads.
#[cfg(feature = "service")]
pub(crate) fn could_not_draw(reason: &str) -> bool {
    let reason = [BAD_REFERENCE, NO_TARGET]
        .iter()
        .find_map(|what| reason.strip_prefix(what)?.strip_prefix(": "))
        .unwrap_or(reason);
    reason.starts_with(Reason::WorkerUnavailable.as_str())
}

/// What a completion earned.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reward {
    pub total: f64,
    /// Each reward by its name, clipped, not weighted, in the rubric's order.
    pub parts: IndexMap<String, f64>,
    /// Whether the completion has the asked shape and its SVG rendered.
    pub valid: bool,
    /// A snake-case word why not, with a detail behind a colon where there is one.
    pub reason: Option<String>,
    /// Milliseconds spent rendering the completion.
    pub render_ms: f64,
    /// Whether the renderer's deadline ended it.
    pub deadline_hit: bool,
    /// The task's metrics by name, where they were measured.
    pub metrics: IndexMap<String, f64>,
}

/// One task's scoring with all it needs; shared by the scoring threads.
pub(crate) struct Task {
    pub scoring: TaskScoring,
    pub renderer: Arc<Renderer>,
    pub tokens: Option<TokenCounter>,
    pub encoders: Arc<Encoders>,
    /// The rubric's rewards, then the metrics.
    rules: Vec<RewardConfig>,
    /// One for each rule that is a judge.
    judges: Vec<Option<Judge>>,
    references: Cache<Result<Arc<Target>, Failure>>,
}

/// What is kept of a reference.
struct Target {
    canvas: (u32, u32),
    /// Own width and height.
    intrinsic: (f64, f64),
    /// One for each rule that the case is judged by.
    features: Vec<Feature>,
}

/// A completion's surroundings.
struct Case<'a> {
    prompt: &'a str,
    reference: &'a Reference,
    step: u64,
    /// Whether metrics are wanted besides.
    measure: bool,
}

/// A rendered prediction beside its reference.
struct Pair<'a> {
    source: &'a str,
    /// As it was drawn: what encoders see.
    drawn: Arc<Picture>,
    /// On the reference's pixels.
    picture: Arc<Picture>,
    rendered: Rendered,
    target: Option<Arc<Target>>,
}

impl Task {
    /// Starts the judges, where there are any.
    ///
    /// # Errors
    /// A judge that cannot be asked; a layer that BERTScore's encoder has not.
    pub fn new(
        scoring: TaskScoring,
        renderer: Arc<Renderer>,
        tokens: Option<TokenCounter>,
        encoders: Arc<Encoders>,
        cached: usize,
    ) -> Result<Self, RewardError> {
        let start = |(key, rule): (String, &RewardConfig)| match rule {
            RewardConfig::Judge(rule) => {
                Judge::start(rule).map(Some).map_err(|error| match error {
                    RewardError::Config(said) => RewardError::Config(format!("{key}.{said}")),
                    other => other,
                })
            }
            RewardConfig::BertScore(rule) => {
                let layer = match encoders.token_layers(&rule.encoder) {
                    Some(tokens) => rule.layer_of(tokens).map(drop),
                    None => Err(format!(
                        "encoder: `{}` is not of XLM-RoBERTa's type, whose tokens BERTScore compares",
                        rule.encoder
                    )),
                };
                layer
                    .map(|()| None)
                    .map_err(|said| RewardError::Config(format!("{key}.{said}")))
            }
            _ => Ok(None),
        };
        let judges = scoring.rules().map(start).collect::<Result<_, _>>()?;
        let rules = scoring.rules().map(|(_, rule)| rule.clone()).collect();
        Ok(Task {
            rules,
            scoring,
            renderer,
            tokens,
            encoders,
            judges,
            references: Cache::new(cached),
        })
    }

    /// Whether judgements may wait for somebody else than this process' threads.
    pub fn has_judges(&self) -> bool {
        self.judges.iter().any(Option::is_some)
    }

    /// What its judges have done.
    pub fn judge_count(&self) -> JudgeCount {
        let mut sum = JudgeCount::default();
        self.judges
            .iter()
            .flatten()
            .for_each(|judge| sum += judge.count());
        sum
    }

    /// The judgement; none where drawing the completion takes more than `patience`.
    pub fn score(&self, job: &ScoreJob, patience: Patience) -> Option<Judged> {
        let case = Case {
            prompt: &job.prompt,
            reference: &job.reference,
            step: job.step,
            measure: job.measure || self.scoring.measured == Measured::Always,
        };
        let mut judged = match self.scoring.completion.extract(&job.candidate.text) {
            Ok(words) if self.scoring.completion.is_text() => self.judge(&case, words, None),
            Ok(source) => self.score_svg(source, &case, patience)?,
            Err(reason) => Judged::Done(self.invalid(reason.into(), &case)),
        };
        if let (true, Truncated::Value(value)) =
            (job.candidate.truncated, self.scoring.rubric.truncated)
        {
            match &mut judged {
                Judged::Done(reward) => reward.total = value,
                Judged::Later(pending) => pending.total = Some(value),
            }
        }
        Some(judged)
    }

    /// The judgement with the parts that it waited for. An encoder that failed makes it invalid.
    pub fn finish(&self, pending: &Pending) -> Reward {
        self.finished(pending, &|| false, None)
    }

    /// The same; none when nobody wants it any more, as `gone` says now and then. Judges that have not answered
    /// by `judges` have failed.
    pub fn finish_unless(
        &self,
        pending: &Pending,
        gone: &dyn Fn() -> bool,
        judges: Option<Instant>,
    ) -> Option<Reward> {
        let reward = self.finished(pending, gone, judges);
        (!gone()).then_some(reward)
    }

    fn finished(
        &self,
        pending: &Pending,
        gone: &dyn Fn() -> bool,
        judges: Option<Instant>,
    ) -> Reward {
        let rubric = &self.scoring.rubric;
        let cut = |(part, config): (&Part, &RewardConfig)| {
            part.value(gone, judges)
                .map(|value| clip(value, config.common().clip))
        };
        let values: Result<Vec<f64>, Arc<str>> =
            pending.parts.iter().zip(&rubric.rewards).map(cut).collect();
        let metric = |(index, part): &(usize, Part)| {
            let config = &self.scoring.metrics[*index];
            Ok((config.common().name.to_owned(), cut((part, config))?))
        };
        let metrics: Result<IndexMap<String, f64>, Arc<str>> =
            pending.metrics.iter().map(metric).collect();
        match values.and_then(|values| Ok((values, metrics?))) {
            Ok((values, metrics)) => {
                let total = rubric.total(&values, pending.step, pending.blank);
                Reward {
                    total: pending.total.unwrap_or(total),
                    parts: self.named(&values),
                    metrics,
                    ..pending.reward.clone()
                }
            }
            Err(reason) => self.failed(format!("encoder: {reason}"), pending.step),
        }
    }

    /// Whether a reference can serve this task.
    pub fn check_reference(&self, reference: &Reference) -> Result<(), String> {
        self.check_fields(reference)?;
        if self.scoring.completion.is_text() {
            return Ok(());
        }
        self.target(reference, false)
            .map(|_| ())
            .map_err(|e| format!("{NO_TARGET}: {e}"))
    }

    /// Whether it has what the rewards need.
    pub fn check_fields(&self, reference: &Reference) -> Result<(), String> {
        if let Some(lack) = self.scoring.rubric.lacks(reference) {
            return Err(lack);
        }
        Ok(())
    }

    fn score_svg(&self, source: &str, case: &Case, patience: Patience) -> Option<Judged> {
        let target = match self.target(case.reference, case.measure) {
            Ok(target) => target,
            Err(failure) => {
                let reason = format!("{BAD_REFERENCE}: {failure}");
                return Some(Judged::Done(self.invalid(reason, case)));
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
                return Some(Judged::Done(Reward {
                    deadline_hit: failure.reason == Reason::Deadline,
                    render_ms,
                    ..self.invalid(failure.to_string(), case)
                }));
            }
        };
        let drawn = Arc::new(self.picture(&rendered.raster));
        let pair = Pair {
            source,
            picture: fitted(&drawn, target.as_deref().map(|target| target.canvas)),
            drawn,
            rendered,
            target,
        };
        let mut judged = self.judge(case, source, Some(&pair));
        match &mut judged {
            Judged::Done(reward) => reward.render_ms = render_ms,
            Judged::Later(pending) => pending.reward.render_ms = render_ms,
        }
        Some(judged)
    }

    /// Every reward's value of `text`, which is the SVG where `pair` is there.
    fn judge(&self, case: &Case, text: &str, pair: Option<&Pair>) -> Judged {
        let part = |index: usize| match pair {
            Some(pair) => self.part(index, &self.rules[index], pair, case),
            None => self.part_of_text(&self.rules[index], text, case),
        };
        let count = self.scoring.rubric.rewards.len();
        let metrics = self.measurable(case);
        let pending = Pending {
            parts: (0..count).map(part).collect(),
            metrics: metrics.map(|index| (index, part(count + index))).collect(),
            reward: Reward {
                total: 0.0,
                parts: IndexMap::new(),
                valid: true,
                reason: None,
                render_ms: 0.0,
                deadline_hit: false,
                metrics: IndexMap::new(),
            },
            step: case.step,
            blank: pair.is_some_and(|pair| pair.picture.is_blank()),
            total: None,
        };
        match pending.is_known() {
            true => Judged::Done(self.finish(&pending)),
            false => Judged::Later(Box::new(pending)),
        }
    }

    /// The metrics that this case is measured by, by their place: those whose reference is there.
    fn measurable(&self, case: &Case) -> impl Iterator<Item = usize> {
        let wanted = case.measure.then_some(&self.scoring.metrics);
        let metrics = wanted.into_iter().flatten().enumerate();
        let can = |(index, metric): (usize, &RewardConfig)| {
            metric.lacks(case.reference).is_none().then_some(index)
        };
        metrics.filter_map(can)
    }

    /// The judgement of a completion that is none: its metrics fail as its rewards do, but for its length.
    fn invalid(&self, reason: String, case: &Case) -> Reward {
        let value = |index: usize| match &self.scoring.metrics[index] {
            RewardConfig::SvgLength(_) => None,
            RewardConfig::Format(format) => Some((format.name.as_deref().unwrap_or("format"), 0.0)),
            metric => Some((metric.common().name, self.scoring.rubric.failure_value)),
        };
        let metrics = self.measurable(case).filter_map(value);
        Reward {
            metrics: metrics.map(|(name, v)| (name.to_owned(), v)).collect(),
            ..self.failed(reason, case.step)
        }
    }

    pub fn failed(&self, reason: String, step: u64) -> Reward {
        let (values, total) = self.scoring.rubric.failure(step);
        let parts = self.named(&values);
        Reward {
            total,
            parts,
            valid: false,
            reason: Some(reason),
            render_ms: 0.0,
            deadline_hit: false,
            metrics: IndexMap::new(),
        }
    }

    fn named(&self, values: &[f64]) -> IndexMap<String, f64> {
        let names = self
            .scoring
            .rubric
            .rewards
            .iter()
            .map(|r| r.common().name.to_owned());
        names.zip(values.iter().copied()).collect()
    }

    fn picture(&self, raster: &Raster) -> Picture {
        Picture::over(
            raster,
            self.scoring.render.background.rgb().unwrap_or([255; 3]),
        )
    }

    /// The reference's picture and features from the cache; none when it has neither SVG nor image.
    fn target(&self, reference: &Reference, measure: bool) -> Result<Option<Arc<Target>>, Failure> {
        // What is kept for metrics is kept apart, so that training does not pay for it.
        let metrics = measure && !self.scoring.metrics.is_empty();
        let rules = match metrics {
            true => &self.rules[..],
            false => &self.rules[..self.scoring.rubric.rewards.len()],
        };
        let draft = reference.draft.as_deref();
        let draft = draft.filter(|_| rules.iter().any(RewardConfig::needs_draft));
        let beside = [&[u8::from(metrics)], draft.unwrap_or_default().as_bytes()];
        let key = if let Some(source) = &reference.svg {
            key(&[b"svg", source.as_bytes(), beside[0], beside[1]])
        } else if let Some(image) = &reference.image {
            let bytes = image.read().map_err(|e| image_failure(&e))?;
            key(&[b"png", &bytes, beside[0], beside[1]])
        } else {
            return Ok(None);
        };
        let compute = || self.compute_target(reference, rules, draft).map(Arc::new);
        // What the machine lacked for a moment says nothing of the reference.
        let lasts = |target: &Result<_, Failure>| {
            !target
                .as_ref()
                .is_err_and(|failure| MACHINE.contains(&failure.reason))
        };
        self.references.get_lasting(key, compute, lasts).map(Some)
    }

    fn compute_target(
        &self,
        reference: &Reference,
        rules: &[RewardConfig],
        draft: Option<&str>,
    ) -> Result<Target, Failure> {
        let config = &self.scoring.render;
        let (picture, intrinsic) = if let Some(source) = &reference.svg {
            let rendered = self.renderer.render(source, config.own_target(), config)?;
            (self.picture(&rendered.raster), rendered.intrinsic)
        } else {
            let bytes = match &reference.image {
                Some(image) => image.read().map_err(|e| image_failure(&e))?,
                None => return Err(Failure::new(Reason::NoSvg, "the reference is empty")),
            };
            let size = Raster::size(&bytes).map_err(|e| image_failure(&e))?;
            let large = u64::from(size.0) * u64::from(size.1) > LARGE;
            let _turn = large.then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
            let raster = Raster::decode(&bytes, MAX_IMAGE_SIDE).map_err(|e| image_failure(&e))?;
            let own = (f64::from(raster.width), f64::from(raster.height));
            (self.fit_image(&self.picture(&raster)), own)
        };
        let canvas = (picture.width as u32, picture.height as u32);
        let picture = Arc::new(picture);
        let draft = draft.and_then(|source| self.draft(source, canvas));
        let feature = |rule: &RewardConfig| self.feature(rule, &picture, draft.as_ref());
        Ok(Target {
            canvas,
            intrinsic,
            features: rules.iter().map(feature).collect(),
        })
    }

    /// The draft's picture on its reference's pixels; none when it does not render.
    fn draft(&self, source: &str, canvas: (u32, u32)) -> Option<Arc<Picture>> {
        let config = &self.scoring.render;
        let rendered = self
            .renderer
            .render(source, config.target_beside(canvas), config);
        let picture = Arc::new(self.picture(&rendered.ok()?.raster));
        Some(fitted(&picture, Some(canvas)))
    }

    /// A reference image on the canvas the task asks for.
    fn fit_image(&self, picture: &Picture) -> Picture {
        let longer = picture.width.max(picture.height) as u32;
        match self.scoring.render.own_target() {
            svg::Target::Exact { width, height } => {
                picture.resized(width as usize, height as usize, Filter::Bicubic)
            }
            svg::Target::Longest(side) => picture.longest(side as usize, Filter::Bicubic),
            svg::Target::Intrinsic { cap } if longer > cap => {
                picture.longest(cap as usize, Filter::Bicubic)
            }
            svg::Target::Intrinsic { .. } => picture.clone(),
        }
    }
}

/// Pixels beyond which pictures are decoded one at a time: a small file may ask for half a gigabyte.
const LARGE: u64 = 1 << 22;
static TURN: Mutex<()> = Mutex::new(());

fn image_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::RenderFailed, format!("image: {error}"))
}

/// A prediction's picture on the reference's pixels, where it has others of its own.
fn fitted(picture: &Arc<Picture>, canvas: Option<(u32, u32)>) -> Arc<Picture> {
    match canvas.map(|(width, height)| (width as usize, height as usize)) {
        Some((width, height)) if (width, height) != (picture.width, picture.height) => {
            Arc::new(picture.resized(width, height, Filter::Bicubic))
        }
        _ => picture.clone(),
    }
}
