//! Who hears of a run.

use std::path::Path;
use std::time::{Duration, Instant};

use tch::Device;

use crate::config::StageCommon;
use crate::metrics::Metrics;

/// What a run is, as it begins or goes on.
#[derive(Debug)]
pub struct RunHeader<'a> {
    /// Where this rank computes.
    pub device: Device,
    /// Threads of this rank.
    pub threads: usize,
    /// Number of ranks.
    pub ranks: usize,
    /// Weights of the policy, those that do not learn among them.
    pub parameters: i64,
    /// The sources in the config's order.
    pub sources: Vec<SourceCounts>,
    /// The run folder.
    pub folder: &'a Path,
    /// The checkpoint that it continues from.
    pub from: Option<&'a Path>,
    /// The stage that is next, or goes on.
    pub stage: &'a StageCommon,
    /// Its steps that are done.
    pub step: u64,
}

/// How many rows a source has.
#[derive(Debug)]
pub struct SourceCounts {
    /// Its name in the config.
    pub name: String,
    /// Rows to train on.
    pub train: usize,
    /// Rows that are never trained on.
    pub held_out: usize,
}

/// Hears of what happens, on rank 0.
pub trait Observer {
    /// Everything is read, and the first stage begins.
    fn begins(&mut self, run: &RunHeader<'_>);
    /// A step or an evaluation was finished and written.
    fn row(&mut self, stage: &StageCommon, step: u64, metrics: &Metrics);
    /// A checkpoint or the run's end was reached.
    fn checkpoint(&mut self, run: &Path);
    /// A long scan of a source's files goes on: bytes read so far and in all.
    fn reading(&mut self, source: &str, done: u64, all: u64);
    /// What a stage needs before its first step is being made: how much of it, and of how much.
    fn preparing(&mut self, what: &str, done: u64, all: u64);
    /// Something that people should know.
    fn notice(&mut self, text: &str);
}

/// Tells an observer of a scan, a few times a second once it takes long.
pub(super) struct Throttle {
    last: Instant,
    told: bool,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            told: false,
        }
    }

    /// `done` of `all` bytes of `source` are read.
    pub(super) fn reading(
        &mut self,
        observer: &mut dyn Observer,
        source: &str,
        (done, all): (u64, u64),
    ) {
        if self.last.elapsed() > Duration::from_millis(300) || (self.told && done == all) {
            observer.reading(source, done, all);
            (self.last, self.told) = (Instant::now(), done < all);
        }
    }
}
