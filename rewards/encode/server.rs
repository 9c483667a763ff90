//! An encoder's thread: questions of one shape that are at hand go through the network together.
//!
//! Every pass of a kind has the same number of rows, short ones filled up with copies, and texts take a
//! width that depends on their own length alone: so a feature's bits do not depend on who shared the pass.

use super::counter::PassCounter;
use super::job::{EncodeCommand, EncodeInput, EncodeJob, Padded, PassRows};
use super::offload::Offloader;
use super::promise::{NoAnswer, Promise};
use super::worker::Worker;
use crossbeam_channel::Receiver;
use models::ModelError;
use models::encoder::{Encoder, guarded};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a thread knows besides its network.
pub(super) struct Server {
    pub name: String,
    pub rows: PassRows,
    /// Whether it computes on the CPU, where networks take turns.
    pub on_cpu: bool,
    /// Set when nobody wants answers any more.
    pub ended: Arc<AtomicBool>,
    pub counter: Arc<PassCounter>,
}

/// How long a pass that is not full waits for more, at least.
const PATIENCE: Duration = Duration::from_millis(4);
/// The part of the last pass' time that it waits at most: little beside rows of copies.
const SHARE: u32 = 16;
/// Widths of texts that share passes are multiples of it.
const STEP: usize = 16;

/// Networks on the CPU compute one after the other: each uses all threads that it may.
static TURN: Mutex<()> = Mutex::new(());

/// What a thread has taken in.
#[derive(Default)]
struct Inbox {
    jobs: VecDeque<(EncodeInput, Promise)>,
    /// Waits for the weights to be away.
    offload: Option<Promise>,
    /// Whether the weights shall come home.
    reload: bool,
}

/// Questions that share a pass, and where their answers go.
struct Pass {
    /// Rows of the pass; as many questions or fewer.
    rows: usize,
    batch: Vec<EncodeInput>,
    promises: Vec<Promise>,
}

impl Inbox {
    fn is_wanted(&self) -> bool {
        self.reload || !self.jobs.is_empty()
    }
}

impl Server {
    /// Answers until the channel closes. With an offloader the weights lie in host memory at first.
    pub fn run(
        &self,
        worker: &mut Worker,
        mut offloader: Option<Offloader>,
        inbox: &Receiver<EncodeJob>,
    ) {
        let mut waiting = Inbox::default();
        let mut last = Duration::ZERO;
        loop {
            if waiting.jobs.is_empty() {
                if let (Some(told), Some(offloader)) = (waiting.offload.take(), &mut offloader) {
                    let moved =
                        guarded(|| offloader.put_away(&mut |device| worker.move_to(device)));
                    self.tell(moved, &told);
                }
                match inbox.recv() {
                    Ok(job) => self.admit(worker, job, &mut waiting),
                    Err(_) => return,
                }
            }
            if let (true, Some(offloader)) = (waiting.is_wanted(), &mut offloader) {
                let moved = guarded(|| offloader.fetch(&mut |device| worker.move_to(device)));
                waiting.reload = false;
                if let Err(error) = moved {
                    let promises: Vec<Promise> = waiting.jobs.drain(..).map(|job| job.1).collect();
                    self.fail(&error.to_string(), &promises);
                }
            }
            let until = Instant::now() + PATIENCE.max(last / SHARE);
            while waiting.offload.is_none() && self.missing(&waiting.jobs) > 0 {
                match inbox.recv_deadline(until) {
                    Ok(job) => self.admit(worker, job, &mut waiting),
                    Err(_) => break,
                }
            }
            if self.ended.load(Ordering::SeqCst) {
                let asked = inbox.try_iter().map(|job| job.promise);
                let taken = waiting.jobs.into_iter().map(|(_, promise)| promise);
                taken.chain(asked).for_each(|promise| {
                    promise.give(Err(NoAnswer::failed("the encoder has ended")))
                });
                return;
            }
            if waiting.jobs.is_empty() {
                continue;
            }
            let turn = self
                .on_cpu
                .then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
            // Others may have come while another network had its turn.
            while waiting.offload.is_none() && self.missing(&waiting.jobs) > 0 {
                match inbox.try_recv() {
                    Ok(job) => self.admit(worker, job, &mut waiting),
                    Err(_) => break,
                }
            }
            let Some(pass) = self.next_pass(&mut waiting.jobs) else {
                continue;
            };
            let started = Instant::now();
            let answers = guarded(|| worker.answer(&pass.batch, pass.rows));
            drop(turn);
            last = started.elapsed();
            self.counter.add(pass.promises.len());
            match answers {
                Ok(answers) => {
                    for (promise, answer) in pass.promises.iter().zip(answers) {
                        promise.give(Ok(answer));
                    }
                }
                Err(error) => self.fail(&error.to_string(), &pass.promises),
            }
        }
    }

