//! The rewards' pages: one for each reward, with an example that is valid and tests that are there.

use regex::Regex;
use serde_json::Value;

use super::{pages, root, text};
use crate::cli::program::{scratch, svgrl, write};

const CONFIG: &str = "\
base: CONFIGS/quickstart.yaml
encoders: {dino: {path: none}, clip: {path: none}, lpips: {path: none}, dists: {path: none}, dreamsim: {path: none}, bge: {path: none}}
tasks:
  draw:
    completion: {format: FORMAT}
    rubric:
      rewards:
        REWARD
";

/// The types of rewards by the config's schema.
fn types() -> Vec<String> {
    let schema: Value = serde_json::from_str(&svgrl("schema", &[]).fine().out).unwrap();
    let kinds = schema["$defs"]["RewardConfig"]["anyOf"].as_array().unwrap();
    let names = kinds
        .iter()
        .filter_map(|kind| kind["properties"]["type"]["const"].as_str());
    names.map(str::to_owned).collect()
}

#[test]
fn every_reward_has_a_page_with_formula_source_and_parity() {
    let folder = root().join("docs/rewards");
    let mut types = types();
    types.sort();
    let names = pages(&folder)
        .into_iter()
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name != "README").collect();
    names.sort();
    assert_eq!(names, types);
    let overview = text(&folder.join("README.md"));
    for name in names {
        let page = text(&folder.join(format!("{name}.md")));
        for part in ["## Formula", "## Source", "## Parity"] {
            assert!(page.contains(part), "{name} has no {part}");
        }
        assert!(
            overview.contains(&format!("]({name}.md)")),
            "{name} is not in the overview"
        );
    }
}

#[test]
fn tests_that_pages_name_are_in_the_files_that_they_name() {
    let named = Regex::new(r"`([\w./]+)`").unwrap();
    for path in pages(&root().join("docs/rewards")) {
        let page = text(&path);
        let Some((_, parity)) = page.split_once("## Parity") else {
            continue;
        };
        let parity = parity.split("\nAll keys:").next().unwrap_or_default();
        let words: Vec<&str> = named
            .captures_iter(parity)
            .map(|found| found.get(1).unwrap().as_str())
            .collect();
        let files: String = words
            .iter()
            .filter(|word| word.ends_with(".rs"))
            .map(|word| text(&root().join(word)))
            .collect();
        assert!(
            files.contains("#[test]"),
            "{} names no tests",
            path.display()
        );
        for test in words
            .iter()
            .filter(|word| word.contains('_') && !word.contains(['/', '.']))
        {
            assert!(
                files.contains(&format!("fn {test}()")),
                "{}: no test {test}",
                path.display()
            );
        }
    }
}

#[test]
fn every_example_is_valid() {
    let folder = scratch("reward_pages");
    let configs = root().join("configs");
    for path in pages(&root().join("docs/rewards")) {
        let page = text(&path);
        let Some(example) = page
            .split("```yaml\n")
            .nth(1)
            .and_then(|rest| rest.split("\n```").next())
        else {
            continue;
        };
        let format = match page.contains("format `text`") {
            true => "text",
            false => "svg",
        };
        let config = CONFIG
            .replace("CONFIGS", &configs.display().to_string())
            .replace("FORMAT", format)
            .replace("REWARD", example);
        write(
            &folder,
            "rewards.py",
            "def score(rows):\n    return [0 for row in rows]\n",
        );
        let told = svgrl("check", &[&write(&folder, "config.yaml", &config)]);
        assert_eq!(told.code, 0, "{}: {}", path.display(), told.err);
    }
}
