//! New weights for the servers, and the probes that show that they have arrived.

use std::time::Instant;

use models::Decoder;

use super::answer::{Ask, ServerAnswer};
use super::config::WeightUpdate;
use super::current::Current;
use super::dialect::{SharedWeights, Writer, ended};
use super::endpoint::RolloutServer;
use super::handshake::MetServers;
use super::probe::{greedy_gap, kind_samplings, logprob_kind, probe_ask, within};
use super::weight_group::WeightGroup;
use super::weights::WeightsRoom;
use crate::RolloutError;
use crate::engine::weights::Unadapted;
use crate::engine::{PartialCompletions, ServerStats, WeightBlocks};

/// Weights on their way to servers.
pub(super) struct Sync<'a> {
    /// The servers.
    pub(super) link: &'a mut MetServers,
    /// Where weights are left for them.
    pub(super) room: &'a mut WeightsRoom,
    /// The policy of this process, which probes are compared with.
    pub(super) policy: &'a Decoder,
}

impl Sync<'_> {
    /// Gives every server `weights` as version `number`, and sees by a probe that they have arrived.
    ///
    /// # Errors
    /// Weights that cannot be written, no server that takes them, a probe that differs.
    pub(super) fn run(
        &mut self,
        weights: &dyn WeightBlocks,
        number: u64,
        before: ServerStats,
    ) -> Result<ServerStats, RolloutError> {
        let begun = Instant::now();
        let first = self.link.kind.is_none();
        // What is under way goes on or is dropped; nothing begins until all have the new weights.
        self.link.pool.hold(number);
        let bytes = self.give_weights(weights, number);
        self.link.pool.release();
        let bytes = bytes?;
        let probe_gap = self.probe()?;
        if first {
            self.link.kind = Some(self.logprob_kind()?);
        }
        Ok(ServerStats {
            sync_s: begun.elapsed().as_secs_f64(),
            sync_bytes: bytes,
            probe_gap,
            ..before
        })
    }

    /// Gives every server the weights, in the way that is theirs; the bytes of it.
    fn give_weights(
        &mut self,
        weights: &dyn WeightBlocks,
        number: u64,
    ) -> Result<u64, RolloutError> {
        let first = self.link.kind.is_none();
        let mut bytes = 0;
        if self.link.way == WeightUpdate::Adapter {
            if first {
                bytes += self.give_base()?;
            }
            bytes += self.give_adapter(number)?;
        } else if self.link.way == WeightUpdate::Group {
            bytes += self.broadcast(weights, number)?;
        } else {
            let version = self.room.name(number);
            let shared = self.room.write(weights, (self.link.way, version))?;
            bytes += shared.bytes;
            self.give(shared)?;
        }
        Ok(bytes)
    }

    /// The base that adapters stand beside, where a server has another one.
    fn give_base(&mut self) -> Result<u64, RolloutError> {
        let ask = self.link.pool.probe().clone();
        let plain = Unadapted(self.policy);
        // Without its adapters: they have no effect before the first update, and a run that goes on has files of them.
        let fresh = self.policy.params.adapters().iter().all(|adapter| {
            let matrix = self.policy.params.view(&adapter.b);
            matrix.abs().max().double_value(&[]) == 0.0
        });
        if !fresh {
            return Ok(0);
        }
        let mut differ = false;
        for server in self.link.pool.servers() {
            let answer = self.link.pool.ask_patiently(server, &ask).map_err(ended)?;
            let gap = greedy_gap(self.policy, &self.link.prompt, &answer)?;
            differ |= !within(gap, self.link.gap);
        }
        if !differ {
            return Ok(0);
        }
        let way = self.link.base_way.ok_or_else(|| {
            RolloutError::Input(
                "rollout.endpoints: the servers' model is not the base of this stage's adapters, and they cannot be given another one (docs/engines.md)".into(),
            )
        })?;
        let version = format!("{}-base", self.room.name(0));
        let shared = self.room.write(&plain, (way, version))?;
        let bytes = shared.bytes;
        self.give(shared)?;
        Ok(bytes)
    }

    /// Sends every server weights without files; one that is lost meanwhile is left out until the next update.
    fn broadcast(&mut self, weights: &dyn WeightBlocks, number: u64) -> Result<u64, RolloutError> {
        let version = self.room.name(number);
        let mut lost = Vec::new();
        let mut bytes = 0;
        let count = self.link.pool.servers().len();
        self.link.groups.resize_with(count, || None);
        for at in 0..count {
            let sent = self.send_to(at, weights, &version);
            let server = &self.link.pool.servers()[at];
            server.set_stale(sent.is_err());
            match sent {
                Ok(own) => {
                    bytes += own;
                    server.is_well();
                }
                Err(RolloutError::Server(why)) => {
                    self.link.groups[at] = None;
                    server.failed(&why);
                    tracing::warn!(target: "svgrl::rollout", "{why}: it is left out until the next update");
                    lost.push(why);
                }
                Err(error) => return Err(error),
            }
        }
        if lost.len() == count {
            return Err(RolloutError::Server(format!(
                "no server took the new weights: {}",
                lost.join("; ")
            )));
        }
        self.link.pool.set_current(Current {
            version: Some(version),
            heals: true,
            weights: None,
            ..self.link.pool.current()
        });
        Ok(bytes)
    }

    /// Broadcasts weights to server `at`, which joins a group of its own before the first time and after it was lost.
    fn send_to(
        &mut self,
        at: usize,
        weights: &dyn WeightBlocks,
        version: &str,
    ) -> Result<u64, RolloutError> {
        let place = (self.policy.device(), self.link.timeout);
        let (pool, group) = (&self.link.pool, &mut self.link.groups[at]);
        let server = &pool.servers()[at];
        if server.is_stale() {
            *group = None;
        }
        if let Some(partial) = pool.partial() {
            pool.dialect().pause(server, partial).map_err(ended)?;
        }
        let known = group.as_ref();
        let sent = match known.map(|group| group.send(server, weights, version)) {
            Some(Ok(bytes)) => Ok(bytes),
            // One that was restarted is in no group.
            _ => WeightGroup::join(server, format!("{version}-{at}"), place)
                .and_then(|new| group.insert(new).send(server, weights, version)),
        };
        let resumed = pool.partial().map(|_| pool.dialect().resume(server));
        let sent = sent?;
        resumed.transpose().map_err(ended)?;
        Ok(sent)
    }

    fn give_adapter(&mut self, number: u64) -> Result<u64, RolloutError> {
        let version = self.room.name(number);
        let shared = self.room.write_adapter(self.policy, version.clone())?;
        let bytes = shared.bytes;
        if self.link.pool.partial() == Some(PartialCompletions::Abort) {
            self.link.pool.recall();
        }
        let before = self.link.pool.current().writer;
        self.give(shared)?;
        if let Writer::Adapter(_, old) = before
            && old != version
        {
            self.link.adapters.push_back(old);
        }
        // Completions that are under way go on with the adapter that they were asked of.
        while self.link.adapters.len() > self.link.older_adapters
            && let Some(old) = self.link.adapters.pop_front()
        {
            for server in self.link.pool.servers() {
                self.link.pool.dialect().forget(server, &old);
            }
        }
        Ok(bytes)
    }

    /// Has every server take `shared`; one that does not answer is left out until it does.
    fn give(&mut self, shared: SharedWeights) -> Result<(), RolloutError> {
        let (pool, shared) = (&self.link.pool, &shared);
        let before = pool.current().writer;
        let (Writer::Base(model) | Writer::Adapter(model, _)) = before;
        let told: Vec<Result<(), _>> = std::thread::scope(|scope| {
            let update = move |server: &RolloutServer| {
                pool.patiently(|| pool.dialect().update(server, shared, pool.partial()))
            };
            let one = |index| scope.spawn(move || pool.alone_with(index, update));
            let threads: Vec<_> = (0..pool.servers().len()).map(one).collect();
            let lost = || RolloutError::Server("a thread that sends weights has ended".into());
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| lost()))
                .collect::<Result<_, _>>()
        })?;
        let mut refused = Vec::new();
        for (server, told) in pool.servers().iter().zip(told) {
            server.set_stale(told.is_err());
            match told {
                Ok(()) => server.is_well(),
                Err(refusal) if !refusal.may_pass => return Err(ended(refusal)),
                Err(refusal) => {
                    server.failed(&refusal.message);
                    tracing::warn!(target: "svgrl::rollout", "{}: it is left out until it answers", refusal.message);
                    refused.push(refusal.message);
                }
            }
        }
        if refused.len() == pool.servers().len() {
            return Err(RolloutError::Server(format!(
                "no server took the new weights: {}",
                refused.join("; ")
            )));
        }
        pool.set_current(Current {
            writer: match shared.way {
                WeightUpdate::Adapter => Writer::Adapter(model, shared.version.clone()),
                _ => Writer::Base(model),
            },
            version: Some(shared.version.clone()),
            heals: true,
            probe: None,
            weights: Some(shared.clone()),
        });
        self.room.keep(shared);
        Ok(())
    }

    /// The servers that have the weights, each with its answer.
    fn ask_all(&self, ask: &Ask) -> Result<Vec<(&RolloutServer, ServerAnswer)>, RolloutError> {
        let pool = &self.link.pool;
        let with = pool.servers().iter().filter(|server| !server.is_stale());
        with.map(|server| Ok((server, pool.ask_patiently(server, ask).map_err(ended)?)))
            .collect()
    }

    /// The largest gap of the servers' greedy probes.
    fn probe(&mut self) -> Result<f64, RolloutError> {
        let ask = self.link.pool.probe();
        let mut most: f64 = 0.0;
        let answers = self.ask_all(ask)?;
        for (server, answer) in &answers {
            let gap = greedy_gap(self.policy, &self.link.prompt, answer)?;
            if !within(gap, self.link.gap) {
                return Err(RolloutError::Server(format!(
                    "{}: after weights {} were sent, a probe's log-probability differs from the learner's by {gap:.6}, more than {} (rollout.servers.probe_gap): the weights have not arrived, the model there is another one, or it computes more coarsely",
                    server.address,
                    self.link.pool.current().version.unwrap_or_default(),
                    self.link.gap
                )));
            }
            most = most.max(gap);
        }
        let known = answers.into_iter().next().map(|(_, answer)| answer);
        self.link.pool.set_current(Current {
            probe: known,
            ..self.link.pool.current()
        });
        Ok(most)
    }

    /// What the servers' log-probabilities are of, all alike.
    fn logprob_kind(&self) -> Result<super::probe::LogprobKind, RolloutError> {
        let [half, nucleus] = kind_samplings();
        let ask = |name: &str, sampling| {
            probe_ask(
                format!("svgrl-probe-{name}-{}", self.room.name(0)),
                &self.link.prompt,
                sampling,
            )
        };
        let halves = self.ask_all(&ask("half", half))?;
        let nuclei = self.ask_all(&ask("nucleus", nucleus))?;
        let mut all = None;
        for ((server, half), (_, nucleus)) in halves.iter().zip(&nuclei) {
            let kind = logprob_kind(
                self.policy,
                &self.link.prompt,
                (half, nucleus),
                self.link.gap,
            )?;
            let kind = kind.ok_or_else(|| {
                RolloutError::Input(format!(
                    "rollout.endpoints: {}: its log-probabilities at temperature 0.5 are neither the learner's nor the learner's under that temperature (vLLM's --logprobs-mode must be raw_logprobs or processed_logprobs)",
                    server.address
                ))
            })?;
            if all.is_some_and(|all| all != kind) {
                let address = &server.address;
                return Err(RolloutError::Input(format!(
                    "rollout.endpoints: {address}: its log-probabilities are of another kind than the other servers' ({kind:?}): start all alike"
                )));
            }
            all = Some(kind);
        }
        all.ok_or_else(|| RolloutError::Server("no server answers".into()))
    }
}
