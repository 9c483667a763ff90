//! Links of the documents.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::{pages, prose, root, text};

/// Targets of the links of a page.
fn links(page: &str) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let prose = prose(page);
    link.captures_iter(&prose)
        .map(|found| found[1].to_owned())
        .collect()
}

/// The places that a page's headings make, those of what it includes too.
fn places(path: &Path) -> HashSet<String> {
    let page = text(path);
    let mut found: HashSet<String> = headings(&page);
    let include = Regex::new(r"\{\{#include ([^}:]+)").unwrap();
    for included in include.captures_iter(&page) {
        found.extend(headings(&text(&path.parent().unwrap().join(&included[1]))));
    }
    found
}

fn headings(page: &str) -> HashSet<String> {
    let outside = page.split("```").step_by(2).flat_map(str::lines);
    let titles = outside.filter(|line| line.starts_with('#'));
    let place = |line: &str| {
        let title = line.trim_start_matches('#').trim();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || " _-".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    titles.map(place).collect()
}

#[test]
fn the_summary_has_every_page_once() {
    let docs = root().join("docs");
    let mut listed: Vec<PathBuf> = links(&text(&docs.join("SUMMARY.md")))
        .iter()
        .map(|link| docs.join(link))
        .collect();
    listed.sort();
    let there: Vec<PathBuf> = pages(&docs)
        .into_iter()
        .filter(|path| !path.ends_with("SUMMARY.md"))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut documents = pages(&root().join("docs"));
    documents
        .extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    let mut count = 0;
    for page in documents {
        for link in links(&text(&page)) {
            if link.starts_with("https://") {
                continue;
            }
            count += 1;
            let (name, place) = link.split_once('#').unwrap_or((&link, ""));
            let target = match name {
                "" => page.clone(),
                name => page.parent().unwrap().join(name),
            };
            assert!(target.exists(), "{}: {link} is not there", page.display());
            let known = place.is_empty() || places(&target).contains(place);
            assert!(known, "{}: {link}: no such heading", page.display());
        }
    }
    assert!(count > 150, "{count}");
}
