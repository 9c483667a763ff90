//! `svgrl export`: a run's metrics, and its newest samples as tables, replayed into another experiment tracker, by the small script in
//! `launch/clients/export_run.py` and the tracker's own Python package.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::CliFailure;

const SCRIPT: &str = include_str!("../clients/export_run.py");

/// `svgrl export`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl export wandb runs/quickstart
  svgrl export mlflow runs/quickstart --project drawings
  svgrl export trackio runs/quickstart --python .venv/bin/python
Nothing is sent anywhere by itself: W&B writes an offline run (`wandb sync` sends it; WANDB_MODE=online does both),
MLflow a database in the run folder (MLFLOW_TRACKING_URI names another place), Trackio its local database. Every call
makes a run of its own there. The newest samples go along as tables, up to 100 rows each: those of each stage's training
and of each set's last evaluation.")]
pub struct Args {
    /// The tracker.
    tracker: Tracker,
    /// The run folder.
    run: PathBuf,
    /// The project (MLflow: the experiment) that it goes to.
    #[arg(long, value_name = "NAME", default_value = "svgrl")]
    project: String,
    /// A Python with the tracker's package.
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: String,
}

/// What runs are replayed into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tracker {
    /// Weights & Biases.
    Wandb,
    /// MLflow.
    Mlflow,
    /// Trackio.
    Trackio,
}

impl Tracker {
    fn name(self) -> &'static str {
        match self {
            Tracker::Wandb => "wandb",
            Tracker::Mlflow => "mlflow",
            Tracker::Trackio => "trackio",
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliFailure> {
    let told = replay(args.tracker, &args.run, &args.project, &args.python)?;
    println!("{told}");
    Ok(())
}

/// Replays a run; what the script says of it.
///
/// # Errors
/// A folder that is no run, a Python that is not there or lacks the package.
pub fn replay(
    tracker: Tracker,
    run: &Path,
    project: &str,
    python: &str,
) -> Result<String, CliFailure> {
    let run = std::fs::canonicalize(run)
        .map_err(|error| CliFailure::input(format!("{}: {error}", run.display())))?;
    if !run.join("metrics.jsonl").is_file() {
        return Err(CliFailure::input(format!(
            "{} is no run folder: it has no metrics.jsonl",
            run.display()
        )));
    }
    let text = std::fs::read_to_string(run.join("config.resolved.yaml")).unwrap_or_default();
    let config: Value = serde_saphyr::from_str(&text).unwrap_or_default();
    let asked = json!({
        "tracker": tracker.name(),
        "run": run,
        "name": run.file_name().unwrap_or_default().to_string_lossy(),
        "project": project,
        "config": config,
    });
    let started = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| {
        CliFailure::input(format!(
            "--python {python}: {error} (a Python with the package `{}`)",
            tracker.name()
        ))
    })?;
    if let Some(mut input) = child.stdin.take() {
        // A script that has ended already says why.
        let _ = input.write_all(asked.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(CliFailure::other)?;
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        let said = words(&output.stderr);
        let last = said
            .lines()
            .next_back()
            .unwrap_or("the script failed")
            .to_owned();
        return Err(match said.contains("has no package") {
            true => CliFailure::input(last),
            false => CliFailure::other(format!("{}: {said}", tracker.name())),
        });
    }
    let said = words(&output.stdout);
    // Trackers talk as well; the script's own line is the last.
    Ok(said.lines().next_back().unwrap_or_default().to_owned())
}
