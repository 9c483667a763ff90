//! Samples completions of one prompt from a model folder, with the crates alone.
//!
//! ```sh
//! cargo run --release --example rollout -- runs/quickstart/checkpoints/rl/final "a red circle"
//! ```

use std::error::Error;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use models::{Tokenizer, load_folder};
use rollout::engine::{EngineConfig, EngineOptions, ServersOptions, open};
use rollout::{Finished, Request, Sampling, Submission};
use tch::{Device, Kind};

/// Four completions of `prompt`, in the order in which they end.
pub fn completions(folder: &Path, prompt: &str) -> Result<Vec<Finished>, Box<dyn Error>> {
    let tokenizer = Arc::new(Tokenizer::read(folder)?);
    let mut engine = open(
        EngineConfig::Local,
        EngineOptions {
            policy: Rc::new(load_folder(folder, Kind::Float, Device::Cpu)?),
            images: None,
            tokenizer: Some(tokenizer.clone()),
            slots: 0,
            cache_tokens: 0,
            servers: ServersOptions::default(),
        },
    )?;
    engine.submit(Submission {
        requests: vec![Request {
            group: 0,
            ids: tokenizer.encode(prompt).into(),
            images: None,
            samples: 4,
            draw: 0,
            lengths: None,
        }],
        sampling: Sampling {
            max_new_tokens: 64,
            ..Sampling::default()
        },
        seed: 0,
    })?;
    let mut done = Vec::new();
    while let Some(finished) = engine.next()? {
        done.push(finished);
    }
    Ok(done)
}

#[allow(dead_code, reason = "a test takes this file as a module")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(prompt)) = (arguments.next(), arguments.next()) else {
        return Err("usage: rollout MODEL_FOLDER PROMPT".into());
    };
    for finished in completions(Path::new(&folder), &prompt)? {
        let completion = finished.completion;
        let logprob: f32 = completion.logprobs.iter().sum();
        println!("{logprob:.2} {}", completion.text.unwrap_or_default());
    }
    Ok(())
}
