//! The reference and schema that come from the config's types, and the configs that are shipped.

use std::path::Path;

use serde_json::Value;

use crate::cli::program::svgrl;

fn configs() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/configs"))
}

/// `SVGRL_BLESS=1` rewrites the file.
#[test]
fn the_reference_is_up_to_date() {
    let path = configs().join("REFERENCE.md");
    let now = svgrl("reference", &[]).fine().out;
    if std::env::var_os("SVGRL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &now).unwrap();
    }
    let saved = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        saved == now,
        "configs/REFERENCE.md is out of date; rewrite it with SVGRL_BLESS=1 cargo test reference"
    );
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

#[test]
fn the_schema_is_json_and_knows_every_section() {
    let schema: Value = serde_json::from_str(&svgrl("schema", &[]).fine().out).unwrap();
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
                text.starts_with('#'),
                "{} does not open with its task, hardware and expected result",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > systems && systems == 7, "{systems} of {seen}");
}
