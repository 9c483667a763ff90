//! Decoding alone.

use std::rc::Rc;
use std::time::Instant;

use rollout::engine::{self, EngineConfig, EngineOptions};
use rollout::{Request, Sampling, Submission};
use tch::{Device, Kind};

use super::shape::Shape;
use crate::TrainError;

/// New tokens per second when `batch` sequences of `tokens` tokens are decoded together.
///
/// # Errors
/// The engine's.
pub fn decode_rate(
    shape: Shape,
    place: (Kind, Device),
    batch: usize,
    tokens: usize,
) -> Result<f64, TrainError> {
    let model = Rc::new(shape.model(place)?);
    let options = EngineOptions {
        policy: model.clone(),
        images: None,
        tokenizer: None,
        slots: 0,
        cache_tokens: 0,
    };
    let mut engine = engine::open(EngineConfig::Local, options)?;
    let request = |group| -> Result<Request, TrainError> {
        let prompt = shape.prompt(&model, group)?;
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
    engine.submit(Submission {
        requests: requests?,
        sampling: Sampling {
            max_new_tokens: tokens,
            ..Sampling::default()
        },
        seed: 0,
    })?;
    let started = Instant::now();
    while engine.next()?.is_some() {}
    Ok((batch * tokens) as f64 / started.elapsed().as_secs_f64())
}
