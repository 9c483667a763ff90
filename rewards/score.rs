//! Scoring one completion of one task: shape, rendering beside the reference, each reward, the total.

use crate::cache::{Cache, key};
use crate::config::{RewardConfig, TaskScoring};
use crate::edges::L2Canny;
use crate::length::{CodeEfficiency, LengthRatio};
use crate::picture::Picture;
use crate::pixel::{Mse, MseForeground, Psnr};
use crate::reference::{Candidate, Reference};
use crate::rubric::{Truncated, clip};
use crate::scorer::TokenCounter;
use crate::shape::Aspect;
use indexmap::IndexMap;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use svg::{Failure, Filter, Raster, Reason, Rendered, Renderer};

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
}

/// One task's scoring with all it needs; shared by the scoring threads.
pub(crate) struct Task {
    pub scoring: TaskScoring,
    pub renderer: Arc<Renderer>,
    pub tokens: Option<TokenCounter>,
    references: Cache<Result<Arc<Target>, Failure>>,
}

/// What is kept of a reference.
struct Target {
    canvas: (u32, u32),
    /// Own width and height.
    intrinsic: (f64, f64),
    /// One for each reward of the rubric.
    features: Vec<Feature>,
}

/// A rendered prediction beside its reference.
struct Pair<'a> {
    source: &'a str,
    picture: Picture,
    rendered: Rendered,
    reference: &'a Reference,
    target: Option<Arc<Target>>,
}

/// What a reward compares.
#[derive(Clone)]
enum Feature {
    None,
    Picture(Arc<Picture>),
    Edges(Arc<Vec<f64>>),
}

impl Task {
    pub fn new(
        scoring: TaskScoring,
        renderer: Arc<Renderer>,
        tokens: Option<TokenCounter>,
        cached: usize,
    ) -> Self {
        Task {
            scoring,
            renderer,
            tokens,
            references: Cache::new(cached),
        }
    }

    pub fn score(&self, reference: &Reference, candidate: &Candidate, step: u64) -> Reward {
        let mut reward = match self.scoring.completion.extract(&candidate.text) {
            Ok(source) => self.score_svg(source, reference, step),
            Err(reason) => self.failed(reason.into(), step),
        };
        if let (true, Truncated::Value(value)) =
            (candidate.truncated, self.scoring.rubric.truncated)
        {
            reward.total = value;
        }
        reward
    }

    /// Whether a reference can serve this task.
    pub fn check_reference(&self, reference: &Reference) -> Result<(), String> {
        self.check_fields(reference)?;
        self.target(reference)
            .map(|_| ())
            .map_err(|e| format!("reference does not render: {e}"))
    }

    /// Whether it has what the rewards need.
    pub fn check_fields(&self, reference: &Reference) -> Result<(), String> {
        if let Some(lack) = self.scoring.rubric.lacks(reference) {
            return Err(lack);
        }
        Ok(())
    }

    fn score_svg(&self, source: &str, reference: &Reference, step: u64) -> Reward {
        let target = match self.target(reference) {
            Ok(target) => target,
            Err(failure) => return self.failed(format!("reference_{failure}"), step),
        };
        let config = &self.scoring.render;
        let canvas = target
            .as_ref()
            .map_or(config.own_target(), |t| config.target_beside(t.canvas));
        let start = Instant::now();
        let rendered = self.renderer.render(source, canvas, config);
        let render_ms = start.elapsed().as_secs_f64() * 1e3;
        let mut reward = match rendered {
            Ok(rendered) => {
                let pair = Pair {
                    source,
                    picture: self.fitted(&rendered, target.as_deref()),
                    rendered,
                    reference,
                    target,
                };
                self.judge(&pair, step)
            }
            Err(failure) => Reward {
                deadline_hit: failure.reason == Reason::Deadline,
                ..self.failed(failure.to_string(), step)
            },
        };
        reward.render_ms = render_ms;
        reward
    }

    fn judge(&self, pair: &Pair<'_>, step: u64) -> Reward {
        let rubric = &self.scoring.rubric;
        let value = |(i, config)| clip(self.value(i, config, pair), config.common().clip);
        let values: Vec<f64> = rubric.rewards.iter().enumerate().map(value).collect();
        let total = rubric.total(&values, step, pair.picture.is_blank());
        Reward {
            total,
            parts: self.named(&values),
            valid: true,
            reason: None,
            render_ms: 0.0,
            deadline_hit: false,
        }
    }

