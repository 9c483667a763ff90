//! The messages that the page on troubleshooting explains are the program's.

use std::path::Path;

use super::{root, text};

/// What the loader of the system says, not this program.
const FOREIGN: [&str; 1] = ["error while loading shared libraries: libtorch_cpu.so"];

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, all);
        } else if path
            .extension()
            .is_some_and(|ending| ending == "rs" || ending == "py")
        {
            // A string may go on in the next line.
            let joined = text(&path)
                .lines()
                .map(str::trim_start)
                .collect::<Vec<_>>()
                .join("\n");
            all.push_str(&joined.replace("\\\n", ""));
        }
    }
}

#[test]
fn explained_messages_are_the_programs_own() {
    let mut all = String::new();
    for folder in [
        "launch",
        "trainer",
        "rollout",
        "rewards",
        "svg",
        "models",
        "torch-ext",
    ] {
        sources(&root().join(folder), &mut all);
    }
    let page = text(&root().join("docs/troubleshooting.md"));
    // A message opens its paragraph.
    let paragraphs = page.split("\n\n");
    let messages = paragraphs.filter_map(|words| words.strip_prefix('`')?.split('`').next());
    let mut count = 0;
    for message in messages.filter(|message| !FOREIGN.contains(message)) {
        count += 1;
        for piece in message
            .split("..")
            .map(str::trim)
            .filter(|piece| piece.len() > 3)
        {
            assert!(all.contains(piece), "`{message}`: nothing says `{piece}`");
        }
    }
    assert!(count >= 18, "{count}");
}

#[test]
fn every_explained_reason_is_one() {
    let page = text(&root().join("docs/troubleshooting.md"));
    let known = text(&root().join("svg/failure.rs"));
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let named = rows.flat_map(|row| {
        row.split('|')
            .nth(1)
            .unwrap_or_default()
            .split('`')
            .skip(1)
            .step_by(2)
    });
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 12, "{named:?}");
    for reason in named {
        assert!(known.contains(&format!("\"{reason}\"")), "{reason}");
    }
}
