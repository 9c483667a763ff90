//! Samplers of this program as an engine: prompts go to those that have room, completions come back as they end, and what a
//! lost sampler has not brought goes to the others.
//!
//! Completions are those of the engine in the learner's process: random numbers are keyed by draw and place, so that it
//! does not matter who samples what, nor how often.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use models::catch_torch;

use super::buckets::{SentWeights, digest_of};
use super::config::SamplersConfig;
use super::give::GivenWeights;
use super::pool::{PoolEvent, SamplerPool, store};
use super::queue::TaskQueue;
use super::wire::{AskedPrompt, ToSampler};
use crate::RolloutError;
use crate::engine::{
    Capabilities, Engine, EngineOptions, EngineStats, Finished, ServerStats, Submission,
    WeightBlocks,
};

/// Time between two looks at a signal.
const POLL: Duration = Duration::from_millis(50);
/// Time between two looks at who samples yet.
const REST: Duration = Duration::from_millis(2);
/// Time between two looks at who has come.
const LOOK: Duration = Duration::from_secs(1);

/// Samples by samplers that are processes of this program.
pub(super) struct DedicatedEngine {
    options: EngineOptions,
    config: SamplersConfig,
    pool: Rc<RefCell<SamplerPool>>,
    queue: TaskQueue,
    ready: VecDeque<Finished>,
    /// `servers` once it has given weights, or heard of them.
    stats: EngineStats,
    looked: Instant,
}

impl DedicatedEngine {
    pub(super) fn new(
        options: EngineOptions,
        config: SamplersConfig,
        pool: Rc<RefCell<SamplerPool>>,
    ) -> Self {
        let first_key = pool.borrow_mut().begin(config.clone());
        Self {
            options,
            config,
            pool,
            queue: TaskQueue::from_key(first_key),
            ready: VecDeque::new(),
            stats: EngineStats::default(),
            looked: Instant::now(),
        }
    }

    /// Completions of this learner at each sampler at a time.
    fn share(&self) -> usize {
        let ranks = self.pool.borrow().place.ranks.max(1);
        (self.config.in_flight / ranks).max(1)
    }

    /// Completions at a time at each sampler, of all learners, and the tokens of its cache.
    fn bounds(&self) -> (usize, usize) {
        let all = self.share() * self.pool.borrow().place.ranks.max(1);
        let slots = match self.options.slots {
            0 => all,
            bound => bound.min(all),
        };
        (slots, self.options.cache_tokens)
    }

    /// Gives what waits to those that have room, the least busy first.
    fn feed(&mut self) {
        let most = self.share();
        let mut pool = self.pool.borrow_mut();
        loop {
            let all = pool.members.iter_mut().filter(|member| member.current);
            let all = all.map(|member| (self.queue.in_flight(member.id), member));
            let Some((busy, member)) = all.min_by_key(|(busy, member)| (*busy, member.id)) else {
                return;
            };
            let Some((key, task)) = self.queue.give(member.id, most.saturating_sub(busy)) else {
                return;
            };
            if busy == 0 {
                member.moved = Instant::now();
            }
            let wanted = (&task.request, task.wanted());
            let (asked, pixels) = AskedPrompt::of(key, wanted, (&task.sampling, task.seed));
            member.line.say(&ToSampler::Ask(Box::new(asked)), pixels);
        }
    }

    /// Takes what samplers say, waiting for as long as `most`.
    fn hear(&mut self, most: Duration) -> Result<(), RolloutError> {
        let event = self.pool.borrow_mut().event(most);
        match event {
            None => {}
            Some(PoolEvent::Done(at, done)) => {
                let (key, index) = (done.key, done.index);
                if let Some(group) = self.queue.came(at, (key, index)) {
                    let completion = done.completion(self.stats.policy_version);
                    self.stats.tokens += completion.ids.len() as u64;
                    self.ready.push_back(Finished {
                        group,
                        index,
                        completion,
                    });
                }
            }
            Some(PoolEvent::Lost(at)) => {
                let again = self.queue.lost(at) as u64;
                self.stats.servers.get_or_insert_default().retried += again;
            }
            Some(PoolEvent::Refused(why)) => return Err(RolloutError::Input(why)),
        }
        Ok(())
    }

