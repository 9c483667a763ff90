//! The reference and schema that come from the config's types, and the configs that are shipped.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;

use crate::cli::program::svgrl;

fn configs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/configs"))
}

/// What `command` prints stands in `configs/name`; `SVGRL_BLESS=1` rewrites the file.
fn stands_in(name: &str, command: &str) -> String {
    let path = configs().join(name);
    let now = svgrl(command, &[]).fine().out;
    if std::env::var_os("SVGRL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &now).unwrap();
    }
    let saved = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        saved == now,
        "configs/{name} is out of date; rewrite it with SVGRL_BLESS=1 cargo test reference"
    );
    now
}

#[test]
fn the_reference_is_up_to_date() {
    let now = stands_in("REFERENCE.md", "reference");
    for key in [
        "group_size",
        "teacher_noise",
        "on_bad_row",
        "keep_every",
        "failure_value",
        "std_of",
    ] {
        assert!(now.contains(&format!("| `{key}` |")), "{key}");
    }
}

/// A table stands once, and every link leads to a heading.
#[test]
fn the_reference_shares_its_tables() {
    let text = svgrl("reference", &[]).fine().out;
    let tables = text.split("\n## ").skip(1).map(|part| {
        let rows = part.lines().filter(|line| line.starts_with("| `"));
        rows.collect::<Vec<_>>().join("\n")
    });
    let mut seen = HashSet::new();
    for table in tables.filter(|table| table.lines().count() > 2) {
        assert!(seen.insert(table.clone()), "twice:\n{table}");
    }
    let key = text.matches("| `media_root` |").count();
    assert_eq!(key, 1, "keys of sources");
    assert_eq!(text.matches("| `learning_rate` |").count(), 1);

    let anchor = |heading: &str| {
        let kept = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || " _-".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let headings: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(anchor)
        .collect();
    let unique: HashSet<&String> = headings.iter().collect();
    assert_eq!(unique.len(), headings.len(), "headings of the same anchor");
    let links: Vec<&str> = text
        .split("](#")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    assert!(links.len() > 50, "{}", links.len());
    for link in links {
        assert!(headings.iter().any(|heading| heading == link), "#{link}");
    }
}

/// The line by which editors find the schema; every config has it, and the schema stands beside.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=svgrl.schema.json\n";

#[test]
fn the_schema_is_json_and_knows_every_section() {
    let schema: Value = serde_json::from_str(&stands_in("svgrl.schema.json", "schema")).unwrap();
    // A config over a base says only what it changes.
    assert!(!schema.to_string().contains("\"required\":["), "required");
    for section in [
        "name", "seed", "device", "dtype", "model", "data", "rewards", "tasks", "stages",
    ] {
        assert!(schema["properties"].get(section).is_some(), "{section}");
    }
    assert_eq!(schema["additionalProperties"], Value::Bool(false));
}

#[test]
fn every_shipped_config_is_valid() {
    let (mut seen, mut systems) = (0, 0);
    for entry in std::fs::read_dir(configs()).unwrap().flatten() {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let told = svgrl("check", &[&path]);
            // The published systems' models are not here; what is wrong besides would be told first.
            let away =
                told.err.contains("model.path: models/") && told.err.contains("is not there");
            assert!(
                away || told.code == 0 && told.out.contains("valid"),
                "{told:?}"
            );
            systems += usize::from(away);
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(
                text.strip_prefix(SCHEMA_LINE)
                    .is_some_and(|rest| rest.starts_with("# ")),
                "{} does not open with its schema, task, hardware and expected result",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > systems && systems == 7, "{systems} of {seen}");
}
