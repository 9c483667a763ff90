//! The samplers of a run as one of its learners sees them: who is there, and what they say.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use torch_ext::ProcessGroup;

use super::card::{SamplerCard, SamplerDesk, SamplerRoll};
use super::config::SamplersConfig;
use super::line::{LineNews, SamplerLine};
use super::wire::{DoneSample, FromSampler, ToSampler};
use crate::RolloutError;

/// How long a sampler that has left its card may take to answer a knock.
const KNOCK: Duration = Duration::from_secs(5);

/// What rank 0 makes of a sampler by its name and what it says of itself: why it may not take part, if it may not.
pub type JudgeSampler = dyn Fn(&str, &str) -> Option<String>;

/// A learner's place beside the samplers of its run.
pub struct LearnerPlace {
    /// Its rank; rank 0 gives weights.
    pub rank: usize,
    /// How many ranks learn.
    pub ranks: usize,
    /// How many samplers are waited for at the start.
    pub expected: usize,
    /// Whom rank 0 lets in.
    pub judge: Box<JudgeSampler>,
    /// What the policy is made of, where the samplers' own config does not say it.
    pub policy: Option<String>,
}

/// The samplers of a run.
pub struct SamplerPool {
    pub(super) place: LearnerPlace,
    pub(super) desk: SamplerDesk,
    pub(super) config: SamplersConfig,
    pub(super) members: Vec<PoolMember>,
    pub(super) given: GivenState,
    ear: PoolEar,
    absent: Absence,
    /// Engines that have used this pool.
    stages: u64,
    /// Rollouts whose completions this learner had all of.
    pub(super) rests: u64,
}

/// What the samplers were given last.
#[derive(Default)]
pub(super) struct GivenState {
    /// The group in which weights are broadcast, and the samplers in it.
    pub(super) group: Option<(ProcessGroup, Vec<u64>)>,
    /// Who has weights, and their version.
    pub(super) roll: Option<SamplerRoll>,
    /// What the weights of that version are.
    pub(super) digest: Option<u64>,
}

/// What samplers have said.
struct PoolEar {
    tell: Sender<HeardOf>,
    heard: Receiver<HeardOf>,
    events: VecDeque<PoolEvent>,
}

/// Who is not there.
#[derive(Default)]
struct Absence {
    /// The samplers that are gone, and why.
    gone: Vec<String>,
    /// Since when there is none that samples.
    alone: Option<Instant>,
}

/// Who said something, and what.
type HeardOf = (u64, LineNews<FromSampler>);

/// A sampler that a learner speaks to.
pub(super) struct PoolMember {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) address: SocketAddr,
    pub(super) line: SamplerLine,
    /// Whether its policy is built.
    pub(super) ready: bool,
    /// Whether it has the newest weights.
    pub(super) current: bool,
    /// When it last said something, or was first asked for something after that.
    pub(super) moved: Instant,
    /// What it said of the weights that it was last told of.
    pub(super) answer: Option<FromSampler>,
}

/// What an engine hears of samplers.
#[derive(Debug)]
pub(super) enum PoolEvent {
    /// A completion has come.
    Done(u64, DoneSample),
    /// A sampler brings nothing more.
    Lost(u64),
    /// What was asked for cannot be sampled by anyone.
    Refused(String),
}

