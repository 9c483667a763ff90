//! An encoder's thread: jobs of one shape that are at hand go through the network together.
//!
//! Every pass has the same number of rows, short ones filled up with copies, and texts take a width that
//! depends on their own length alone: so a feature's bits do not depend on who shared the pass.

use super::enabled::Fault;
use super::shelf::Shelf;
use super::ticket::Ticket;
use crate::perceptual::LpipsScale;
use crate::picture::Picture;
use crossbeam_channel::Receiver;
use models::ModelError;
use models::encoder::{Encoder, Lpips, LpipsFeatures, LpipsInput, Pool, unit_rows};
use models::image::Rgb8;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tch::{Device, Kind, Tensor};

/// What is asked of an encoder.
pub(super) enum Ask {
    /// A picture as the network's processor made it.
    Picture(Rgb8, Pool),
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

/// The network of a thread.
pub(super) enum Worker {
    Features(Box<Encoder>),
    Lpips(Lpips),
}

/// What a thread knows besides its network.
pub(super) struct Server {
    pub name: String,
    /// Rows of a pass.
    pub batch: usize,
    /// Whether it computes on the CPU, where networks take turns.
    pub on_cpu: bool,
    pub fault: Fault,
    /// Set when nobody wants answers any more.
    pub ended: Arc<AtomicBool>,
}

/// How long a pass that is not full waits for more.
const PATIENCE: Duration = Duration::from_millis(4);
/// Widths of texts that share passes are multiples of it.
const STEP: usize = 16;
/// Bytes of reference features that LPIPS keeps.
const KEPT: usize = 512 << 20;

/// Networks on the CPU compute one after the other: each uses all threads that it may.
static TURN: Mutex<()> = Mutex::new(());

/// A question ready for the network; those of one shape share a pass.
enum Ready {
    Picture(Rgb8, Pool),
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
            let until = Instant::now() + PATIENCE;
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
            let Some((first, ticket)) = waiting.jobs.pop_front() else {
                continue;
            };
            let (mut batch, mut tickets) = (vec![first], vec![ticket]);
            let mut rest = VecDeque::new();
            for (ready, ticket) in waiting.jobs.drain(..) {
                if batch.len() < self.batch && batch[0].fits(&ready) {
                    batch.push(ready);
                    tickets.push(ticket);
                } else {
                    rest.push_back((ready, ticket));
                }
            }
            waiting.jobs = rest;
            let turn = self
                .on_cpu
                .then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
            let answer = catch_unwind(AssertUnwindSafe(|| {
                worker.answer(&batch, self.batch, &mut kept)
            }));
            drop(turn);
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

