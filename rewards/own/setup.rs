//! What a reward of the user's own is made of, and what it is given.

use crate::picture::Picture;
use crate::reference::{ImageSource, Reference};
use crate::types::ScoreJob;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Who is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct OwnSetup {
    pub kind: OwnKind,
    pub batching: Batching,
}

/// Who is asked.
#[derive(Clone, Debug)]
pub(crate) enum OwnKind {
    /// A service at an address.
    Http {
        url: String,
        /// Name of the environment variable that holds its key.
        key_env: Option<String>,
    },
    /// A function of a file, by an interpreter.
    Python {
        interpreter: String,
        file: PathBuf,
        function: String,
    },
    /// A command for the shell, in a folder.
    Command { run: String, folder: PathBuf },
}

/// How rows are gathered, and how long an answer may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batching {
    /// Rows in one question.
    pub batch: usize,
    /// Questions under way at the same time.
    pub connections: usize,
    /// Milliseconds to wait for an answer.
    pub timeout_ms: u64,
    /// How often a question that failed is asked again.
    pub retries: u32,
}

impl Batching {
    /// The first value out of bounds, as `key: rule`.
    pub fn check(&self) -> Result<(), String> {
        match self.batch == 0 || self.connections == 0 || self.timeout_ms == 0 {
            true => Err("batch, connections, workers, timeout_ms: must be >= 1".into()),
            false => Ok(()),
        }
    }
}

/// A completion as it goes out.
pub(crate) struct OwnRow<'a> {
    pub job: &'a ScoreJob,
    /// What was taken out of the completion, where that is an SVG.
    pub svg: Option<&'a str>,
    /// The drawing, where it is asked for.
    pub drawing: Option<&'a Picture>,
}

impl OwnRow<'_> {
    /// The row. One that goes to another machine holds its reference's picture instead of a path.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn json(&self, portable: bool) -> Result<Value, String> {
        let mut reference: Reference = (*self.job.reference).clone();
        if let (true, Some(image)) = (portable, &mut reference.image) {
            let bytes = image.read().map_err(|e| format!("reference.image: {e}"))?;
            *image = ImageSource::Png(bytes);
        }
        let mut row = json!({
            "id": self.job.id,
            "task": self.job.task,
            "step": self.job.step,
            "prompt": &*self.job.prompt,
            "completion": self.job.candidate.text,
            "svg": self.svg,
            "reference": reference,
            "truncated": self.job.candidate.truncated,
        });
        if let Some(drawing) = self.drawing {
            row["png"] = STANDARD.encode(drawing.to_png()).into();
        }
        Ok(row)
    }
}
