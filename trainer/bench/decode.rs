//! Decoding alone.

use std::rc::Rc;
use std::time::Instant;

use rollout::engine::{self, EngineConfig, EngineOptions, ServersOptions};
use rollout::{Request, Sampling, Submission};
use tch::{Device, Kind};

use super::shape::Shape;
use crate::TrainError;

/// Decoding to measure.
#[derive(Debug, Clone, Copy)]
pub struct DecodeBench {
    /// The network.
    pub shape: Shape,
    /// Kind and device.
    pub place: (Kind, Device),
    /// Sequences that are decoded together.
    pub batch: usize,
    /// New tokens of each.
    pub tokens: usize,
    /// Words of each one's prompt, in tokens; `None`: 34.
    pub prompt: Option<usize>,
}

/// How decoding went.
#[derive(Debug, Clone, Copy)]
pub struct DecodeRate {
    /// New tokens per second, prompts included in the time.
    pub tokens_per_s: f64,
    /// The same without the time to the first token of each sequence.
    pub decode_tokens_per_s: f64,
    /// Kernels and copies that one launch of a captured step starts; 0 where none was captured.
    pub graph_nodes: u64,
}

/// Decodes once.
///
/// # Errors
/// The engine's; a batch or a number of tokens that is 0.
pub fn decode_rate(bench: &DecodeBench) -> Result<DecodeRate, TrainError> {
    let DecodeBench {
        shape,
        place,
        batch,
        tokens,
        prompt,
    } = *bench;
    let model = Rc::new(shape.model(place)?);
    let options = EngineOptions {
        policy: model.clone(),
        images: None,
        tokenizer: None,
        slots: 0,
        cache_tokens: 0,
        servers: ServersOptions::default(),
    };
    let mut engine = engine::open(EngineConfig::Local, options)?;
    let request = |group| -> Result<Request, TrainError> {
        let prompt = match prompt {
            None => shape.prompt(&model, group)?,
            Some(words) => shape.prompt_of(&model, (group, words))?,
        };
        Ok(Request {
            group,
            ids: prompt.ids,
            images: prompt.shown,
            samples: 1,
            draw: group as u64,
            lengths: None,
        })
    };
    let requests: Result<Vec<Request>, TrainError> = (0..batch).map(request).collect();
    let requests = requests?;
    let mut whole = |max_new_tokens: usize| -> Result<f64, TrainError> {
        let sampling = Sampling {
            max_new_tokens,
            ..Sampling::default()
        };
        engine.submit(Submission {
            requests: requests.clone(),
            sampling,
            seed: 0,
        })?;
        let started = Instant::now();
        while engine.next()?.is_some() {}
        Ok(started.elapsed().as_secs_f64())
    };
    let first = match place.1.is_cuda() && tokens > 1 {
        true => whole(1)?,
        false => 0.0,
    };
    let seconds = whole(tokens)?;
    Ok(DecodeRate {
        tokens_per_s: (batch * tokens) as f64 / seconds,
        decode_tokens_per_s: (batch * (tokens - usize::from(first > 0.0))) as f64
            / (seconds - first).max(1e-9),
        graph_nodes: engine.stats().graph_nodes,
    })
}