    /// Rows that the next pass still lacks.
    fn missing(&self, waiting: &VecDeque<(Ready, Ticket)>) -> usize {
        let Some((first, _)) = waiting.front() else {
            return 0;
        };
        let like = waiting
            .iter()
            .filter(|(ready, _)| first.fits(ready))
            .count();
        self.batch.saturating_sub(like)
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
        let width = match self.batch {
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

impl Worker {
    /// Takes the weights, and what is kept of references, to another device.
    fn move_to(&mut self, device: Device, kept: &mut Kept) -> Result<(), ModelError> {
        match self {
            Worker::Features(network) => network.move_to((network.place().0, device)),
            Worker::Lpips(network) => {
                network.move_to((network.place().0, device))?;
                kept.entries
                    .iter_mut()
                    .try_for_each(|(_, _, features)| features.move_to(device))
            }
        }
    }

    /// One answer for each of `batch`, from a pass of exactly `rows` rows.
    fn answer(
        &self,
        batch: &[Ready],
        rows: usize,
        kept: &mut Kept,
    ) -> Result<Vec<Arc<[f32]>>, ModelError> {
        let filled = || (0..rows.max(batch.len())).map(|row| &batch[row.min(batch.len() - 1)]);
        let features = match (self, &batch[0]) {
            (Worker::Features(network), Ready::Picture(_, pool)) => {
                let pictures: Vec<&Rgb8> = filled()
                    .filter_map(|ready| match ready {
                        Ready::Picture(picture, _) => Some(picture),
                        _ => None,
                    })
                    .collect();
                network.embed_images(&pictures, *pool)?
            }
            (Worker::Features(network), Ready::Ids(_, width)) => {
                let ids: Vec<&[i64]> = filled()
                    .filter_map(|ready| match ready {
                        Ready::Ids(ids, _) => Some(ids.as_slice()),
                        _ => None,
                    })
                    .collect();
                network.embed_ids(&ids, *width, Pool::Cls)?
            }
            (Worker::Features(network), &Ready::Tokens(_, width, layer)) => {
                let filled: Vec<&Ready> = filled().collect();
                return tokens(network, (batch, &filled), (width, layer));
            }
            (Worker::Lpips(network), Ready::Distance(..)) => {
                return distances(network, batch, &filled().collect::<Vec<_>>(), kept);
            }
            _ => {
                return Err(ModelError::Image(
                    "this network was asked for something else".into(),
                ));
            }
        };
        let features = plain(&unit_rows(&features))?;
        let width = features.len() / rows.max(batch.len());
        Ok(features
            .chunks_exact(width)
            .take(batch.len())
            .map(Arc::from)
            .collect())
    }
}

/// Every token of the texts of `batch`, the first of the rows of `filled`: whether it counts, then its
/// feature of unit length. The first and the last id of a text are its special ones.
fn tokens(
    network: &Encoder,
    (batch, filled): (&[Ready], &[&Ready]),
    (width, layer): (usize, usize),
) -> Result<Vec<Arc<[f32]>>, ModelError> {
    let ids_of = |ready: &Ready| match ready {
        Ready::Tokens(ids, ..) => Some(ids.clone()),
        _ => None,
    };
    let ids: Vec<Vec<i64>> = filled.iter().filter_map(|ready| ids_of(ready)).collect();
    let borrowed: Vec<&[i64]> = ids.iter().map(Vec::as_slice).collect();
    let states = network.embed_tokens(&borrowed, width, layer)?;
    let answer = |(row, ids): (usize, &Vec<i64>)| {
        let own = states.get(row as i64).narrow(0, 0, ids.len() as i64);
        let features = plain(&unit_rows(&own))?;
        let size = features.len() / ids.len();
        let special = [ids.first(), ids.last()];
        let mut flat = Vec::with_capacity(features.len() + ids.len());
        for (id, feature) in ids.iter().zip(features.chunks_exact(size)) {
            flat.push(f32::from(!special.contains(&Some(id))));
            flat.extend_from_slice(feature);
        }
        Ok(flat.into())
    };
    ids.iter()
        .enumerate()
        .take(batch.len())
        .map(answer)
        .collect()
}

fn plain(rows: &Tensor) -> Result<Vec<f32>, ModelError> {
    let flat = rows
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .reshape([-1]);
    let values = Vec::<f32>::try_from(flat)?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(ModelError::Image(
            "the network gave numbers that are not finite (is dtype float16 too narrow for it?)"
                .into(),
        )),
    }
}

fn distances(
    network: &Lpips,
    batch: &[Ready],
    filled: &[&Ready],
    kept: &mut Kept,
) -> Result<Vec<Arc<[f32]>>, ModelError> {
    let pictures: Vec<&Rgb8> = filled
        .iter()
        .filter_map(|ready| match ready {
            Ready::Distance(picture, ..) => Some(picture),
            _ => None,
        })
        .collect();
    let Ready::Distance(_, _, input) = batch[0] else {
        return Err(ModelError::Image("LPIPS compares pictures alone".into()));
    };
    let input = match input {
        LpipsScale::Unit => LpipsInput::Unit,
        LpipsScale::Signed => LpipsInput::Signed,
        LpipsScale::Imagenet => LpipsInput::Imagenet,
    };
    let features = network.features(&pictures, input)?;
    let mut answers = Vec::new();
    for (row, ready) in batch.iter().enumerate() {
        if let Ready::Distance(_, reference, _) = ready {
            let reference = kept.features(network, reference, input)?;
            let far = network.distances(&features.one(row as i64), reference)?;
            answers.push(plain(&far)?.into());
        }
    }
    Ok(answers)
}

/// Features of references, the oldest leaving first. A reference is known by its picture's address, which
/// lives as long as the picture is held here.
#[derive(Default)]
struct Kept {
    entries: VecDeque<(Arc<Picture>, LpipsInput, LpipsFeatures)>,
    bytes: usize,
}

impl Kept {
    fn features(
        &mut self,
        network: &Lpips,
        reference: &Arc<Picture>,
        input: LpipsInput,
    ) -> Result<&LpipsFeatures, ModelError> {
        let known = |(picture, how, _): &(Arc<Picture>, LpipsInput, LpipsFeatures)| {
            Arc::ptr_eq(picture, reference) && *how == input
        };
        if let Some(at) = self.entries.iter().position(known) {
            return Ok(&self.entries[at].2);
        }
        let picture = Rgb8 {
            width: reference.width,
            height: reference.height,
            data: reference.rgb.clone(),
        };
        let features = network.features(&[&picture], input)?;
        self.bytes += features.bytes();
        self.entries.push_back((reference.clone(), input, features));
        while self.bytes > KEPT && self.entries.len() > 1 {
            if let Some((_, _, old)) = self.entries.pop_front() {
                self.bytes -= old.bytes();
            }
        }
        let last = self
            .entries
            .back()
            .expect("one was pushed, and one is always kept");
        Ok(&last.2)
    }
}