    fn value(&self, index: usize, config: &RewardConfig, pair: &Pair<'_>) -> f64 {
        let tokens = self.tokens.as_deref().map(|f| f as &dyn Fn(&str) -> usize);
        let length = |text: &str| config.unit().map_or(0.0, |unit| unit.count(text, tokens));
        let against = |rule: fn(f64, f64) -> f64| {
            pair.reference
                .svg
                .as_deref()
                .map_or(0.0, |r| rule(length(pair.source), length(r.trim())))
        };
        match config {
            RewardConfig::Format(_) => 1.0,
            RewardConfig::CodeEfficiency(_) => against(CodeEfficiency::value),
            RewardConfig::LengthRatio(_) => against(LengthRatio::value),
            RewardConfig::LengthLinear(rule) => rule.value(length(pair.source)),
            RewardConfig::BlankPenalty(rule) => rule.value(&pair.picture),
            compared => match &pair.target {
                None => 0.0,
                Some(target) => match compared {
                    RewardConfig::Aspect(_) => {
                        Aspect::value(pair.rendered.intrinsic, target.intrinsic)
                    }
                    _ => compare(compared, &pair.picture, &target.features[index]),
                },
            },
        }
    }

    /// The prediction's picture, on the reference's pixels where it has others of its own.
    fn fitted(&self, rendered: &Rendered, target: Option<&Target>) -> Picture {
        let picture = self.picture(&rendered.raster);
        match target.map(|t| (t.canvas.0 as usize, t.canvas.1 as usize)) {
            Some((width, height)) if (width, height) != (picture.width, picture.height) => {
                picture.resized(width, height, Filter::Bicubic)
            }
            _ => picture,
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
    fn target(&self, reference: &Reference) -> Result<Option<Arc<Target>>, Failure> {
        let key = if let Some(source) = &reference.svg {
            key(&[b"svg", source.as_bytes()])
        } else if let Some(image) = &reference.image {
            let bytes = image.read().map_err(|e| image_failure(&e))?;
            key(&[b"png", &bytes])
        } else {
            return Ok(None);
        };
        self.references
            .get(key, || self.compute_target(reference).map(Arc::new))
            .map(Some)
    }

    fn compute_target(&self, reference: &Reference) -> Result<Target, Failure> {
        let config = &self.scoring.render;
        let (picture, intrinsic) = if let Some(source) = &reference.svg {
            let rendered = self.renderer.render(source, config.own_target(), config)?;
            (self.picture(&rendered.raster), rendered.intrinsic)
        } else {
            let bytes = match &reference.image {
                Some(image) => image.read().map_err(|e| image_failure(&e))?,
                None => return Err(Failure::new(Reason::NoSvg, "the reference is empty")),
            };
            let raster = Raster::from_png(&bytes, MAX_IMAGE_SIDE).map_err(|e| image_failure(&e))?;
            let own = (f64::from(raster.width), f64::from(raster.height));
            (self.fit_image(&self.picture(&raster)), own)
        };
        let features = self
            .scoring
            .rubric
            .rewards
            .iter()
            .map(|r| feature(r, &picture))
            .collect();
        Ok(Target {
            canvas: (picture.width as u32, picture.height as u32),
            intrinsic,
            features,
        })
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

const MAX_IMAGE_SIDE: u32 = 8192;

fn image_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::RenderFailed, format!("image: {error}"))
}

/// The picture at the size a reward compares it, or its edges.
fn feature(config: &RewardConfig, picture: &Picture) -> Feature {
    if !config.needs_reference_picture() || matches!(config, RewardConfig::Aspect(_)) {
        return Feature::None;
    }
    let sized = match config.size() {
        Some(side) => picture.longest(side as usize, Filter::Bicubic),
        None => picture.clone(),
    };
    match config {
        RewardConfig::L2Canny(_) => Feature::Edges(Arc::new(L2Canny::feature(&sized))),
        _ => Feature::Picture(Arc::new(sized)),
    }
}

fn compare(config: &RewardConfig, picture: &Picture, target: &Feature) -> f64 {
    match (feature(config, picture), target) {
        (Feature::Edges(a), Feature::Edges(b)) => L2Canny::value(&a, b),
        (Feature::Picture(a), Feature::Picture(b)) => compare_pictures(config, &a, b),
        _ => 0.0,
    }
}

fn compare_pictures(config: &RewardConfig, a: &Picture, b: &Picture) -> f64 {
    match config {
        RewardConfig::Mse(_) => Mse::value(a, b),
        RewardConfig::L2(rule) => rule.value(a, b),
        RewardConfig::MseForeground(_) => MseForeground::value(a, b),
        RewardConfig::Ssim(rule) => rule.value(a, b),
        RewardConfig::Psnr(_) => Psnr::value(a, b),
        _ => 0.0,
    }
}
