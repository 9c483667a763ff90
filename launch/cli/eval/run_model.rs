//! The model of a run: the best checkpoint of its last stage, or its final one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::CliFailure;

/// The folder of the checkpoint.
///
/// # Errors
/// What is no run folder, and a run that has not come to an end yet.
pub fn checkpoint(run: &Path) -> Result<PathBuf, CliFailure> {
    let wrong = |what: String| CliFailure::input(format!("--run {}: {what}", run.display()));
    let path = run.join("config.resolved.yaml");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| wrong(format!("is no run folder: config.resolved.yaml: {error}")))?;
    let config: Value = serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let stages = config["stages"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = stages
        .iter()
        .filter_map(|stage| stage["name"].as_str())
        .collect();
    for name in names.iter().rev() {
        for kind in ["best", "final"] {
            let folder = run.join("checkpoints").join(name).join(kind);
            if folder.join("config.json").exists() {
                return Ok(folder);
            }
        }
    }
    Err(wrong(format!(
        "none of its stages ({}) has a best or final checkpoint; --model takes any checkpoint's folder",
        names.join(", ")
    )))
}
