//! A sampler: a process that is given weights by rank 0 of the learners, and samples what any of them asks for.
//!
//! One thread computes; others listen, and give signs of life whatever the computing takes.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use models::{Decoder, Tokenizer, catch_torch};
use torch_ext::{Backend, GroupOptions, ProcessGroup};

use super::buckets::{Unsent, take_weights, weight_plan};
use super::card::{SamplerCard, SamplerDesk};
use super::line::{LineNews, SamplerLine};
use super::wire::{FromSampler, ToSampler, WeightSeat, read_frame};
use super::work::{SamplerWork, WorkDone};
use crate::RolloutError;
use crate::engine::local::OpenDecoder;

/// How often an idle sampler looks whether the run is still there.
const LOOK: Duration = Duration::from_secs(1);
/// How long a connection may take to say who it is.
const HELLO: Duration = Duration::from_secs(10);
/// How long a store may outlive the run that it is of.
const AFTERLIFE: Duration = Duration::from_secs(5);
/// Time between signs of life in the group of the weights, for its message when it breaks.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A policy, and the tokenizer that gives completions their text.
pub type BuiltPolicy = (Rc<Decoder>, Option<Arc<Tokenizer>>);

/// Builds the policy, of what rank 0 says or of this process's own config.
pub type BuildPolicy<'a> = dyn Fn(Option<&str>) -> Result<BuiltPolicy, RolloutError> + 'a;

/// A sampler before its work begins.
pub struct SamplerPost<'a> {
    /// Where it leaves its card.
    pub desk: SamplerDesk,
    /// What it says of itself.
    pub card: SamplerCard,
    /// Where learners reach it.
    pub listener: TcpListener,
    /// How its policy is built.
    pub build: &'a BuildPolicy<'a>,
    /// After what silence a learner is given up.
    pub patience: Duration,
}

/// How a sampler's work ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SamplerEnd {
    /// The run has ended.
    RunEnded,
    /// Rank 0 has given it up, and the run goes on.
    GivenUp,
    /// It may not take part, and why.
    TurnedAway(String),
}

/// What happens to a sampler.
enum SamplerNews {
    /// A learner speaks to it: its line, and what the policy is made of if it gives weights.
    Came(SamplerLine, Option<PolicyOf>),
    /// A learner said something.
    Heard(LineNews<ToSampler>),
}

/// What rank 0 says that the policy is made of; `None`: of what the own config says.
type PolicyOf = Option<String>;

/// News, and of which connection.
type NewsOf = (u64, SamplerNews);

/// A sampler at work.
struct SamplerServer<'a> {
    desk: SamplerDesk,
    build: &'a BuildPolicy<'a>,
    lines: BTreeMap<u64, SamplerLine>,
    /// The connection to rank 0.
    giver: Option<u64>,
    /// What its policy was built of.
    built_of: Option<PolicyOf>,
    work: Option<SamplerWork>,
    group: Option<ProcessGroup>,
    /// When it last said that it goes on.
    said: Instant,
}

/// Samples until the run ends.
///
/// # Errors
/// A policy that cannot be built, no memory; a store that does not answer at the start.
pub fn serve(post: SamplerPost) -> Result<SamplerEnd, RolloutError> {
    let lost = super::pool::store;
    let token = post.desk.token().map_err(lost)?;
    let (tell, news) = channel();
    let (listener, patience) = (post.listener, post.patience);
    std::thread::Builder::new()
        .name("sampler door".into())
        .spawn(move || open_door(&listener, &token, &tell, patience))
        .map_err(|error| RolloutError::Samplers(format!("a thread: {error}")))?;
    let card = post.desk.leave(&post.card).map_err(lost)?;
    let mut server = SamplerServer {
        desk: post.desk,
        build: post.build,
        lines: BTreeMap::new(),
        giver: None,
        built_of: None,
        work: None,
        group: None,
        said: Instant::now(),
    };
    let ended = server.run(&news, card);
    if let Err(error) = &ended {
        server.fail(&error.to_string());
    }
    ended
}

