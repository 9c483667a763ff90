//! Rank 0 meets samplers and gives them weights: a group of all that live, a broadcast, and an answer from each.
//!
//! Whoever dies meanwhile breaks the group. Then those that are left make another one and are given all weights again:
//! what is half done is never sampled with, because nobody samples before all have answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use models::Decoder;
use torch_ext::{Backend, GroupOptions, ProcessGroup};

use super::buckets::{SentWeights, Unsent, send_weights, weight_plan};
use super::card::SamplerRoll;
use super::pool::{SamplerPool, store};
use super::wire::{FromSampler, ToSampler, WeightSeat};
use crate::RolloutError;
use crate::engine::WeightBlocks;

/// Time between two looks at the store.
const POLL: Duration = Duration::from_millis(50);
/// How often weights are sent again though nobody was lost.
const TRIES: u32 = 3;
/// Time between signs of life in the group, for the message when it breaks.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Weights on their way: what they are, and how those that get them sample.
#[derive(Clone, Copy)]
pub(super) struct GivenWeights<'a> {
    /// The tensors.
    pub(super) weights: &'a dyn WeightBlocks,
    /// The policy that they are of.
    pub(super) policy: &'a Decoder,
    /// How they are called.
    pub(super) version: u64,
    /// Completions at a time, and tokens of the cache.
    pub(super) bounds: (usize, usize),
}

impl SamplerPool {
    /// Waits for the samplers that were started with the run.
    ///
    /// # Errors
    /// One that must not take part; nobody who comes in time.
    pub(super) fn meet(&mut self) -> Result<(), RolloutError> {
        let end = Instant::now() + self.config.deadline();
        let mut numbers = BTreeSet::new();
        loop {
            let refused = self.look_for_newcomers()?;
            if let Some(why) = refused.first() {
                return Err(RolloutError::Input(why.clone()));
            }
            while self.listen(Duration::ZERO) {}
            let came = self.members.iter().filter(|member| member.ready);
            numbers.extend(came.map(|member| member.id));
            let all = numbers.len() >= self.place.expected.max(1);
            if all && self.members.iter().all(|member| member.ready) {
                return Ok(());
            }
            if Instant::now() >= end {
                if self.members.iter().any(|member| member.ready) {
                    tracing::warn!(
                        target: "svgrl::rollout",
                        "{} of {} samplers have come within {} s (rollout.samplers.deadline_s); the run begins with them",
                        numbers.len(),
                        self.place.expected,
                        self.config.deadline_s
                    );
                    return Ok(());
                }
                return Err(self.nobody());
            }
            self.listen(POLL);
        }
    }

    /// Gives all that live `given`; what went.
    ///
    /// # Errors
    /// Nobody who takes them; libtorch's.
    pub(super) fn give(&mut self, given: GivenWeights) -> Result<SentWeights, RolloutError> {
        let mut tries = 0;
        loop {
            while self.listen(Duration::ZERO) {}
            let chosen = self.ready();
            if chosen.is_empty() {
                self.wait_for_anyone()?;
                continue;
            }
            match self.give_once(&chosen, given)? {
                Ok(sent) => return Ok(sent),
                Err(why) => {
                    self.given.group = None;
                    let left = self.ready();
                    // One that was lost explains it.
                    tries += u32::from(chosen.iter().all(|id| left.contains(id)));
                    if tries >= TRIES {
                        return Err(RolloutError::Samplers(format!(
                            "weights could not be broadcast to the samplers: {why}"
                        )));
                    }
                }
            }
        }
    }

    fn ready(&self) -> Vec<u64> {
        let ready = self.members.iter().filter(|member| member.ready);
        ready.map(|member| member.id).collect()
    }

