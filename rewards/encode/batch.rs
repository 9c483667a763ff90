//! An encoder's thread: jobs of one shape that are at hand go through the network together.
//!
//! Every pass of a kind has the same number of rows, short ones filled up with copies, and texts take a
//! width that depends on their own length alone: so a feature's bits do not depend on who shared the pass.

use super::EncoderCount;
use super::enabled::Fault;
use super::network::{Kept, Worker};
use super::shelf::Shelf;
use super::ticket::Ticket;
use crate::perceptual::LpipsScale;
use crate::picture::Picture;
use crossbeam_channel::Receiver;
use models::ModelError;
use models::encoder::{Encoder, Pooling};
use models::image::Rgb8;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is asked of an encoder.
pub(super) enum Ask {
    /// A picture as the network's processor made it.
    Picture(Rgb8, Pooling),
    Text(String),
    /// Every token of a text behind this layer.
    Tokens(String, usize),
    Distance {
        picture: Rgb8,
        reference: Arc<Picture>,
        input: LpipsScale,
    },
    /// That the weights go to host memory once all that was asked before is answered.
    Rest,
    /// That they come back.
    Wake,
}

/// A question and where its answer goes.
pub(super) struct Job {
    pub ask: Ask,
    pub ticket: Ticket,
}

/// Rows of a pass.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub pictures: usize,
    pub texts: usize,
}

impl Rows {
    /// What `batch` says; 0 chooses. A core is busy with one text, and a group of completions has but one;
    /// of pictures four share the reading of the weights, and more gain nothing.
    pub fn new(batch: usize, on_cpu: bool) -> Rows {
        let (pictures, texts) = match (batch, on_cpu) {
            (0, true) => (4, 1),
            (0, false) => (32, 32),
            (count, _) => (count, count),
        };
        Rows { pictures, texts }
    }

    fn of(self, ready: &Ready) -> usize {
        match ready {
            Ready::Picture(..) | Ready::Distance(..) => self.pictures,
            Ready::Ids(..) | Ready::Tokens(..) => self.texts,
        }
    }
}

/// What a thread knows besides its network.
pub(super) struct Server {
    pub name: String,
    pub rows: Rows,
    /// Whether it computes on the CPU, where networks take turns.
    pub on_cpu: bool,
    pub fault: Fault,
    /// Set when nobody wants answers any more.
    pub ended: Arc<AtomicBool>,
    pub tally: Arc<Tally>,
}

/// What went through a network so far.
#[derive(Default)]
pub(super) struct Tally {
    passes: AtomicU64,
    items: AtomicU64,
}

impl Tally {
    fn add(&self, items: usize) {
        self.passes.fetch_add(1, Ordering::Relaxed);
        self.items.fetch_add(items as u64, Ordering::Relaxed);
    }

    pub fn read(&self) -> EncoderCount {
        let [passes, items] = [&self.passes, &self.items].map(|n| n.load(Ordering::Relaxed));
        EncoderCount { passes, items }
    }
}

/// How long a pass that is not full waits for more, at least.
const PATIENCE: Duration = Duration::from_millis(4);
/// The part of the last pass' time that it waits at most: little beside rows of copies.
const SHARE: u32 = 16;
/// Widths of texts that share passes are multiples of it.
const STEP: usize = 16;

/// Networks on the CPU compute one after the other: each uses all threads that it may.
static TURN: Mutex<()> = Mutex::new(());

/// A question ready for the network; those of one shape share a pass.
pub(super) enum Ready {
    Picture(Rgb8, Pooling),
    Ids(Vec<i64>, usize),
    /// Ids, width and layer.
    Tokens(Vec<i64>, usize, usize),
    Distance(Rgb8, Arc<Picture>, LpipsScale),
}

impl Ready {
    fn fits(&self, other: &Ready) -> bool {
        match (self, other) {
            (Ready::Picture(a, p), Ready::Picture(b, q)) => {
                (a.width, a.height, p) == (b.width, b.height, q)
            }
            (Ready::Ids(_, a), Ready::Ids(_, b)) => a == b,
            (Ready::Tokens(_, a, p), Ready::Tokens(_, b, q)) => (a, p) == (b, q),
            (Ready::Distance(a, _, p), Ready::Distance(b, _, q)) => {
                (a.width, a.height, p) == (b.width, b.height, q)
            }
            _ => false,
        }
    }
}

/// What a thread has taken in.
#[derive(Default)]
struct Waiting {
    jobs: VecDeque<(Ready, Ticket)>,
    /// Waits for the weights to be away.
    resting: Option<Ticket>,
    /// Whether the weights shall come home.
    waking: bool,
}

impl Waiting {
    fn is_wanted(&self) -> bool {
        self.waking || !self.jobs.is_empty()
    }
}

