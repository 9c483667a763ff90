//! The systems' pages: every svgrl line in them is one that the program takes. The lines about twins are run by the twins'
//! own tests; the others end at once, because the models that they name are not here.

use std::path::{Path, PathBuf};

use crate::cli::program::{program, scratch, told};

const SYSTEMS: [&str; 5] = ["ctrl-s", "vectorgym", "sgp-gen", "internsvg", "introsvg"];

/// The benchmarks that twins are judged by.
const BENCHMARKS: [(&str, &str); 4] = [
    ("ctrl-s", "sophia-refine"),
    ("vectorgym", "vectorgym"),
    ("sgp-gen", "sgp-genbench"),
    ("internsvg", "sarena-icon"),
];

fn pages() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/systems");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// The lines of a page's shell blocks.
fn commands(page: &str) -> Vec<&str> {
    let blocks = page.split("```sh\n").skip(1);
    let lines = blocks
        .filter_map(|block| block.split("```").next())
        .flat_map(str::lines);
    // Without what is said of them.
    let bare = lines.map(|line| line.split("  #").next().unwrap_or(line).trim_end());
    bare.filter(|line| line.starts_with("svgrl ")).collect()
}

/// Runs `line` where nothing that it names is; it must be a command that the program knows.
fn is_taken(line: &str, folder: &Path, page: &Path) {
    let words = line.split_whitespace().skip(1);
    let said = told(program().args(words).current_dir(folder));
    let page = page.display();
    assert!(!said.err.contains("Usage:"), "{page}: {line}: {}", said.err);
    assert_eq!(said.code, 2, "{page}: {line}: {}", said.err);
}

#[test]
fn every_line_about_starting_a_run_is_taken() {
    let folder = scratch("launching_page");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/launching.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let lines = commands(&text);
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        // Eight ranks would say the same as two.
        is_taken(&line.replace(" 8", " 2"), &folder, &page);
    }
}

#[test]
fn every_line_of_the_systems_pages_is_taken() {
    let folder = scratch("systems_pages");
    let mut twins = Vec::new();
    let mut count = 0;
    for (path, page) in pages() {
        for line in commands(&page) {
            count += 1;
            if line.contains("-tiny") {
                twins.push(line.to_owned());
                continue;
            }
            is_taken(line, &folder, &path);
        }
    }
    assert!(count >= 20, "{count}");
    // What the twins' tests run.
    let made = SYSTEMS.iter().flat_map(|system| {
        [
            format!("svgrl data example {system} --out {system}-tiny"),
            format!("svgrl train {system}-tiny/config.yaml"),
        ]
    });
    let judged = BENCHMARKS.iter().map(|(system, suite)| {
        let run = system.replace('-', "_");
        format!("svgrl eval {suite} --config {system}-tiny/suite.yaml --run runs/{run} --out {system}-tiny/scores")
    });
    for line in made.chain(judged) {
        let at = twins.iter().position(|twin| *twin == line);
        twins.swap_remove(at.unwrap_or_else(|| panic!("no page says `{line}`")));
    }
    assert!(twins.is_empty(), "{twins:?}");
}

#[test]
fn a_page_fits_a_screen() {
    for (path, page) in pages() {
        let lines = page.lines().count();
        assert!(lines <= 60, "{}: {lines} lines", path.display());
    }
}
