//! Servers elsewhere as an engine: token ids in, token ids and log-probabilities out, over HTTP, in the words of vLLM or of
//! SGLang.
//!
//! Text is never taken from a server: completions are ended and decoded here. Each completion is a request of its own,
//! with a seed from its draw's key, so that one that fails is asked of another server; the versions of the weights that
//! wrote it are compared with those that were sent. Servers work while nobody waits for them, so that several submissions
//! may be under way, across updates of the weights as well. Left out on purpose: answers token by token.

mod answer;
mod asking;
mod config;
mod current;
mod dialect;
mod endpoint;
mod finish;
mod handshake;
mod images;
mod job;
mod pool;
mod probe;
mod sglang;
mod sync;
mod vllm;
mod weight_group;
mod weights;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

pub use config::{ServersConfig, WeightUpdate};

use crate::engine::stop::Stops;
use crate::engine::{
    Capabilities, Engine, EngineOptions, EngineStats, Finished, Request, Sampling, ServerStats,
    Submission, WeightBlocks,
};
use crate::{DrawKey, RolloutError, mix};
use answer::{Ask, ServerAnswer};
use current::Current;
use dialect::{Dialect, ended};
use finish::{Judgement, judged};
use handshake::{MetServers, meet};
use job::{Event, Job, Loss};
use probe::LogprobKind;
use sync::Sync;
use weights::WeightsRoom;

/// How often a completion is drawn anew that holds ids which must not be drawn.
const REDRAWS: u32 = 64;

/// Samples at servers elsewhere.
pub(super) struct HttpEngine {
    options: EngineOptions,
    link: MetServers,
    room: WeightsRoom,
    /// What is under way, by its job's number.
    asked: BTreeMap<usize, AskedCompletion>,
    /// The next job's number.
    next_job: usize,
    /// Whether something was asked for since the servers were last sent to sleep.
    awake: bool,
    stats: EngineStats,
    asleep: bool,
}

/// A completion that is under way.
struct AskedCompletion {
    group: usize,
    index: usize,
    manner: Rc<AskedManner>,
}

/// How the completions of a submission are sampled and ended.
struct AskedManner {
    sampling: Sampling,
    stops: Stops,
    /// Ids that must not be drawn.
    suppressed: Vec<i64>,
}

/// Opens vLLM servers.
///
/// # Errors
/// Those of the handshake.
pub(super) fn vllm(options: EngineOptions) -> Result<HttpEngine, RolloutError> {
    HttpEngine::open(options, Box::new(vllm::Vllm))
}

/// Opens SGLang servers.
///
/// # Errors
/// Those of the handshake.
pub(super) fn sglang(options: EngineOptions) -> Result<HttpEngine, RolloutError> {
    HttpEngine::open(options, Box::new(sglang::Sglang))
}

impl HttpEngine {
    fn open(options: EngineOptions, dialect: Box<dyn Dialect>) -> Result<Self, RolloutError> {
        let link = meet(&options, dialect)?;
        let place = options.servers.config.weights.as_deref();
        let mut elsewhere = options.servers.endpoints.iter();
        let elsewhere = elsewhere.find(|address| !rewards::is_local(address));
        if let (Some(address), None) = (elsewhere, place)
            && link.way != WeightUpdate::Group
        {
            return Err(RolloutError::Input(format!(
                "rollout.servers.weights: {address} may be another machine, which does not see this one's /dev/shm: name a folder that both see under the same path, or /dev/shm if it is this machine (SGLang: or `update: group`)"
            )));
        }
        let room = WeightsRoom::open(place)?;
        Ok(Self {
            stats: EngineStats {
                servers: Some(ServerStats::default()),
                ..EngineStats::default()
            },
            options,
            link,
            room,
            asked: BTreeMap::new(),
            next_job: 0,
            awake: false,
            asleep: false,
        })
    }

    /// Has all servers free their memory or take it again, where the config asks for it.
    fn set_asleep(&mut self, asleep: bool) -> Result<(), RolloutError> {
        if !self.options.servers.config.sleep || self.asleep == asleep {
            return Ok(());
        }
        let pool = &self.link.pool;
        for server in pool
            .servers()
            .iter()
            .filter(|server| server.trouble().is_none())
        {
            pool.patiently(|| pool.dialect().sleep(server, asleep))
                .map_err(ended)?;
        }
        self.asleep = asleep;
        Ok(())
    }