impl Server {
    /// Answers until the channel closes. With a shelf the weights lie in host memory at first.
    pub fn run(
        &self,
        (worker, mut shelf): (&mut Worker, Option<&mut Shelf>),
        inbox: &Receiver<Job>,
    ) {
        let mut waiting = Waiting::default();
        let mut kept = Kept::default();
        let mut last = Duration::ZERO;
        loop {
            if waiting.jobs.is_empty() {
                if let (Some(resting), Some(shelf)) = (waiting.resting.take(), &mut shelf) {
                    let moved = shelf.put_away(&mut |device| worker.move_to(device, &mut kept));
                    self.tell(moved.map(|()| Arc::from([])), &resting);
                }
                match inbox.recv() {
                    Ok(job) => self.admit(worker, job, &mut waiting),
                    Err(_) => return,
                }
            }
            if let (true, Some(shelf)) = (waiting.is_wanted(), &mut shelf) {
                let moved = shelf.fetch(&mut |device| worker.move_to(device, &mut kept));
                waiting.waking = false;
                if let Err(error) = moved {
                    let tickets: Vec<Ticket> = waiting.jobs.drain(..).map(|job| job.1).collect();
                    fail(&self.fault, &self.name, &error.to_string(), &tickets);
                }
            }
            let until = Instant::now() + PATIENCE.max(last / SHARE);
            while waiting.resting.is_none() && self.missing(&waiting.jobs) > 0 {
                match inbox.recv_deadline(until) {
                    Ok(job) => self.admit(worker, job, &mut waiting),
                    Err(_) => break,
                }
            }
            if self.ended.load(Ordering::SeqCst) {
                let asked = inbox.try_iter().map(|job| job.ticket);
                let taken = waiting.jobs.into_iter().map(|(_, ticket)| ticket);
                taken
                    .chain(asked)
                    .for_each(|ticket| ticket.give(Err("the encoder has ended".into())));
                return;
            }
            if waiting.jobs.is_empty() {
                continue;
            }
            let turn = self
                .on_cpu
                .then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
            // Others may have come while another network had its turn.
            while waiting.resting.is_none() && self.missing(&waiting.jobs) > 0 {
                match inbox.try_recv() {
                    Ok(job) => self.admit(worker, job, &mut waiting),
                    Err(_) => break,
                }
            }
            let Some((rows, batch, tickets)) = self.next_pass(&mut waiting.jobs) else {
                continue;
            };
            let started = Instant::now();
            let answer = catch_unwind(AssertUnwindSafe(|| worker.answer(&batch, rows, &mut kept)));
            drop(turn);
            last = started.elapsed();
            self.tally.add(tickets.len());
            match answer {
                Ok(Ok(answers)) => {
                    for (ticket, answer) in tickets.iter().zip(answers) {
                        ticket.give(Ok(answer));
                    }
                }
                Ok(Err(error)) => fail(&self.fault, &self.name, &error.to_string(), &tickets),
                Err(_) => fail(&self.fault, &self.name, "panic", &tickets),
            }
        }
    }

    /// Gives one ticket its answer; an error is a fault.
    fn tell(&self, answer: Result<Arc<[f32]>, ModelError>, ticket: &Ticket) {
        match answer {
            Ok(answer) => ticket.give(Ok(answer)),
            Err(error) => fail(
                &self.fault,
                &self.name,
                &error.to_string(),
                std::slice::from_ref(ticket),
            ),
        }
    }

    /// The first question, those that may share its pass, and how many rows that has.
    fn next_pass(
        &self,
        waiting: &mut VecDeque<(Ready, Ticket)>,
    ) -> Option<(usize, Vec<Ready>, Vec<Ticket>)> {
        let (first, ticket) = waiting.pop_front()?;
        let rows = self.rows.of(&first);
        let (mut batch, mut tickets) = (vec![first], vec![ticket]);
        for (ready, ticket) in std::mem::take(waiting) {
            if batch.len() < rows && batch[0].fits(&ready) {
                batch.push(ready);
                tickets.push(ticket);
            } else {
                waiting.push_back((ready, ticket));
            }
        }
        Some((rows, batch, tickets))
    }

    /// Rows that the next pass still lacks.
    fn missing(&self, waiting: &VecDeque<(Ready, Ticket)>) -> usize {
        let Some((first, _)) = waiting.front() else {
            return 0;
        };
        let like = waiting
            .iter()
            .filter(|(ready, _)| first.fits(ready))
            .count();
        self.rows.of(first).saturating_sub(like)
    }