/// Lets learners in, each by a thread of its own until it has said who it is.
fn open_door(listener: &TcpListener, token: &str, tell: &Sender<NewsOf>, patience: Duration) {
    for (id, socket) in (0..).zip(listener.incoming().flatten()) {
        let (token, tell) = (token.to_owned(), tell.clone());
        let greet = move || {
            // Whoever does not know the token has no business here.
            let _ = let_in(id, socket, &token, (&tell, patience));
        };
        let named = std::thread::Builder::new().name("sampler hello".into());
        if named.spawn(greet).is_err() {
            return;
        }
    }
}

fn let_in(
    id: u64,
    mut socket: TcpStream,
    token: &str,
    (tell, patience): (&Sender<NewsOf>, Duration),
) -> io::Result<()> {
    socket.set_read_timeout(Some(HELLO))?;
    let (word, _) = read_frame::<ToSampler>(&mut socket)?;
    let ToSampler::Hello {
        token: said,
        gives,
        policy,
        ..
    } = word
    else {
        return Ok(());
    };
    if said != token {
        return Ok(());
    }
    // What it says is told after its coming.
    let (open, gate) = channel::<()>();
    let mut gate = Some(gate);
    let heard = tell.clone();
    let line = SamplerLine::open(socket, patience, move |word| {
        if let Some(gate) = gate.take() {
            let _ = gate.recv();
        }
        let _ = heard.send((id, SamplerNews::Heard(word)));
    })?;
    let _ = tell.send((id, SamplerNews::Came(line, gives.then_some(policy))));
    drop(open);
    Ok(())
}