    /// Looks who has come and who has weights, now and then; where nobody samples, those that have come are given weights.
    fn tend(&mut self) -> Result<(), RolloutError> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let mut pool = self.pool.borrow_mut();
        if pool.place.rank == 0 {
            for why in pool.look_for_newcomers()? {
                tracing::warn!(target: "svgrl::rollout", "a sampler is turned away: {why}");
            }
        }
        pool.lose_idlers(|id| self.queue.in_flight(id) > 0);
        pool.bear_solitude()?;
        if pool.current().next().is_some() {
            return Ok(());
        }
        if pool.place.rank > 0 {
            let roll = pool.desk.roll().map_err(store)?;
            let known = pool
                .given
                .roll
                .as_ref()
                .map(|roll| (roll.epoch, roll.version));
            let newer = |epoch, version| {
                known.is_some_and(|(before, same)| epoch > before && version == same)
            };
            if let Some(roll) = roll.filter(|roll| newer(roll.epoch, roll.version)) {
                pool.follow(roll);
            }
            return Ok(());
        }
        if !pool.members.iter().any(|member| member.ready) {
            return Ok(());
        }
        drop(pool);
        self.give_again()
    }

    /// Gives the weights of the last sync once more, if they are still here.
    fn give_again(&mut self) -> Result<(), RolloutError> {
        let policy = self.options.policy.clone();
        // Weights that are shared out have no memory while nobody computes with them.
        let whole = policy.params.are_whole();
        let here =
            whole.then(|| catch_torch(|| tch::no_grad(|| digest_of(policy.as_ref(), &policy))));
        let (version, digest) = {
            let pool = self.pool.borrow();
            (
                pool.given.roll.as_ref().map(|roll| roll.version),
                pool.given.digest,
            )
        };
        let same = matches!(here, Some(Ok(Ok(here))) if Some(here) == digest);
        let (Some(version), true) = (version, same) else {
            return Err(RolloutError::Samplers(
                "all samplers were lost within a step, and the weights that they sampled with are not whole in rank 0's memory (sharding.stage: 3); with more samplers one may be lost".into(),
            ));
        };
        self.give(policy.as_ref(), version).map(drop)
    }

    fn give(
        &mut self,
        weights: &dyn WeightBlocks,
        version: u64,
    ) -> Result<SentWeights, RolloutError> {
        let policy = self.options.policy.clone();
        let bounds = self.bounds();
        self.pool.borrow_mut().give(GivenWeights {
            weights,
            policy: &policy,
            version,
            bounds,
        })
    }

    /// Throws away what was asked for.
    fn give_up(&mut self) {
        self.queue.clear();
        self.ready.clear();
        for member in &self.pool.borrow().members {
            member.line.say(&ToSampler::Forget, Vec::new());
        }
    }

    /// Samples further by one look at the samplers.
    fn go_on(&mut self, most: Duration) -> Result<(), RolloutError> {
        self.feed();
        self.hear(most)?;
        self.tend()
    }
}

impl Engine for DedicatedEngine {
    fn submit(&mut self, submission: Submission) -> Result<(), RolloutError> {
        submission.check(self.capabilities())?;
        if self.pool.borrow().given.roll.is_none() {
            return Err(RolloutError::Input(
                "requests were submitted before the first weights".into(),
            ));
        }
        let (_, cache) = self.bounds();
        let longest = submission.sampling.max_new_tokens as i64;
        for request in &submission.requests {
            let pages = models::kv_pages(request.ids.len() as i64) + models::kv_pages(longest);
            if cache > 0 && pages * models::KV_PAGE > cache as i64 {
                return Err(RolloutError::Input(format!(
                    "cache_tokens: must hold the longest prompt with its completion, {} tokens in pages of {}, got {cache}",
                    pages * models::KV_PAGE,
                    models::KV_PAGE
                )));
            }
        }
        self.stats.prefills += submission.requests.len() as u64;
        let most = self.share();
        self.queue.push(submission, most);
        self.feed();
        Ok(())
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        loop {
            if let Some(finished) = self.ready.pop_front() {
                return Ok(Some(finished));
            }
            if self.queue.is_empty() {
                return Ok(None);
            }
            let gone_on = match stop() {
                true => Err(RolloutError::Stopped),
                false => self.go_on(POLL),
            };
            if let Err(error) = gone_on {
                self.give_up();
                return Err(error);
            }
        }
    }

