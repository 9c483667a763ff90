//! CTRL-S' whole reward beside the forward time of its encoders alone, with random weights of DINOv2-base and
//! Long-CLIP-L shape, in one run: nothing but the encoders should cost.

use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexMap;
use models::encoder::{Encoder, Pooling, RandomShape};
use models::image::Rgb8;
use rewards::rules::{CodeEfficiency, Dino, ImageText};
use rewards::{
    Candidate, CompletionConfig, EncoderConfig, EncoderDtype, EncoderInit, EncoderSet, Reference,
    RewardConfig, RewardsConfig, RubricConfig, ScoreJob, Scorer, TaskScoring, Weight,
};
use serde::Serialize;
use svg::{Renderer, WorkerProgram};
use tch::{Device, Kind};

use crate::TrainError;
use crate::config::device_choice;

/// Completions of one reference.
const GROUP: usize = 8;
/// Forward passes are timed at these sizes; the best counts.
const BATCHES: [usize; 4] = [1, 2, 4, 8];

/// What was measured; seconds of the best repetition.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Completions scored in each repetition.
    pub completions: usize,
    /// Pictures and texts through the networks and nothing else.
    pub encoders_s: f64,
    /// The size of a pass at which that was least.
    pub best_batch: usize,
    /// From completions to totals.
    pub reward_s: f64,
    /// The second over the first.
    pub ratio: f64,
}

/// Scores each of `sources` against the first of its group, `repeat` times and once before.
///
/// # Errors
/// A machine that cannot render or hold the networks; SVGs that do not render.
pub fn measure(
    sources: &[String],
    repeat: usize,
    (kind, device): (Kind, Device),
) -> Result<Measured, TrainError> {
    let other = |error: &dyn std::fmt::Display| TrainError::Other(error.to_string());
    let kind = Encoder::half_is_float16(kind);
    let scorer = scorer((kind, device))?;
    let networks = [RandomShape::Dinov2Base, RandomShape::LongClipLarge]
        .map(|shape| Encoder::random(shape, (kind, device)));
    let [dino, clip] = networks;
    let (dino, clip) = (dino?, clip?);
    let renderer = Renderer::new(&WorkerProgram::Installed, std::time::Duration::from_secs(5))
        .map_err(|error| other(&error))?;
    let config = svg::RenderConfig::default();
    let mut pictures = Vec::new();
    for source in sources {
        let drawn = renderer
            .render(source, config.own_target(), &config)
            .map_err(|error| other(&error))?;
        pictures.push(Rgb8 {
            width: drawn.raster.width as usize,
            height: drawn.raster.height as usize,
            data: drawn.raster.rgb_over([255; 3]),
        });
    }
    let fit = |network: &Encoder| -> Result<Vec<Rgb8>, TrainError> {
        Ok(pictures
            .iter()
            .map(|picture| network.fit(picture))
            .collect::<Result<_, _>>()?)
    };
    let (for_dino, for_clip) = (fit(&dino)?, fit(&clip)?);
    let groups = sources.len().div_ceil(GROUP);
    let mut best = Measured {
        completions: sources.len(),
        encoders_s: f64::INFINITY,
        best_batch: 1,
        reward_s: f64::INFINITY,
        ratio: 0.0,
    };
    for round in 0..=repeat {
        let texts: Vec<Vec<i64>> = (0..groups)
            .map(|group| clip.tokenize(&prompt(round, group)))
            .collect::<Result<_, _>>()?;
        for batch in BATCHES.into_iter().filter(|size| *size <= sources.len()) {
            let started = Instant::now();
            // Predictions and references; the first of a group is both.
            forward(&dino, &for_dino, batch)?;
            forward(&dino, &for_dino[..groups], batch)?;
            forward(&clip, &for_clip, batch)?;
            for text in &texts {
                let _ = clip.embed_ids(&[text], text.len(), Pooling::Cls)?;
            }
            let seconds = started.elapsed().as_secs_f64();
            if round > 0 && seconds < best.encoders_s {
                (best.encoders_s, best.best_batch) = (seconds, batch);
            }
        }
        let started = Instant::now();
        let rewards = scorer.score(jobs(sources, round));
        let seconds = started.elapsed().as_secs_f64();
        scorer.check()?;
        if let Some(bad) = rewards.iter().find(|reward| !reward.valid) {
            return Err(TrainError::Other(format!(
                "a completion was not scored: {:?}",
                bad.reason.as_ref().map(ToString::to_string)
            )));
        }
        if round > 0 {
            best.reward_s = best.reward_s.min(seconds);
        }
    }
    best.ratio = best.reward_s / best.encoders_s;
    Ok(best)
}

fn forward(network: &Encoder, pictures: &[Rgb8], batch: usize) -> Result<(), TrainError> {
    for chunk in pictures.chunks(batch) {
        let chunk: Vec<&Rgb8> = chunk.iter().collect();
        let _ = network.embed_images(&chunk, Pooling::Mean)?;
    }
    Ok(())
}

/// A prompt that no round before had, so that nothing is found in a cache.
fn prompt(round: usize, group: usize) -> String {
    format!(
        "Draw the icon numbered {group} of set {round}: two round shapes above a wide bar, the left one dark, with a thin outline."
    )
}

fn jobs(sources: &[String], round: usize) -> Vec<ScoreJob> {
    let job = |(index, source): (usize, &String)| {
        let group = index / GROUP;
        ScoreJob {
            key: index as u64,
            id: index.to_string(),
            task: "draw".into(),
            step: 0,
            measure: false,
            prompt: prompt(round, group).into(),
            reference: Arc::new(Reference {
                svg: Some(format!("{}<!-- {round} -->", sources[group * GROUP])),
                ..Reference::default()
            }),
            candidate: Candidate {
                text: source.clone(),
                truncated: false,
            },
        }
    };
    sources.iter().enumerate().map(job).collect()
}

/// CTRL-S' reward on SVGs without thoughts.
fn scorer((kind, device): (Kind, Device)) -> Result<Scorer, TrainError> {
    let weight = |weight: f64| Weight::Constant(weight);
    let rewards = vec![
        RewardConfig::Dino(Dino {
            encoder: "dino".into(),
            weight: weight(2.0),
            ..Dino::default()
        }),
        RewardConfig::ImageText(ImageText {
            encoder: "clip".into(),
            weight: weight(1.0),
            ..ImageText::default()
        }),
        RewardConfig::CodeEfficiency(CodeEfficiency::default()),
    ];
    let task = TaskScoring {
        completion: CompletionConfig::default(),
        render: svg::RenderConfig::default(),
        rubric: RubricConfig {
            rewards,
            ..RubricConfig::default()
        },
        ..TaskScoring::default()
    };
    let encoder = |init: EncoderInit| EncoderConfig {
        init: Some(init),
        dtype: match kind {
            Kind::BFloat16 | Kind::Half => EncoderDtype::Float16,
            _ => EncoderDtype::Float32,
        },
        ..EncoderConfig::default()
    };
    let set = EncoderSet {
        encoders: IndexMap::from([
            ("dino".to_owned(), encoder(EncoderInit::Dinov2Base)),
            ("clip".to_owned(), encoder(EncoderInit::LongClipLarge)),
        ]),
        device: device_choice(device),
    };
    let tasks = IndexMap::from([("draw".to_owned(), task)]);
    Ok(Scorer::with_encoders(
        &RewardsConfig::default(),
        tasks,
        None,
        &set,
    )?)
}
