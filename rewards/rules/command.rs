//! A reward of the user's own, a command over its standard input.

use crate::options::reward_options;
use crate::own::{Batching, OwnKind, OwnSetup};
use crate::rules::own::{ask, needs};
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::value::Value;
use std::path::{Path, PathBuf};

reward_options! {
    /// A reward of your own, a command, started for each batch: rows come on its standard input, one JSON object a line
    /// (`id`, `task`, `step`, `prompt`, `completion`, `svg`, `reference`, `truncated`, and `png` in base64 where asked
    /// for), until it closes; an answer a line is read from its standard output, in order: a number, an object of numbers
    /// (`score` among them is the reward, else their sum; the others are curves `<name>.<key>`), or null where there is none.
    CommandReward (clip None) {
        /// What the shell runs.
        run: String = String::new(),
        /// Where it runs, relative to the config's folder; absent: there.
        folder: Option<PathBuf> = None,
        /// Whether rows hold the drawing, a PNG in base64.
        png: bool = false,
        /// Rows of one run of it, at least 1.
        batch: usize = 32,
        /// Runs of it at the same time, at least 1.
        workers: usize = 1,
        /// Milliseconds, at least 1, that a run may take; one that overruns it is ended.
        timeout_ms: u64 = 60_000,
        /// How often a run that failed is made again.
        retries: u32 = 0,
        /// The value of a completion that could not be scored; absent: as `rubric.unscored` says.
        failure_value: Option<f64> = None,
    }
}

impl RewardFn for CommandReward {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        needs()
    }

    fn check(&self) -> Result<(), String> {
        if self.run.trim().is_empty() {
            return Err("run: is needed: the command that scores".into());
        }
        match self.folder.as_deref().filter(|folder| folder.is_absolute()) {
            Some(folder) if !folder.is_dir() => {
                return Err(format!("folder: {}: no such folder", folder.display()));
            }
            _ => {}
        }
        self.batching().check()
    }

    fn resolve_paths(&mut self, folder: &Path) {
        let own = self.folder.take().unwrap_or_default();
        self.folder = Some(folder.join(own));
    }

    fn without_place(&mut self) {
        self.folder = None;
    }

    fn own(&self) -> Option<OwnSetup> {
        Some(OwnSetup {
            kind: OwnKind::Command {
                run: self.run.clone(),
                folder: self.folder.clone().unwrap_or_else(|| ".".into()),
            },
            batching: self.batching(),
        })
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        ask(cx, self.png, self.failure_value)
    }
}

impl CommandReward {
    fn batching(&self) -> Batching {
        Batching {
            batch: self.batch,
            connections: self.workers,
            timeout_ms: self.timeout_ms,
            retries: self.retries,
        }
    }
}
