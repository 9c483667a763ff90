//! `svgrl watch`: a run in the terminal.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use super::CliFailure;
use crate::watch::{WatchedRun, draw};

/// `svgrl watch`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  svgrl watch runs/quickstart
Reads the run folder alone: it may be started and ended at any time, also for a run on another machine whose folder is
shared.")]
pub struct Args {
    /// The run folder.
    run: PathBuf,
    /// Seconds between looks at its files.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    every: f64,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<(), CliFailure> {
    let every = Duration::try_from_secs_f64(args.every.max(0.1)).map_err(|_| {
        CliFailure::input(format!(
            "--every: must be a number of seconds, got {}",
            args.every
        ))
    })?;
    let mut watched = WatchedRun::of(&args.run).map_err(CliFailure::input)?;
    if !std::io::stdout().is_terminal() {
        return Err(CliFailure::input(
            "standard output is no terminal (svgrl report writes a file, svgrl report --serve a page that follows)",
        ));
    }
    let mut terminal = ratatui::try_init().map_err(CliFailure::other)?;
    let seen = loop {
        if let Err(error) = terminal.draw(|frame| draw(&watched, frame)) {
            break Err(error);
        }
        match event::poll(every).and_then(|ready| ready.then(event::read).transpose()) {
            Ok(Some(event)) if ends(&event) => break Ok(()),
            Ok(_) => watched.refresh(),
            Err(error) => break Err(error),
        }
    };
    ratatui::restore();
    seen.map_err(CliFailure::other)
}

/// `q`, Escape and Ctrl-C end the view.
fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    let interrupted =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && (interrupted || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}