    /// Keeps a promise of nothing, or says why not.
    fn tell(&self, done: Result<(), ModelError>, promise: &Promise) {
        match done {
            Ok(()) => promise.give(Ok(Arc::from([]))),
            Err(error) => self.fail(&error.to_string(), std::slice::from_ref(promise)),
        }
    }

    /// Tells those who wait that there is no answer.
    fn fail(&self, reason: &str, promises: &[Promise]) {
        let text: Arc<str> = format!("encoders.{}: {reason}", self.name).into();
        for promise in promises {
            promise.give(Err(NoAnswer::Failed(text.clone())));
        }
    }

    /// The first question and those that may share its pass.
    fn next_pass(&self, waiting: &mut VecDeque<(EncodeInput, Promise)>) -> Option<Pass> {
        let (first, promise) = waiting.pop_front()?;
        let rows = self.rows.of(&first);
        let (mut batch, mut promises) = (vec![first], vec![promise]);
        for (prepared, promise) in std::mem::take(waiting) {
            if batch.len() < rows && batch[0].fits(&prepared) {
                batch.push(prepared);
                promises.push(promise);
            } else {
                waiting.push_back((prepared, promise));
            }
        }
        Some(Pass {
            rows,
            batch,
            promises,
        })
    }

    /// Rows that the next pass still lacks.
    fn missing(&self, waiting: &VecDeque<(EncodeInput, Promise)>) -> usize {
        let Some((first, _)) = waiting.front() else {
            return 0;
        };
        let like = waiting
            .iter()
            .filter(|(prepared, _)| first.fits(prepared))
            .count();
        self.rows.of(first).saturating_sub(like)
    }

    fn admit(&self, worker: &Worker, job: EncodeJob, waiting: &mut Inbox) {
        let prepared = match job.command {
            EncodeCommand::Offload => {
                waiting.offload = Some(job.promise);
                return;
            }
            EncodeCommand::Reload => {
                waiting.reload = true;
                return;
            }
            EncodeCommand::Picture(picture, pool) => Ok(EncodeInput::Picture(picture, pool)),
            EncodeCommand::Distance {
                picture,
                reference,
                input,
            } => Ok(EncodeInput::Distance(picture, reference, input)),
            EncodeCommand::WholeText(text) => {
                let network = worker.reader();
                match network.and_then(|network| network.reads_whole(&text)) {
                    Ok(true) => self.padded(worker, &text).map(EncodeInput::Text),
                    Ok(false) => {
                        job.promise.give(Ok(Arc::from([])));
                        return;
                    }
                    Err(error) => Err(error),
                }
            }
            EncodeCommand::Text(text) => self.padded(worker, &text).map(EncodeInput::Text),
            EncodeCommand::Tokens(text, layer) => {
                let padded = self.padded(worker, &text);
                padded.map(|padded| EncodeInput::Tokens(padded, layer))
            }
        };
        match prepared {
            Ok(prepared) => waiting.jobs.push_back((prepared, job.promise)),
            Err(error) => self.fail(&error.to_string(), &[job.promise]),
        }
    }

    /// A text's ids, and how many places it takes in a pass.
    fn padded(&self, worker: &Worker, text: &str) -> Result<Padded, ModelError> {
        let network: &Encoder = worker.reader()?;
        let ids = network.tokenize(text)?;
        let width = match self.rows.texts {
            1 => ids.len(),
            _ => ids
                .len()
                .next_multiple_of(STEP)
                .min(network.longest().unwrap_or(ids.len())),
        };
        Ok(Padded { ids, width })
    }
}

#[cfg(test)]
mod tests;