    /// Ids that must never be drawn: image tokens, and rows of the head that are no tokens.
    fn suppressed(&self) -> Vec<i64> {
        let policy = &self.options.policy;
        let mut ids = policy.suppress_tokens().to_vec();
        if let Some(tokenizer) = &self.options.tokenizer {
            ids.extend(tokenizer.unused_ids(policy.config.vocab_size));
        }
        ids
    }

    /// Queues a request's completions.
    fn ask(
        &mut self,
        request: &Request,
        submission: &Submission,
        manner: &Rc<AskedManner>,
    ) -> Result<(), RolloutError> {
        let policy = self.options.policy.clone();
        let policy = policy.as_ref();
        let (ids, pictures) = images::portable(policy, (&request.ids, request.images.as_deref()))?;
        let most = submission.sampling.max_new_tokens;
        let needed = request.ids.len() + most;
        if needed > self.link.context {
            return Err(RolloutError::Input(format!(
                "a prompt of {} tokens with {most} new ones does not fit the servers' {} (vLLM: --max-model-len, SGLang: --context-length)",
                request.ids.len(),
                self.link.context
            )));
        }
        let banned: Arc<[i64]> = match self.link.kind.is_some_and(LogprobKind::leaves_bans_out) {
            true => manner.suppressed.as_slice().into(),
            false => Arc::default(),
        };
        let stop_ids: Arc<[i64]> = manner.stops.ids().into();
        for sample in 0..request.samples {
            let key = self.next_job;
            self.next_job += 1;
            let asked = AskedCompletion {
                group: request.group,
                index: sample,
                manner: manner.clone(),
            };
            self.asked.insert(key, asked);
            let draw = DrawKey::new(submission.seed, request.draw, sample as u64);
            self.link.pool.push(Job::new(
                key,
                Ask {
                    id: format!(
                        "{}-{:x}-{}-{sample}",
                        self.room.name(self.stats.policy_version),
                        submission.seed,
                        request.draw
                    ),
                    ids: ids.clone(),
                    expanded: request.ids.clone(),
                    pictures: pictures.clone(),
                    sampling: submission.sampling.clone(),
                    stop_ids: stop_ids.clone(),
                    banned: banned.clone(),
                    seed: draw.word() >> 1,
                },
            ));
        }
        Ok(())
    }

    /// A completion of an answer; `None` where it is asked for again.
    fn take(
        &mut self,
        mut job: Job,
        answer: ServerAnswer,
    ) -> Result<Option<Finished>, RolloutError> {
        let Some(asked) = self.asked.get(&job.key) else {
            return Ok(None);
        };
        let manner = asked.manner.clone();
        if answer.ids.iter().any(|id| manner.suppressed.contains(id)) {
            job.redrawn += 1;
            if let Some(servers) = &mut self.stats.servers {
                servers.redrawn += 1;
            }
            if job.redrawn > REDRAWS {
                return Err(RolloutError::Server(format!(
                    "completion {}: {REDRAWS} times it held an id that the policy never draws (an image token, or a row of its head that is no token), which these servers' log-probabilities do not let be suppressed (vLLM without --logprobs-mode does, at temperature 1)",
                    job.ask.id
                )));
            }
            job.ask.seed = mix(job.ask.seed, u64::from(job.redrawn)) >> 1;
            self.link.pool.push(job);
            return Ok(None);
        }
        let last = answer.ids.last().copied();
        let version = job.version.unwrap_or(self.stats.policy_version);
        match judged(answer, &manner.stops, &manner.sampling, version) {
            Judgement::Completion(completion) => {
                let (group, index) = (asked.group, asked.index);
                self.asked.remove(&job.key);
                self.stats.tokens += completion.ids.len() as u64;
                Ok(Some(Finished {
                    group,
                    index,
                    completion,
                }))
            }
            // It saw a stop string that is none here, where text is made of the completion's tokens alone.
            Judgement::EndedEarly if !job.ask.sampling.stop.is_empty() => {
                job.ask.sampling.stop.clear();
                self.link.pool.push(job);
                Ok(None)
            }
            Judgement::EndedEarly => Err(RolloutError::Input(format!(
                "rollout.endpoints: completion {} was ended there by token id {last:?}, which ends none here (the end tokens of the model's folder there are others than those of the policy's)",
                job.ask.id
            ))),
        }
    }

    /// Throws away what is under way.
    fn give_up(&mut self) {
        self.asked.clear();
        self.link.pool.cancel();
    }

