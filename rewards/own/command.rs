//! A command that scores: started for each batch, rows on its standard input, one a line, and an answer a line on its
//! standard output, in the same order.

use super::answers::of_row;
use super::process::{LineRead, PipedProcess};
use super::setup::Batching;
use crate::scores::Verdict;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The way to a command.
pub(super) struct CommandLink {
    run: String,
    folder: PathBuf,
    timeout_ms: u64,
}

impl CommandLink {
    pub fn new(run: &str, folder: &Path, how: Batching) -> Self {
        CommandLink {
            run: run.to_owned(),
            folder: folder.to_owned(),
            timeout_ms: how.timeout_ms,
        }
    }

    pub fn ask(&self, rows: &[Value]) -> Result<Vec<Verdict>, String> {
        let said = |why: String| format!("`{}`: {why}", self.run);
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.run).current_dir(&self.folder);
        let mut process = PipedProcess::start(command).map_err(|e| said(e.to_string()))?;
        rows.iter().for_each(|row| process.write(row.to_string()));
        process.close_input();
        let deadline = Instant::now() + Duration::from_millis(self.timeout_ms);
        let mut lines = Vec::new();
        loop {
            match process.read_by(deadline) {
                LineRead::Line(line) if line.trim().is_empty() => {}
                LineRead::Line(line) => lines.push(line),
                LineRead::End => break,
                LineRead::Late => {
                    let ms = self.timeout_ms;
                    return Err(said(format!("no answer within timeout_ms ({ms})")));
                }
            }
        }
        let status = process.end().map_err(|e| said(e.to_string()))?;
        if !status.success() {
            return Err(said(format!("{status} (its standard error says why)")));
        }
        if lines.len() != rows.len() {
            let (asked, answered) = (rows.len(), lines.len());
            return Err(said(format!(
                "{asked} rows went in, {answered} lines came out"
            )));
        }
        let answer = |line: &String| match serde_json::from_str(line) {
            Ok(value) => of_row(&value),
            Err(error) => Err(said(format!("{line:?} is not JSON: {error}")).into()),
        };
        Ok(lines.iter().map(answer).collect())
    }
}