    fn admit(&self, worker: &Worker, job: Job, waiting: &mut Waiting) {
        let ready = match (job.ask, worker) {
            (Ask::Rest, _) => {
                waiting.resting = Some(job.ticket);
                return;
            }
            (Ask::Wake, _) => {
                waiting.waking = true;
                return;
            }
            (Ask::Picture(picture, pool), _) => Ok(Ready::Picture(picture, pool)),
            (
                Ask::Distance {
                    picture,
                    reference,
                    input,
                },
                _,
            ) => Ok(Ready::Distance(picture, reference, input)),
            (Ask::Text(text), Worker::Features(network)) => self
                .ids(network, &text)
                .map(|(ids, width)| Ready::Ids(ids, width)),
            (Ask::Tokens(text, layer), Worker::Features(network)) => self
                .ids(network, &text)
                .map(|(ids, width)| Ready::Tokens(ids, width, layer)),
            (Ask::Text(_) | Ask::Tokens(..), Worker::Lpips(_)) => {
                Err(ModelError::Text("LPIPS reads no texts".into()))
            }
        };
        match ready {
            Ok(ready) => waiting.jobs.push_back((ready, job.ticket)),
            Err(error) => fail(&self.fault, &self.name, &error.to_string(), &[job.ticket]),
        }
    }

    /// A text's ids, and how many places it takes in a pass.
    fn ids(&self, network: &Encoder, text: &str) -> Result<(Vec<i64>, usize), ModelError> {
        let ids = network.tokenize(text)?;
        let width = match self.rows.texts {
            1 => ids.len(),
            _ => ids
                .len()
                .next_multiple_of(STEP)
                .min(network.longest().unwrap_or(ids.len())),
        };
        Ok((ids, width))
    }
}

/// Notes the first fault and tells those who wait.
pub(super) fn fail(fault: &Fault, encoder: &str, reason: &str, tickets: &[Ticket]) {
    let text = format!("encoders.{encoder}: {reason}");
    for ticket in tickets {
        ticket.give(Err(text.as_str().into()));
    }
    fault
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get_or_insert(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use tch::{Device, Kind};

    fn picture(network: &Encoder, shade: u8) -> Rgb8 {
        let own = Rgb8 {
            width: 50,
            height: 60,
            data: vec![shade; 9000],
        };
        network.fit(&own).unwrap()
    }

    /// Answers all of `asks`, which are there before the thread begins; and what was counted.
    fn run(rows: Rows, encoder: &str, asks: Vec<Ask>) -> (Vec<Arc<[f32]>>, EncoderCount) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/encoders");
        let network = Encoder::load(&path.join(encoder), (Kind::Float, Device::Cpu)).unwrap();
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let tickets: Vec<Ticket> = asks.iter().map(|_| Ticket::default()).collect();
        for (ask, ticket) in asks.into_iter().zip(&tickets) {
            let ticket = ticket.clone();
            jobs.send(Job { ask, ticket }).unwrap();
        }
        drop(jobs);
        let server = Server {
            name: encoder.into(),
            rows,
            on_cpu: true,
            fault: Arc::default(),
            ended: Arc::default(),
            tally: Arc::default(),
        };
        server.run((&mut Worker::Features(Box::new(network)), None), &inbox);
        let answers = tickets.iter().map(|ticket| ticket.wait().unwrap());
        (answers.collect(), server.tally.read())
    }

    #[test]
    fn pictures_of_all_groups_share_passes_and_texts_go_one_by_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/encoders/clip");
        let clip = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
        let looks = |shades: &[u8]| -> Vec<Ask> {
            let look = |shade: &u8| Ask::Picture(picture(&clip, *shade), Pooling::Cls);
            shades.iter().map(look).collect()
        };
        // Two groups of three and their texts, in the order they come.
        let mut asks = looks(&[0, 40, 80]);
        asks.push(Ask::Text("a dot".into()));
        asks.extend(looks(&[120, 160, 200]));
        asks.push(Ask::Text("a bar".into()));
        let (answers, count) = run(Rows::new(0, true), "clip", asks);
        assert_eq!((count.items, count.passes), (8, 2 + 2));
        // Who shared the pass does not show, not in one bit.
        for (place, shade) in [(0, 0), (5, 160)] {
            let (alone, _) = run(Rows::new(0, true), "clip", looks(&[shade]));
            assert_eq!(alone[0], answers[place]);
        }
    }

    #[test]
    fn the_config_says_how_many_share_a_pass() {
        let rows = |batch, on_cpu| {
            let rows = Rows::new(batch, on_cpu);
            (rows.pictures, rows.texts)
        };
        assert_eq!((rows(0, true), rows(0, false)), ((4, 1), (32, 32)));
        assert_eq!((rows(3, true), rows(3, false)), ((3, 3), (3, 3)));
        let texts = || {
            ["a", "b", "c", "d"]
                .map(|text| Ask::Text(text.into()))
                .into()
        };
        let (_, count) = run(Rows::new(2, true), "clip", texts());
        assert_eq!((count.items, count.passes), (4, 2));
    }
}
