//! What a sampler has been asked for: decoded together as far as it fits together, in the order of its coming.

use std::collections::{HashMap, VecDeque};

use super::wire::{AskedPrompt, DoneSample};
use crate::RolloutError;
use crate::engine::local::{OpenDecoder, WantedSamples};

/// A sampler's decoder, and whom its completions are for.
pub(super) struct SamplerWork {
    pub(super) decoder: OpenDecoder,
    waiting: VecDeque<WantedSamples>,
    /// Whom each task is for, and what that learner calls it, by the task's group.
    askers: HashMap<usize, (u64, u64)>,
    next: usize,
}

/// What a step of the work came to.
pub(super) enum WorkDone {
    /// These completions have ended, each for a learner.
    Samples(Vec<(u64, DoneSample)>),
    /// These learners asked for what cannot be sampled, and why.
    Refused(Vec<u64>, String),
}

impl SamplerWork {
    pub(super) fn new(decoder: OpenDecoder) -> Self {
        Self {
            decoder,
            waiting: VecDeque::new(),
            askers: HashMap::new(),
            next: 0,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.decoder.is_idle()
    }

    /// Learner `asker` wants completions.
    ///
    /// # Errors
    /// Why this policy cannot make them.
    pub(super) fn ask(
        &mut self,
        asker: u64,
        (asked, pixels): (AskedPrompt, Vec<u8>),
    ) -> Result<(), String> {
        let group = self.next;
        let request = asked
            .request(&pixels, group)
            .ok_or("a prompt's pictures did not arrive whole")?;
        if request.ids.is_empty() {
            return Err("a prompt has no tokens".into());
        }
        if request.images.is_some() && self.decoder.policy().vision().is_none() {
            return Err("a prompt shows a picture to a policy that sees none".into());
        }
        asked.sampling.check()?;
        self.next += 1;
        self.askers.insert(group, (asker, asked.key));
        self.waiting.push_back(WantedSamples {
            request,
            wanted: asked.wanted,
            sampling: asked.sampling,
            seed: asked.seed,
        });
        Ok(())
    }

    /// Learner `asker` wants nothing any more.
    pub(super) fn forget(&mut self, asker: u64) {
        self.askers.retain(|_, (own, _)| *own != asker);
        let askers = &self.askers;
        self.waiting
            .retain(|one| askers.contains_key(&one.request.group));
        if self.askers.is_empty() {
            self.decoder.abandon();
        }
    }

    /// Takes in what fits and goes on by a token.
    ///
    /// # Errors
    /// libtorch's, out of memory for instance.
    pub(super) fn step(&mut self) -> Result<WorkDone, RolloutError> {
        let count = self.decoder.takes(self.waiting.iter());
        let taken: Vec<WantedSamples> = self.waiting.drain(..count).collect();
        let groups: Vec<usize> = taken.iter().map(|one| one.request.group).collect();
        match self.decoder.join(taken) {
            Ok(()) => {}
            Err(RolloutError::Input(why)) => {
                let own = groups.iter().filter_map(|group| self.askers.remove(group));
                return Ok(WorkDone::Refused(
                    own.map(|(asker, _)| asker).collect(),
                    why,
                ));
            }
            Err(error) => return Err(error),
        }
        let mut samples = Vec::new();
        for done in self.decoder.advance()? {
            // Whoever has been forgotten is not told.
            if let Some((asker, key)) = self.askers.get(&done.group) {
                samples.push((*asker, DoneSample::of(*key, done.index, done.completion)));
            }
        }
        if self.is_idle() {
            self.askers.clear();
        }
        Ok(WorkDone::Samples(samples))
    }
}
