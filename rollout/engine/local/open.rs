//! A decoding that others may join while it goes on: what serves several askers at a time.
//!
//! Who asks, and when, changes no completion: random numbers are keyed by draw and place, and rows are computed alike
//! whatever stands beside them. Requests that are sampled otherwise, or that do not fit, wait until it has ended.

use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, Tokenizer, catch_torch};

use super::decoding::{DecodeBounds, Decoding};
use crate::RolloutError;
use crate::engine::{EngineStats, Finished, Request, Sampling};

/// Requests that one decoding takes in its life: those that have ended are kept until it ends.
const MOST: usize = 2048;

/// Some completions of one prompt.
#[derive(Debug, Clone)]
pub(in crate::engine) struct WantedSamples {
    /// The prompt; [`Request::group`] comes back with each completion.
    pub(in crate::engine) request: Request,
    /// The numbers of the completions among their siblings.
    pub(in crate::engine) wanted: Vec<usize>,
    /// How tokens are drawn.
    pub(in crate::engine) sampling: Sampling,
    /// Keys the random numbers.
    pub(in crate::engine) seed: u64,
}

/// Decodes what is asked for by and by.
pub(in crate::engine) struct OpenDecoder {
    policy: Rc<Decoder>,
    tokenizer: Option<Arc<Tokenizer>>,
    bounds: DecodeBounds,
    decoding: Option<Joined>,
    stats: EngineStats,
}

/// A decoding under way, and how its completions are sampled.
struct Joined {
    decoding: Decoding,
    sampling: Sampling,
    seed: u64,
    requests: usize,
}

impl OpenDecoder {
    /// Samples with the weights of `policy`, `slots` completions at a time, in a cache of `cache_tokens` (0: as many as they need).
    pub(in crate::engine) fn new(
        policy: Rc<Decoder>,
        tokenizer: Option<Arc<Tokenizer>>,
        (slots, cache_tokens): (usize, usize),
    ) -> Self {
        Self {
            policy,
            tokenizer,
            bounds: DecodeBounds {
                slots: slots.max(1),
                cache_tokens,
            },
            decoding: None,
            stats: EngineStats::default(),
        }
    }

    /// Whether nothing is being decoded.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        self.decoding.is_none()
    }

    /// What its next decoding is bounded by.
    pub(in crate::engine) fn set_bounds(&mut self, (slots, cache_tokens): (usize, usize)) {
        self.bounds = DecodeBounds {
            slots: slots.max(1),
            cache_tokens,
        };
    }

    /// How many of the first of `asked` can be taken now.
    pub(in crate::engine) fn takes<'a>(
        &self,
        asked: impl Iterator<Item = &'a WantedSamples>,
    ) -> usize {
        let mut asked = asked.peekable();
        let Some(first) = asked.peek().copied() else {
            return 0;
        };
        let alike =
            |one: &WantedSamples| (&one.sampling, one.seed) == (&first.sampling, first.seed);
        let joined = self.decoding.as_ref();
        let room = match joined {
            None => MOST,
            Some(joined) if (&joined.sampling, joined.seed) == (&first.sampling, first.seed) => {
                MOST.saturating_sub(joined.requests)
            }
            Some(_) => 0,
        };
        let joins = |one: &WantedSamples| {
            let length = one.request.ids.len();
            joined.is_none_or(|joined| joined.decoding.has_room_for(length))
        };
        let taken = asked.take_while(|one| alike(one) && joins(one));
        taken.take(room).count()
    }

    /// Takes requests that [`Self::takes`] lets in, not none.
    ///
    /// # Errors
    /// A prompt that cannot fit, stop strings without a tokenizer; libtorch's, out of memory for instance.
    pub(in crate::engine) fn join(
        &mut self,
        asked: Vec<WantedSamples>,
    ) -> Result<(), RolloutError> {
        let Some(first) = asked.first() else {
            return Ok(());
        };
        let (sampling, seed) = (first.sampling.clone(), first.seed);
        let count = asked.len();
        let requests: Vec<(Request, Vec<usize>)> = asked
            .into_iter()
            .map(|one| (one.request, one.wanted))
            .collect();
        let shown: Vec<_> = requests
            .iter()
            .filter_map(|(request, _)| request.images.clone())
            .collect();
        let begin = || -> Result<(), RolloutError> {
            let views = self.policy.encode_images(&shown)?;
            if self.decoding.is_none() {
                let wanted = requests.iter().map(|(_, wanted)| wanted.len()).sum();
                let prompts: Vec<Request> = requests
                    .iter()
                    .map(|(request, _)| request.clone())
                    .collect();
                let decoding = Decoding::open(
                    &self.policy,
                    self.tokenizer.clone(),
                    (sampling.clone(), seed),
                    (&prompts, wanted),
                    self.bounds,
                )?;
                self.decoding = Some(Joined {
                    decoding,
                    sampling,
                    seed,
                    requests: 0,
                });
            }
            if let Some(joined) = &mut self.decoding {
                joined.decoding.join(requests, views);
                joined.requests += count;
            }
            Ok(())
        };
        catch_torch(|| tch::no_grad(begin)).map_err(RolloutError::Torch)?
    }

    /// Goes on by one token; the completions that have ended by it.
    ///
    /// # Errors
    /// libtorch's, out of memory for instance.
    pub(in crate::engine) fn advance(&mut self) -> Result<Vec<Finished>, RolloutError> {
        let Some(joined) = &mut self.decoding else {
            return Ok(Vec::new());
        };
        let (policy, stats) = (&self.policy, &mut self.stats);
        let step = catch_torch(|| tch::no_grad(|| joined.decoding.advance(policy, stats)));
        step.map_err(RolloutError::Torch).flatten()?;
        let ended = std::iter::from_fn(|| joined.decoding.pop()).collect();
        if joined.decoding.is_done() {
            self.decoding = None;
        }
        Ok(ended)
    }

    /// Throws away what is being decoded.
    pub(in crate::engine) fn abandon(&mut self) {
        self.decoding = None;
    }

    /// What it samples with; new weights are written into it.
    pub(in crate::engine) fn policy(&self) -> &Rc<Decoder> {
        &self.policy
    }
}
