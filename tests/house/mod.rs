//! The shape of the project's sources: files that stay readable, and uses that lead one way.

mod circles;
mod documents;
mod names;
mod sources;

use circles::{circles, told, uses};
use sources::{CRATES, sources};

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut text = String::new();
    for folder in CRATES {
        let uses = uses(folder, &sources(folder));
        let found = circles(&uses);
        text.extend(found.iter().map(|circle| told(circle, &uses)));
    }
    assert!(text.is_empty(), "\n{text}");
}

#[test]
fn a_type_s_name_has_one_meaning() {
    let sources: Vec<_> = CRATES.iter().flat_map(|folder| sources(folder)).collect();
    let twice = names::declared_twice(sources.iter());
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut lines = Vec::new();
    for folder in CRATES.into_iter().chain(["tests"]) {
        for source in sources(folder) {
            let count = source.text.lines().count();
            let first = source.text.lines().next().unwrap_or_default();
            assert!(
                first.starts_with("//! "),
                "{} opens with: {first}",
                source.path
            );
            let most = if source.path == "trainer/grpo/step.rs" {
                149
            } else {
                500
            };
            assert!(count <= most, "{} has {count} lines", source.path);
            lines.push(count);
        }
    }
    lines.sort_unstable();
    let median = lines[lines.len() / 2];
    assert!(
        median < 150,
        "half of {} files have more than {median} lines",
        lines.len()
    );
}
