//! The engine in the learner's own process: continuous batching over slots with the very tensors
//! that are trained, so that weights are never copied.
//!
//! A submission's cache is freed when its last completion is handed out: the learner needs the memory.

mod admission;
mod decoding;
mod device_rows;
mod open;
mod sampler;
mod slots;

use std::rc::Rc;
use std::sync::Arc;

use models::{EncodedImages, Tokenizer, catch_torch};

use crate::engine::{
    Capabilities, Engine, EngineOptions, EngineStats, Finished, Request, Submission, WeightBlocks,
};
use crate::{RolloutError, VersionSpan};
use decoding::{DecodeBounds, Decoding};
pub(super) use open::{OpenDecoder, WantedSamples};

/// Samples with the learner's tensors in this process.
pub(super) struct LocalEngine {
    options: EngineOptions,
    /// What is being decoded.
    decoding: Option<Decoding>,
    stats: EngineStats,
}

impl LocalEngine {
    pub(super) fn new(options: EngineOptions) -> Self {
        Self {
            options,
            decoding: None,
            stats: EngineStats::default(),
        }
    }

    /// The prompts' pictures through the tower, once each.
    fn encode_images(&self, requests: &[Request]) -> Result<Vec<Rc<EncodedImages>>, RolloutError> {
        let shown: Vec<_> = requests
            .iter()
            .filter_map(|request| request.images.clone())
            .collect();
        let views = self.options.policy.encode_images(&shown)?;
        if let Some(cache) = &self.options.images {
            cache.leave(views.iter().cloned());
        }
        Ok(views)
    }
}

impl Engine for LocalEngine {
    fn submit(&mut self, submission: Submission) -> Result<(), RolloutError> {
        submission.check(self.capabilities())?;
        if self.decoding.is_some() {
            return Err(RolloutError::Input(
                "requests were submitted while others are still decoding".into(),
            ));
        }
        let tokenizer: Option<Arc<Tokenizer>> = self.options.tokenizer.clone();
        let model = &self.options.policy;
        let begin = || {
            let views = self.encode_images(&submission.requests)?;
            let bounds = DecodeBounds {
                slots: self.options.slots,
                cache_tokens: self.options.cache_tokens,
            };
            Decoding::new(model, tokenizer, submission, views, bounds)
        };
        self.decoding = Some(catch_torch(|| tch::no_grad(begin)).map_err(RolloutError::Torch)??);
        Ok(())
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        let model = &self.options.policy;
        while let Some(decoding) = &mut self.decoding {
            if let Some(mut finished) = decoding.pop() {
                let (version, end) = (self.stats.policy_version, finished.completion.ids.len());
                finished.completion.spans = vec![VersionSpan { version, end }];
                return Ok(Some(finished));
            }
            if decoding.is_done() {
                self.decoding = None;
                break;
            }
            if stop() {
                self.decoding = None;
                return Err(RolloutError::Stopped);
            }
            let stats = &mut self.stats;
            let step = catch_torch(|| tch::no_grad(|| decoding.advance(model, stats)));
            if let Err(error) = step.map_err(RolloutError::Torch).flatten() {
                self.decoding = None;
                return Err(error);
            }
        }
        Ok(None)
    }

    fn sync(&mut self, _weights: &dyn WeightBlocks, version: u64) -> Result<(), RolloutError> {
        // They are the tensors that it decodes with.
        self.stats.policy_version = version;
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        self.stats
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pictures: self.options.policy.vision().is_some(),
            exact_lengths: true,
            ahead: false,
            shares_weights: true,
        }
    }
}
