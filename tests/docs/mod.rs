//! The book in docs/: its pages are in the summary, its links lead somewhere, what it says of rewards and messages is so, and
//! blocks marked `sh run` are run as they stand.

mod links;
mod messages;
mod rewards;
mod running;

use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Markdown files of a folder and those below, in order.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(pages(&path)),
            false if path.extension().is_some_and(|ending| ending == "md") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A text without its blocks of code and its words in backticks.
fn prose(text: &str) -> String {
    let outside = text.split("```").step_by(2);
    let joined: String = outside.collect();
    // A name in backticks may be a link's words, so the backticks alone go.
    joined.replace('`', "")
}
