//! A reward of the user's own, a function of their own Python.

use crate::options::reward_options;
use crate::own::{Batching, OwnKind, OwnSetup};
use crate::rules::own::{ask, needs};
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Tools,
};
use crate::rules::value::Value;
use std::path::{Path, PathBuf};

reward_options! {
    /// A reward of your own, a Python function, called in worker processes with a list of rows (dicts with `id`, `task`,
    /// `step`, `prompt`, `completion`, `svg`, `reference`, `truncated`, and `png` as bytes where asked for). It returns a
    /// list: a number for each row, or a dict of numbers (`score` among them is the reward, else their sum; the others are
    /// curves `<name>.<key>`), or None where there is none. What it prints goes to standard error.
    PythonReward (clip None) {
        /// The file, relative to the config's folder, and the function: `rewards/mine.py:score`.
        path: String = String::new(),
        /// The Python that runs it: a name on the path, or a file relative to the config's folder.
        interpreter: String = "python3".to_owned(),
        /// Whether rows hold the drawing, the bytes of a PNG.
        png: bool = false,
        /// Rows of one call, at least 1.
        batch: usize = 32,
        /// Processes, at least 1.
        workers: usize = 1,
        /// Milliseconds, at least 1, that loading the file, and a call, may take; a process that overruns it is ended.
        timeout_ms: u64 = 60_000,
        /// How often a call that failed is made again.
        retries: u32 = 0,
        /// The value of a completion that could not be scored; absent: as `rubric.unscored` says.
        failure_value: Option<f64> = None,
    }
}

impl RewardFn for PythonReward {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        needs()
    }

    fn check(&self) -> Result<(), String> {
        let (file, _) = self.place().ok_or_else(|| {
            format!(
                "path: must be a file and a function of it, such as rewards/mine.py:score, got {:?}",
                self.path
            )
        })?;
        if file.is_absolute() && !file.is_file() {
            return Err(format!("path: {}: no such file", file.display()));
        }
        self.batching().check()
    }

    fn resolve_paths(&mut self, folder: &Path) {
        if let Some((file, function)) = self.place() {
            self.path = format!("{}:{function}", folder.join(file).display());
        }
        if self.interpreter.contains('/') {
            self.interpreter = folder.join(&self.interpreter).display().to_string();
        }
    }

    fn without_place(&mut self) {
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        self.path = name(&self.path);
        self.interpreter = name(&self.interpreter);
    }

    fn own(&self) -> Option<OwnSetup> {
        let (file, function) = self.place()?;
        Some(OwnSetup {
            kind: OwnKind::Python {
                interpreter: self.interpreter.clone(),
                file,
                function: function.to_owned(),
            },
            batching: self.batching(),
        })
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        ask(cx, self.png, self.failure_value)
    }
}

impl PythonReward {
    /// The file and the function.
    fn place(&self) -> Option<(PathBuf, &str)> {
        let (file, function) = self.path.rsplit_once(':')?;
        let said = !file.is_empty() && !function.is_empty() && !function.contains('/');
        said.then(|| (PathBuf::from(file), function))
    }

    fn batching(&self) -> Batching {
        Batching {
            batch: self.batch,
            connections: self.workers,
            timeout_ms: self.timeout_ms,
            retries: self.retries,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_file_and_a_function() {
        let of = |path: &str| PythonReward {
            path: path.into(),
            ..PythonReward::default()
        };
        let mut mine = of("rewards/mine.py:score");
        assert_eq!(mine.check(), Ok(()));
        mine.resolve_paths(Path::new("/nowhere"));
        assert_eq!(mine.path, "/nowhere/rewards/mine.py:score");
        assert!(mine.check().unwrap_err().contains("no such file"));
        mine.without_place();
        assert_eq!(mine.path, "mine.py:score");
        for wrong in ["", "mine.py", ":score", "mine.py:", "a:b/mine.py"] {
            let said = of(wrong).check().unwrap_err();
            assert!(said.starts_with("path: "), "{said}");
        }
    }
}