impl SamplerPool {
    /// The samplers that leave their cards at `desk`.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub fn new(desk: SamplerDesk, place: LearnerPlace) -> Result<Self, RolloutError> {
        if place.rank == 0 {
            desk.make_token().map_err(store)?;
        }
        let (tell, heard) = channel();
        Ok(Self {
            place,
            desk,
            config: SamplersConfig::default(),
            members: Vec::new(),
            given: GivenState::default(),
            ear: PoolEar {
                tell,
                heard,
                events: VecDeque::new(),
            },
            absent: Absence::default(),
            stages: 0,
            rests: 0,
        })
    }

    /// A stage begins, whose engine uses samplers so; where the keys of its tasks begin, which are no other stage's.
    pub(super) fn begin(&mut self, config: SamplersConfig) -> u64 {
        self.config = config;
        self.ear.events.clear();
        self.stages += 1;
        self.stages << 40
    }

    /// What the policy is made of, where the samplers' own config does not say it.
    pub fn set_policy(&mut self, policy: Option<String>) {
        self.place.policy = policy;
    }

    /// Speaks to a sampler; one that does not answer is gone.
    pub(super) fn knock(&mut self, (id, name, address): (u64, String, SocketAddr)) {
        let tell = self.ear.tell.clone();
        let token = match self.desk.token() {
            Ok(token) => token,
            Err(error) => return self.note_gone(&name, &error.to_string()),
        };
        let hello = ToSampler::Hello {
            token,
            rank: self.place.rank,
            gives: self.place.rank == 0,
            policy: self.place.policy.clone(),
        };
        let silence = self.config.silence();
        let line = TcpStream::connect_timeout(&address, KNOCK).and_then(|socket| {
            let hear = move |heard| drop(tell.send((id, heard)));
            SamplerLine::open(socket, silence, hear)
        });
        match line {
            Ok(line) => {
                line.say(&hello, Vec::new());
                self.members.push(PoolMember {
                    id,
                    name,
                    address,
                    line,
                    ready: false,
                    current: false,
                    moved: Instant::now(),
                    answer: None,
                });
            }
            Err(error) => self.note_gone(&name, &format!("{address}: {error}")),
        }
    }

    /// Speaks to those who have come since the last look, if this is rank 0; whom its judge refuses is turned away, and why.
    pub(super) fn look_for_newcomers(&mut self) -> Result<Vec<String>, RolloutError> {
        let mut refused = Vec::new();
        for (id, card) in self.desk.cards().map_err(store)? {
            let SamplerCard { address, about, .. } = &card;
            match (self.place.judge)(&card.name(), about) {
                None => self.knock((id, card.name(), *address)),
                Some(why) => {
                    self.desk.turn_away(id, &why).map_err(store)?;
                    refused.push(why);
                }
            }
        }
        Ok(refused)
    }

    /// Speaks to those of a roll alone, as rank 0 does.
    pub(super) fn follow(&mut self, roll: SamplerRoll) {
        let listed = |id: u64| roll.members.iter().any(|(member, ..)| *member == id);
        let left: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        for id in left.into_iter().filter(|id| !listed(*id)) {
            self.lose(id, "rank 0 has given it up");
        }
        for (id, name, address) in &roll.members {
            if !self.members.iter().any(|member| member.id == *id) {
                self.knock((*id, name.clone(), *address));
            }
        }
        // It answers whenever it is asked: it had its weights before it stood in the roll.
        for member in &mut self.members {
            (member.ready, member.current) = (true, true);
        }
        self.given.roll = Some(roll);
    }

    /// A sampler is gone: it is named, and its engine told.
    pub(super) fn lose(&mut self, id: u64, why: &str) {
        let Some(at) = self.members.iter().position(|member| member.id == id) else {
            return;
        };
        let member = self.members.remove(at);
        self.ear.events.push_back(PoolEvent::Lost(id));
        self.note_gone(&member.name, why);
    }

    fn note_gone(&mut self, name: &str, why: &str) {
        let left = self.members.len();
        tracing::warn!(
            target: "svgrl::rollout",
            "{name} is lost: {why}; {left} left, which its prompts go to"
        );
        self.absent.gone.push(format!("{name}: {why}"));
    }

    /// Waits for `most` until a sampler says something, and notes it; whether one did.
    pub(super) fn listen(&mut self, most: Duration) -> bool {
        let Ok((id, heard)) = self.ear.heard.recv_timeout(most) else {
            return false;
        };
        let member = self.members.iter_mut().find(|member| member.id == id);
        let Some(member) = member else {
            // Words of one that was given up.
            return true;
        };
        member.moved = Instant::now();
        match heard {
            LineNews::Said(FromSampler::GoesOn, _) => {}
            LineNews::Ended(why) => self.lose(id, &why),
            LineNews::Said(FromSampler::Failed(why), _) => self.lose(id, &why),
            LineNews::Said(FromSampler::Welcome, _) => member.ready = true,
            LineNews::Said(FromSampler::Done(done), _) => {
                self.ear.events.push_back(PoolEvent::Done(id, done));
            }
            LineNews::Said(FromSampler::Refused(why), _) => {
                self.ear.events.push_back(PoolEvent::Refused(why));
            }
            LineNews::Said(answer, _) => member.answer = Some(answer),
        }
        true
    }

    /// The next event, waited for as long as `most`.
    pub(super) fn event(&mut self, most: Duration) -> Option<PoolEvent> {
        let end = Instant::now() + most;
        loop {
            if let Some(event) = self.ear.events.pop_front() {
                return Some(event);
            }
            if !self.listen(end.saturating_duration_since(Instant::now())) {
                return None;
            }
        }
    }

    /// Gives up those of `asked` that give signs of life and do nothing else for as long as the run goes on without any.
    pub(super) fn lose_idlers(&mut self, asked: impl Fn(u64) -> bool) {
        let limit = self.config.deadline();
        let idle = self.members.iter().filter(|member| asked(member.id));
        let idle = idle.filter(|member| member.moved.elapsed() > limit);
        for id in idle.map(|member| member.id).collect::<Vec<_>>() {
            self.lose(id, "it lives and does not go on");
        }
    }

    /// Those that sample with the newest weights.
    pub(super) fn current(&self) -> impl Iterator<Item = &PoolMember> {
        self.members.iter().filter(|member| member.current)
    }

    /// Ends the run when there has been nobody for too long.
    ///
    /// # Errors
    /// Then, with those that are gone.
    pub(super) fn bear_solitude(&mut self) -> Result<(), RolloutError> {
        if self.current().next().is_some() {
            self.absent.alone = None;
            return Ok(());
        }
        let since = *self.absent.alone.get_or_insert_with(Instant::now);
        match since.elapsed() < self.config.deadline() {
            true => Ok(()),
            false => Err(self.nobody()),
        }
    }

    /// There is nobody to sample.
    pub(super) fn nobody(&self) -> RolloutError {
        let gone = match self.absent.gone.as_slice() {
            [] => "none has come".to_owned(),
            all => {
                // The last ones say most.
                let last = &all[all.len().saturating_sub(8)..];
                format!("gone are {}", last.join("; "))
            }
        };
        RolloutError::Samplers(format!(
            "no sampler within {} s (rollout.samplers.deadline_s): {gone}",
            self.config.deadline_s
        ))
    }

    /// The address at which samplers see this learner, an outside one where there is one.
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        let all = self
            .members
            .iter()
            .filter_map(|member| member.line.own_address());
        let mut all: Vec<IpAddr> = all.collect();
        all.sort_by_key(IpAddr::is_loopback);
        all.first().copied()
    }
}

impl Drop for SamplerPool {
    fn drop(&mut self) {
        self.given.group = None;
        if self.place.rank == 0 {
            for member in self.members.drain(..) {
                member.line.part(&ToSampler::Bye);
            }
        }
    }
}

/// A store that no longer answers.
pub(super) fn store(error: torch_ext::TorchError) -> RolloutError {
    RolloutError::Samplers(format!(
        "the store through which samplers are found: {error}"
    ))
}