    /// What an event of the pool brings, if anything; where it is an error, what is under way is thrown away.
    ///
    /// # Errors
    /// Servers that are lost, or answer what must not be used.
    fn hear(&mut self, event: Event) -> Result<Option<Finished>, RolloutError> {
        let heard = match event {
            Event::Answered(job, answer) => self.take(*job, answer),
            Event::Lost(Loss::Gone(what)) => Err(RolloutError::Server(what)),
            Event::Lost(Loss::Wrong(what)) => {
                Err(RolloutError::Input(format!("rollout.endpoints: {what}")))
            }
        };
        if heard.is_err() {
            self.give_up();
        }
        heard
    }
}

impl Drop for HttpEngine {
    fn drop(&mut self) {
        // The next stage or run finds them awake.
        if self.asleep {
            let pool = &self.link.pool;
            for server in pool.servers() {
                let _ = pool.dialect().sleep(server, false);
            }
        }
    }
}

impl Engine for HttpEngine {
    fn submit(&mut self, submission: Submission) -> Result<(), RolloutError> {
        submission.check(self.capabilities())?;
        if !self.asked.is_empty() && !self.capabilities().ahead {
            return Err(RolloutError::Input(
                "requests were submitted while others are still under way".into(),
            ));
        }
        let Some(kind) = self.link.kind else {
            return Err(RolloutError::Input(
                "requests were submitted before the first weights".into(),
            ));
        };
        let address = &self.options.servers.endpoints[0];
        let fits = kind.fits(&submission.sampling);
        fits.map_err(|what| RolloutError::Input(format!("rollout.endpoints: {address}: {what}")))?;
        self.set_asleep(false)?;
        let manner = Rc::new(AskedManner {
            stops: Stops::new(self.options.tokenizer.clone(), &submission.sampling)?,
            sampling: submission.sampling.clone(),
            suppressed: self.suppressed(),
        });
        for request in &submission.requests {
            if let Err(error) = self.ask(request, &submission, &manner) {
                self.give_up();
                return Err(error);
            }
        }
        self.stats.prefills += submission.requests.len() as u64;
        self.awake = true;
        Ok(())
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        loop {
            if self.asked.is_empty() {
                if std::mem::take(&mut self.awake) {
                    self.set_asleep(true)?;
                }
                return Ok(None);
            }
            match self.link.pool.next() {
                Some(event) => {
                    if let Some(finished) = self.hear(event)? {
                        return Ok(Some(finished));
                    }
                }
                None if stop() => {
                    self.give_up();
                    return Err(RolloutError::Stopped);
                }
                None => {}
            }
        }
    }

    fn poll(&mut self) -> Result<Option<Finished>, RolloutError> {
        while !self.asked.is_empty()
            && let Some(event) = self.link.pool.ready()
        {
            if let Some(finished) = self.hear(event)? {
                return Ok(Some(finished));
            }
        }
        Ok(None)
    }

    fn sync(&mut self, weights: &dyn WeightBlocks, version: u64) -> Result<(), RolloutError> {
        let before = self.stats.servers.unwrap_or_default();
        if self.link.kind.is_some() && version == self.stats.policy_version {
            // Nothing was learnt since.
            self.stats.servers = Some(ServerStats {
                sync_s: 0.0,
                sync_bytes: 0,
                ..before
            });
            return Ok(());
        }
        self.set_asleep(false)?;
        let policy = self.options.policy.clone();
        let mut sync = Sync {
            link: &mut self.link,
            room: &mut self.room,
            policy: &policy,
        };
        self.stats.servers = Some(sync.run(weights, version, before)?);
        self.stats.policy_version = version;
        Ok(())
    }

    fn announce(&mut self, version: u64) {
        self.link.pool.hold(version);
    }

    fn synced(&self) -> Vec<u8> {
        let note = (self.link.pool.current(), self.link.kind);
        serde_json::to_vec(&note).expect("names, numbers and paths serialise")
    }

    fn follow(&mut self, note: &[u8], version: u64) -> Result<(), RolloutError> {
        let (current, kind): (Current, Option<LogprobKind>) = serde_json::from_slice(note)
            .map_err(|error| {
                RolloutError::Input(format!("rank 0's words on the servers' weights: {error}"))
            })?;
        self.link.pool.set_current(current);
        self.link.pool.release();
        self.link.kind = kind;
        self.stats.policy_version = version;
        // Rank 0 has woken them.
        self.asleep = false;
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        let (retried, dropped) = self.link.pool.asked_again();
        let counted = |servers| ServerStats {
            retried,
            dropped,
            ..servers
        };
        EngineStats {
            servers: self.stats.servers.map(counted),
            ..self.stats
        }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pictures: self.link.pictures && self.options.policy.vision().is_some(),
            exact_lengths: false,
            ahead: self.options.servers.ahead.is_some(),
            shares_weights: false,
        }
    }
}
