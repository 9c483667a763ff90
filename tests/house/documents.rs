//! Documents for people name files that are there.

use regex::Regex;

use super::sources::root;

const DOCUMENTS: [&str; 4] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
];

/// Paths that a text names in backticks or as links: those that begin with a folder of the project and
/// hold no word in capitals, which stands for a name yet to be given.
fn named(text: &str) -> Vec<String> {
    let path = Regex::new(r"`([\w./-]+/[\w./-]*)`|\]\(([\w./-]+)\)").unwrap();
    let capitals = Regex::new(r"\b[A-Z]+\b").unwrap();
    path.captures_iter(text)
        .filter_map(|found| Some(found.get(1).or(found.get(2))?.as_str().to_owned()))
        .filter(|path| {
            let first = path.split('/').next().unwrap_or_default();
            let stem = path.trim_end_matches(".md");
            root().join(first).exists() && !capitals.is_match(stem) || path == "LICENSE"
        })
        .collect()
}

#[test]
fn files_that_documents_name_are_there() {
    let mut count = 0;
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for path in named(&text) {
            assert!(root().join(&path).exists(), "{document} names {path}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
fn names_yet_to_be_given_are_passed_over() {
    let text = "`rewards/NAME.rs`, `rewards/lib.rs`, [a](svg/lib.rs), `a/b`, `cargo test`";
    assert_eq!(named(text), ["rewards/lib.rs", "svg/lib.rs"]);
}