    /// Waits until somebody has come, for as long as the run goes on without.
    fn wait_for_anyone(&mut self) -> Result<(), RolloutError> {
        let end = Instant::now() + self.config.deadline();
        loop {
            self.look_for_newcomers()?;
            self.listen(POLL);
            if !self.ready().is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(self.nobody());
            }
        }
    }

    /// One try; why it broke.
    fn give_once(
        &mut self,
        chosen: &[u64],
        given: GivenWeights,
    ) -> Result<Result<SentWeights, String>, RolloutError> {
        let whole = self
            .given
            .group
            .as_ref()
            .is_some_and(|(_, members)| members == chosen);
        if !whole {
            self.given.group = None;
            match self.form(chosen, given.policy)? {
                Ok(group) => self.given.group = Some((group, chosen.to_vec())),
                Err(why) => return Ok(Err(why)),
            }
        }
        for member in &mut self.members {
            member.current = false;
        }
        let (version, bounds) = (given.version, given.bounds);
        self.tell(chosen, |_| ToSampler::Weights { version, bounds });
        let Some((group, _)) = &self.given.group else {
            return Ok(Err("there is no group".into()));
        };
        let sent = tch::no_grad(|| send_weights(group, given.weights, given.policy));
        let broke = match &sent {
            Ok(_) => None,
            Err(Unsent::Group(error)) => Some(error.to_string()),
            Err(Unsent::Other(_)) => None,
        };
        if let Err(Unsent::Other(error)) = sent {
            self.given.group = None;
            return Err(error);
        }
        let answers = self.answers(chosen);
        let Ok(sent) = sent else {
            return Ok(Err(broke.unwrap_or_default()));
        };
        if answers.len() < chosen.len() {
            return Ok(Err("a sampler was lost meanwhile".into()));
        }
        for (id, answer) in answers {
            match answer {
                FromSampler::Synced { version, digest }
                    if (version, digest) == (given.version, sent.digest) => {}
                FromSampler::NotSynced(why) => return Ok(Err(why)),
                _ => {
                    self.lose(id, "the weights that it has are not those that it was sent");
                    return Ok(Err("weights did not arrive as they were sent".into()));
                }
            }
        }
        self.welcome(chosen, given.version, sent.digest)?;
        Ok(Ok(sent))
    }

    /// `chosen` have the weights: the other learners may ask them too.
    fn welcome(&mut self, chosen: &[u64], version: u64, digest: u64) -> Result<(), RolloutError> {
        let mut members = Vec::new();
        for member in &mut self.members {
            member.current = chosen.contains(&member.id);
            if member.current {
                members.push((member.id, member.name.clone(), member.address));
            }
        }
        let roll = SamplerRoll {
            epoch: self.next_epoch(),
            version,
            members,
        };
        if self.place.ranks > 1 {
            self.desk.show(&roll).map_err(store)?;
        }
        self.given.roll = Some(roll);
        self.given.digest = Some(digest);
        Ok(())
    }

    fn next_epoch(&self) -> u64 {
        self.given.roll.as_ref().map_or(0, |roll| roll.epoch) + 1
    }

    fn tell(&mut self, chosen: &[u64], word: impl Fn(u64) -> ToSampler) {
        for member in &mut self.members {
            if chosen.contains(&member.id) {
                member.answer = None;
                member.line.say(&word(member.id), Vec::new());
            }
        }
    }

    /// What each of `chosen` answers; one that says nothing in time is lost, as one that dies is.
    fn answers(&mut self, chosen: &[u64]) -> Vec<(u64, FromSampler)> {
        // It may wait for the others for as long as a collective does, and notice that before it answers.
        let end = Instant::now() + 3 * self.config.silence();
        loop {
            let still = |pool: &Self| -> Vec<u64> {
                let own = pool
                    .members
                    .iter()
                    .filter(|member| chosen.contains(&member.id));
                let own = own.filter(|member| member.answer.is_none());
                own.map(|member| member.id).collect()
            };
            let silent = still(self);
            if silent.is_empty() {
                break;
            }
            if Instant::now() >= end {
                for id in silent {
                    self.lose(id, "it does not say whether it has the new weights");
                }
                break;
            }
            self.listen(POLL);
        }
        let all = self
            .members
            .iter_mut()
            .filter(|member| chosen.contains(&member.id));
        all.filter_map(|member| Some((member.id, member.answer.take()?)))
            .collect()
    }

    /// A group of this process and `chosen`; why there is none.
    fn form(
        &mut self,
        chosen: &[u64],
        policy: &Decoder,
    ) -> Result<Result<ProcessGroup, String>, RolloutError> {
        let silence = self.config.silence();
        let number = self.desk.store().add("groups", 1).map_err(store)?;
        let seat = WeightSeat {
            prefix: format!("weights/{number}"),
            rank: 0,
            size: chosen.len() + 1,
            timeout_ms: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
            plan: weight_plan(policy),
            outside: self.own_address().filter(|address| !address.is_loopback()),
        };
        self.tell(chosen, |id| {
            let at = chosen.iter().position(|member| *member == id);
            ToSampler::Join(WeightSeat {
                rank: 1 + at.unwrap_or_default(),
                ..seat.clone()
            })
        });
        let answers = self.answers(chosen);
        for (id, answer) in &answers {
            if let FromSampler::NotSynced(why) = answer {
                self.lose(*id, why);
            }
        }
        let left = self.ready();
        if answers.len() < chosen.len() || !chosen.iter().all(|id| left.contains(id)) {
            return Ok(Err("a sampler does not come to the group".into()));
        }
        let options = GroupOptions {
            rank: 0,
            size: seat.size,
            timeout: silence,
            backend: Backend::of(policy.device()),
            heartbeat: HEARTBEAT,
            address: self.own_address(),
        };
        let joined = ProcessGroup::connect(self.desk.store(), &seat.prefix, options);
        Ok(joined.map_err(|error| error.to_string()))
    }
}
