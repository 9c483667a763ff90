//! Drawings of a policy, each beside what it should have been.

use std::path::{Path, PathBuf};
use std::time::Duration;

use models::image::Rgb8;
use rewards::rules::Ssim;
use rewards::{CompletionConfig, RewardConfig, RubricConfig};
use svg::{CanvasRule, RenderConfig, Renderer, WorkerProgram, extract};
use trainer::config::{Config, PairsConfig, StageConfig};
use trainer::{PairsJob, ScoredCandidate, scored_candidates};

use crate::cli::config::load;
use crate::cli::{CliFailure, SharedFlags};
use crate::progress::Bar;

/// What is sampled, by which policy.
#[derive(Debug, Clone, clap::Args)]
pub struct SamplingArgs {
    /// The config whose sources are asked.
    #[arg(long, value_name = "FILE.yaml")]
    config: PathBuf,
    /// The policy's folder in Hugging Face layout.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Sources whose rows are asked; default: all whose task is to draw something new.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    sources: Vec<String>,
    /// Rows that are asked; 0: all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    prompts: usize,
    /// Drawings of each row, at least 2.
    #[arg(long, value_name = "K", default_value_t = 4)]
    candidates: usize,
    /// Divides the logits.
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    temperature: f64,
    /// Longest drawing, in tokens.
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_new_tokens: usize,
    /// Overrides of the config, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A policy's drawing and its reference.
pub struct DraftDrawing {
    /// What was sampled.
    pub candidate: ScoredCandidate,
    /// Its SVG.
    pub svg: String,
}

/// `out` with `end` behind its name.
pub fn beside(out: &Path, end: &str) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(end);
    name.into()
}

impl SamplingArgs {
    /// The valid drawings, scored by structural similarity to their references.
    ///
    /// # Errors
    /// Wrong config, data or policy; the engine's.
    pub fn drawings(
        &self,
        out: &Path,
        shared: &SharedFlags,
    ) -> Result<Vec<DraftDrawing>, CliFailure> {
        let mut loaded = load(&self.config, &self.set, shared)?;
        by_similarity(&mut loaded.config);
        let sources = self.sources(&loaded.config)?;
        let stage = format!(
            "{{algorithm: grpo, name: candidates, curriculum: {{sources: {sources:?}}}, batch: {{size: 32}}}}"
        );
        let stage: StageConfig = serde_saphyr::from_str(&stage).map_err(CliFailure::other)?;
        loaded.config.stages = vec![stage.clone()];
        let mut pairs = PairsConfig {
            candidates: self.candidates,
            prompts: self.prompts,
            ..PairsConfig::default()
        };
        pairs.rollout.temperature = self.temperature;
        pairs.rollout.max_new_tokens = self.max_new_tokens;
        let flag = |error: String| CliFailure::input(format!("--{}", error.replace('_', "-")));
        loaded.config.check_pairs(&pairs).map_err(flag)?;
        let device = loaded.config.device.resolve(0).map_err(CliFailure::input)?;
        let journal = beside(out, ".candidates.jsonl");
        let job = PairsJob {
            config: &loaded.config,
            stage: Some(&stage),
            pairs: &pairs,
            model: &self.model,
            out: &journal,
            device,
        };
        let mut bar: Option<(Bar, u64)> = None;
        let candidates = scored_candidates(&job, &mut |done, all| {
            let (bar, before) =
                bar.get_or_insert_with(|| (Bar::new("prompts", all, shared.quiet), 0));
            bar.advance(done - *before);
            *before = done;
            if done == all {
                bar.finish();
            }
        })
        .map_err(|error| loaded.failure(error))?;
        let drawn = candidates.into_iter().filter_map(|candidate| {
            // Thoughts may hold drawings of their own.
            let answer = candidate.text.rsplit("</think>").next().unwrap_or_default();
            let svg = extract::first_svg(answer).or_else(|| extract::truncated_tail(answer));
            let svg = svg?.to_owned();
            Some(DraftDrawing { candidate, svg })
        });
        Ok(drawn.collect())
    }

    /// The sources that are asked.
    fn sources(&self, config: &Config) -> Result<Vec<String>, CliFailure> {
        use trainer::config::TaskType;
        for name in &self.sources {
            if !config.data.sources.contains_key(name) {
                let known: Vec<&String> = config.data.sources.keys().collect();
                return Err(CliFailure::input(format!(
                    "--sources: `{name}` is none of data.sources {known:?}"
                )));
            }
        }
        if !self.sources.is_empty() {
            return Ok(self.sources.clone());
        }
        let first = config.tasks.keys().next().map(String::as_str);
        let new = |task: Option<&str>| {
            let task = task.or(first).and_then(|name| config.tasks.get(name));
            task.is_some_and(|task| match task.task_type {
                TaskType::TextToSvg | TaskType::ImageToSvg | TaskType::SketchToSvg => true,
                TaskType::Edit
                | TaskType::Refinement
                | TaskType::Caption
                | TaskType::Understanding => false,
            })
        };
        let all = config.data.sources.iter();
        let drawing = all.filter(|(_, source)| new(source.task()));
        let names: Vec<String> = drawing.map(|(name, _)| name.clone()).collect();
        match names.is_empty() {
            true => Err(CliFailure::input(
                "--sources: no source of the config asks for a new drawing; name some",
            )),
            false => Ok(names),
        }
    }
}

/// Every task that draws is scored by SSIM alone, and nothing is measured besides.
fn by_similarity(config: &mut Config) {
    for task in config.tasks.values_mut() {
        if matches!(task.completion, Some(CompletionConfig::Text(_))) {
            continue;
        }
        task.metrics = Some(Vec::new());
        task.rubric = Some(RubricConfig {
            rewards: vec![RewardConfig::Ssim(Ssim::default())],
            ..RubricConfig::default()
        });
    }
    config.encoders.clear();
}

/// What a drawing may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Draws SVGs and references alike: squares of one size, white behind.
pub struct SquarePictures {
    renderer: Renderer,
    config: RenderConfig,
}

impl SquarePictures {
    /// Squares of `size` pixels.
    ///
    /// # Errors
    /// A render worker that is not installed.
    pub fn new(size: u32) -> Result<Self, CliFailure> {
        Ok(Self {
            renderer: Renderer::new(&WorkerProgram::Installed, DEADLINE)
                .map_err(CliFailure::other)?,
            config: RenderConfig {
                canvas: CanvasRule::Fixed,
                size,
                ..RenderConfig::default()
            },
        })
    }

    /// A PNG of an SVG, or why there is none.
    pub fn of_svg(&self, svg: &str) -> Result<Vec<u8>, String> {
        let drawn = self
            .renderer
            .render(svg, self.config.own_target(), &self.config);
        let drawn = drawn.map_err(|failure| failure.to_string())?;
        drawn.raster.to_png().map_err(|error| error.to_string())
    }

    /// A picture of what a candidate is compared with.
    pub fn of_reference(&self, candidate: &ScoredCandidate) -> Result<Vec<u8>, String> {
        let reference = &candidate.reference;
        match (&reference.svg, &reference.image) {
            (Some(svg), _) => self.of_svg(svg),
            (None, Some(image)) => {
                let bytes = image.read().map_err(|error| error.to_string())?;
                Rgb8::decode(&bytes).map_err(|error| error.to_string())?;
                Ok(bytes.to_vec())
            }
            (None, None) => Err("the row has neither an SVG nor a picture".to_owned()),
        }
    }
}