    fn poll(&mut self) -> Result<Option<Finished>, RolloutError> {
        if self.ready.is_empty() && !self.queue.is_empty() {
            self.go_on(Duration::ZERO)?;
        }
        Ok(self.ready.pop_front())
    }

    fn settle(&mut self) -> Result<(), RolloutError> {
        while self.queue.is_under_way() {
            self.hear(POLL)?;
            self.tend()?;
        }
        Ok(())
    }

    /// Rank 0 alone gives a sampler's successor its weights: it stays until no rank needs that, for as long as the run goes
    /// on without samplers.
    fn rest_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<(), RolloutError> {
        let (rank, ranks, rest) = {
            let mut pool = self.pool.borrow_mut();
            pool.rests += 1;
            (pool.place.rank, pool.place.ranks, pool.rests)
        };
        if ranks < 2 {
            return Ok(());
        }
        self.pool.borrow().desk.note_rest(rest).map_err(store)?;
        let begun = Instant::now();
        while rank == 0 && begun.elapsed() < self.config.deadline() {
            if self.pool.borrow().desk.resting(rest).map_err(store)? >= ranks {
                break;
            }
            if stop() {
                return Err(RolloutError::Stopped);
            }
            self.go_on(REST)?;
        }
        Ok(())
    }

    fn sync(&mut self, weights: &dyn WeightBlocks, version: u64) -> Result<(), RolloutError> {
        let begun = Instant::now();
        self.settle()?;
        let known = {
            let mut pool = self.pool.borrow_mut();
            if pool.given.roll.is_none() {
                pool.meet()?;
            } else {
                for why in pool.look_for_newcomers()? {
                    tracing::warn!(target: "svgrl::rollout", "a sampler is turned away: {why}");
                }
                while pool.listen(Duration::ZERO) {}
            }
            let same = pool
                .given
                .roll
                .as_ref()
                .is_some_and(|roll| roll.version == version);
            let mut ready = pool.members.iter().filter(|member| member.ready);
            // Another stage's first weights may be called as the last one's.
            let mine = self.stats.servers.is_some() && self.stats.policy_version == version;
            let somebody = pool.current().next().is_some();
            mine && same && somebody && ready.all(|member| member.current)
        };
        let before = self.stats.servers.unwrap_or_default();
        let (sync_s, sync_bytes) = match known {
            // Nothing was learnt since.
            true => (0.0, 0),
            false => {
                let sent = self.give(weights, version)?;
                (begun.elapsed().as_secs_f64(), sent.bytes)
            }
        };
        self.stats.servers = Some(ServerStats {
            sync_s,
            sync_bytes,
            ..before
        });
        self.stats.policy_version = version;
        Ok(())
    }

    fn synced(&self) -> Vec<u8> {
        let pool = self.pool.borrow();
        serde_json::to_vec(&pool.given.roll).expect("names and numbers serialise")
    }

    fn follow(&mut self, note: &[u8], version: u64) -> Result<(), RolloutError> {
        let roll = serde_json::from_slice(note).map_err(|error| {
            RolloutError::Input(format!("rank 0's words on the samplers: {error}"))
        })?;
        self.pool.borrow_mut().follow(roll);
        self.stats.servers.get_or_insert_default();
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
            ahead: true,
            shares_weights: false,
        }
    }
}
