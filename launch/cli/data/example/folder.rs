//! The folder that an example is written to.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::super::CliFailure;

/// A folder of its own, and the seed of what is random in it.
pub struct ExampleFolder {
    path: PathBuf,
    /// Seed of drawings and weights.
    pub seed: u64,
}

impl ExampleFolder {
    /// Makes it.
    ///
    /// # Errors
    /// A folder that holds something; whatever the file system says.
    pub fn create(path: &Path, seed: u64) -> Result<Self, CliFailure> {
        let filled = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if filled {
            return Err(CliFailure::input(format!(
                "--out {}: is not empty; an example gets a folder of its own",
                path.display()
            )));
        }
        fs::create_dir_all(path)
            .map_err(|error| CliFailure::input(format!("--out {}: {error}", path.display())))?;
        Ok(Self {
            path: path.to_owned(),
            seed,
        })
    }

    /// Where `name` is.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, with the folders above it.
    pub fn bytes(&self, name: &str, bytes: &[u8]) -> Result<(), CliFailure> {
        let path = self.join(name);
        let above = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(above)
            .and_then(|()| fs::write(&path, bytes))
            .map_err(|error| CliFailure::other(format!("{}: {error}", path.display())))
    }

    /// Writes a text.
    pub fn text(&self, name: &str, text: &str) -> Result<(), CliFailure> {
        self.bytes(name, text.as_bytes())
    }

    /// Writes a JSON document.
    pub fn json(&self, name: &str, value: &Value) -> Result<(), CliFailure> {
        let text = serde_json::to_string_pretty(value).map_err(CliFailure::other)?;
        self.text(name, &(text + "\n"))
    }

    /// Writes rows, one a line.
    pub fn lines(&self, name: &str, rows: &[Value]) -> Result<(), CliFailure> {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        self.text(name, &(lines.join("\n") + "\n"))
    }
}