impl SamplerServer<'_> {
    fn run(&mut self, news: &Receiver<NewsOf>, card: i64) -> Result<SamplerEnd, RolloutError> {
        loop {
            let idle = self.work.as_ref().is_none_or(SamplerWork::is_idle);
            let mut wait = if idle { LOOK } else { Duration::ZERO };
            loop {
                match news.recv_timeout(wait) {
                    Ok((id, news)) => {
                        if let Some(end) = self.hear(id, news)? {
                            return Ok(end);
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(RolloutError::Samplers(
                            "no thread listens to learners any more".into(),
                        ));
                    }
                }
                wait = Duration::ZERO;
            }
            if self.giver.is_none() {
                if !self.desk.answers() {
                    return Ok(SamplerEnd::RunEnded);
                }
                if let Ok(Some(why)) = self.desk.turned_away(card) {
                    return Ok(SamplerEnd::TurnedAway(why));
                }
            }
            self.sample()?;
        }
    }

    /// Takes news in; how the work ends by it, if it does.
    fn hear(&mut self, id: u64, news: SamplerNews) -> Result<Option<SamplerEnd>, RolloutError> {
        match news {
            SamplerNews::Came(line, gives) => {
                self.lines.insert(id, line);
                if let Some(of) = gives {
                    self.giver = Some(id);
                    self.prepare(of)?;
                }
                self.say(id, &FromSampler::Welcome);
            }
            SamplerNews::Heard(LineNews::Ended(why)) => {
                self.lines.remove(&id);
                if let Some(work) = &mut self.work {
                    work.forget(id);
                }
                if self.giver == Some(id) {
                    tracing::info!(target: "svgrl::rollout", "rank 0: {why}");
                    return Ok(Some(self.left_alone()));
                }
            }
            SamplerNews::Heard(LineNews::Said(word, bytes)) => match word {
                ToSampler::Bye => return Ok(Some(SamplerEnd::RunEnded)),
                // A second one says nothing new.
                ToSampler::Hello { .. } => {}
                ToSampler::Ask(asked) => {
                    let asked = match &mut self.work {
                        Some(work) => work.ask(id, (*asked, bytes)),
                        None => Err("it was asked before rank 0 has given it weights".into()),
                    };
                    if let Err(why) = asked {
                        self.say(id, &FromSampler::Refused(why));
                    }
                }
                ToSampler::Forget => {
                    if let Some(work) = &mut self.work {
                        work.forget(id);
                    }
                }
                ToSampler::Join(seat) => self.join(id, &seat),
                ToSampler::Weights { version, bounds } => self.take(id, version, bounds)?,
            },
        }
        Ok(None)
    }

    fn say(&self, id: u64, word: &FromSampler) {
        if let Some(line) = self.lines.get(&id) {
            line.say(word, Vec::new());
        }
    }

    /// Says that it ends, and why.
    fn fail(&mut self, why: &str) {
        for (_, line) in std::mem::take(&mut self.lines) {
            line.part(&FromSampler::Failed(why.to_owned()));
        }
    }

    /// Builds the policy.
    fn prepare(&mut self, of: PolicyOf) -> Result<(), RolloutError> {
        if self.work.is_some() && self.built_of.as_ref() == Some(&of) {
            return Ok(());
        }
        let (policy, tokenizer) = (self.build)(of.as_deref())?;
        self.built_of = Some(of);
        // Rank 0 says the bounds with the weights.
        let decoder = OpenDecoder::new(policy, tokenizer, (1, 0));
        self.work = Some(SamplerWork::new(decoder));
        Ok(())
    }

    /// Joins a new group.
    fn join(&mut self, id: u64, seat: &WeightSeat) {
        self.group = None;
        let Some(work) = &self.work else {
            return self.say(id, &FromSampler::NotSynced("it has no policy yet".into()));
        };
        let policy = work.decoder.policy();
        if weight_plan(policy) != seat.plan {
            let why = "its network has other tensors than the learners': config or model folder are others there";
            return self.say(id, &FromSampler::NotSynced(why.into()));
        }
        self.say(id, &FromSampler::Comes);
        let own = self.lines.get(&id).and_then(SamplerLine::own_address);
        let address = match (own, seat.outside) {
            (Some(own), Some(outside)) if own.is_loopback() => {
                torch_ext::route(&outside.to_string(), 9).or(Some(own))
            }
            (own, _) => own,
        };
        let options = GroupOptions {
            rank: seat.rank,
            size: seat.size,
            timeout: Duration::from_millis(seat.timeout_ms),
            backend: Backend::of(policy.device()),
            heartbeat: HEARTBEAT,
            address,
        };
        match ProcessGroup::connect(self.desk.store(), &seat.prefix, options) {
            Ok(group) => self.group = Some(group),
            // Rank 0 misses it and calls again.
            Err(error) => tracing::warn!(target: "svgrl::rollout", "weight group: {error}"),
        }
    }

    /// Takes the weights that are broadcast.
    fn take(&mut self, id: u64, version: u64, bounds: (usize, usize)) -> Result<(), RolloutError> {
        let (Some(work), Some(group)) = (&mut self.work, &self.group) else {
            let why = "it could not join the group".to_owned();
            self.say(id, &FromSampler::NotSynced(why));
            return Ok(());
        };
        work.decoder.set_bounds(bounds);
        let policy = work.decoder.policy().clone();
        let taken = catch_torch(|| tch::no_grad(|| take_weights(group, &policy)));
        let answer = match taken.map_err(RolloutError::Torch)? {
            Ok(digest) => FromSampler::Synced { version, digest },
            Err(Unsent::Group(error)) => {
                self.group = None;
                FromSampler::NotSynced(error.to_string())
            }
            Err(Unsent::Other(error)) => return Err(error),
        };
        self.say(id, &answer);
        Ok(())
    }

    /// Goes on with what it was asked for.
    fn sample(&mut self) -> Result<(), RolloutError> {
        let Some(work) = self.work.as_mut().filter(|work| !work.is_idle()) else {
            return Ok(());
        };
        let done = work.step()?;
        if self.said.elapsed() >= LOOK {
            self.said = Instant::now();
            for line in self.lines.values() {
                line.say(&FromSampler::GoesOn, Vec::new());
            }
        }
        match done {
            WorkDone::Samples(samples) => {
                for (asker, sample) in samples {
                    self.say(asker, &FromSampler::Done(sample));
                }
            }
            WorkDone::Refused(askers, why) => {
                for asker in askers {
                    self.say(asker, &FromSampler::Refused(why.clone()));
                }
            }
        }
        Ok(())
    }

    /// Rank 0 has closed its connection: whether the run is gone, or goes on without this sampler.
    fn left_alone(&self) -> SamplerEnd {
        let end = Instant::now() + AFTERLIFE;
        while self.desk.answers() {
            if Instant::now() >= end {
                return SamplerEnd::GivenUp;
            }
            std::thread::sleep(LOOK / 4);
        }
        SamplerEnd::RunEnded
    }
}
