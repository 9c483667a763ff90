//! A function of the user's own Python, in a process that loads it once: a batch is a line of JSON each way.

use super::answers::of_batch;
use super::process::{LineRead, PipedProcess};
use super::setup::Batching;
use crate::error::RewardError;
use crate::scores::Verdict;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const WORKER: &str = include_str!("worker.py");

/// The way to a function.
pub(super) struct PythonLink {
    interpreter: String,
    function: String,
    file: PathBuf,
    timeout: Duration,
    /// None after a batch that it did not survive.
    process: Option<PipedProcess>,
}

impl PythonLink {
    /// Loads the function.
    ///
    /// # Errors
    /// Why it cannot be loaded, as `key: why`.
    pub fn open(
        [interpreter, function]: [&str; 2],
        file: &Path,
        how: Batching,
    ) -> Result<Self, RewardError> {
        let mut link = PythonLink {
            interpreter: interpreter.to_owned(),
            function: function.to_owned(),
            file: file.to_owned(),
            timeout: Duration::from_millis(how.timeout_ms),
            process: None,
        };
        link.process = Some(link.load().map_err(RewardError::Config)?);
        Ok(link)
    }

    fn load(&self) -> Result<PipedProcess, String> {
        let place = format!("path: {}:{}", self.file.display(), self.function);
        let mut command = Command::new(&self.interpreter);
        command
            .arg("-c")
            .arg(WORKER)
            .arg(&self.file)
            .arg(&self.function);
        let process = PipedProcess::start(command)
            .map_err(|error| format!("interpreter: {}: {error}", self.interpreter))?;
        let why = match process.read_by(Instant::now() + self.timeout) {
            LineRead::Line(line) => match serde_json::from_str::<Value>(&line) {
                Ok(said) if said["ready"] == true => return Ok(process),
                Ok(said) => said["error"].as_str().unwrap_or(&line).to_owned(),
                Err(_) => line,
            },
            LineRead::End => "the interpreter ended (its standard error says why)".to_owned(),
            LineRead::Late => "was not loaded within timeout_ms".to_owned(),
        };
        Err(format!("{place}: {why}"))
    }

    pub fn ask(&mut self, rows: &[Value]) -> Result<Vec<Verdict>, String> {
        let process = match self.process.take() {
            Some(process) => process,
            None => self.load()?,
        };
        process.write(Value::from(rows).to_string());
        let said = |why: String| format!("{}:{}: {why}", self.file.display(), self.function);
        match process.read_by(Instant::now() + self.timeout) {
            LineRead::Line(line) => {
                // It lives on; a process that is late or gone is replaced by the next batch.
                self.process = Some(process);
                let value: Value = serde_json::from_str(&line).map_err(|e| e.to_string())?;
                of_batch(&value, rows.len()).map_err(said)
            }
            LineRead::End => Err(said(
                "the process ended (its standard error says why)".into(),
            )),
            LineRead::Late => {
                let ms = self.timeout.as_millis();
                Err(said(format!("no answer within timeout_ms ({ms})")))
            }
        }
    }
}
