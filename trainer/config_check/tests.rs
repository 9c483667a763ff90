//! Every kind of mistake, with its sentence.

use indexmap::IndexMap;
use rollout::data::DataConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

/// A run.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Name of the run.
    name: String,
    /// Optional bound, in seconds.
    deadline_s: Option<f64>,
    /// Where examples come from.
    data: DataConfig,
    /// What runs.
    stages: Vec<Stage>,
    /// Ways of speaking.
    tone: Option<Tone>,
    /// Anything of yours.
    labels: IndexMap<String, u32>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "algorithm", rename_all = "snake_case")]
enum Stage {
    /// Imitation.
    Sft(Sft),
    /// Reinforcement.
    Grpo(Grpo),
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Sft {
    /// Name of the stage.
    name: String,
    /// Steps to make; >= 1.
    steps: u64,
}

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Grpo {
    /// Name of the stage.
    name: String,
    /// How completions are drawn.
    rollout: Rollout,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Rollout {
    /// Completions of one prompt; >= 2 | siblings are compared.
    group_size: usize,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { group_size: 8 }
    }
}

/// How it speaks.
#[derive(Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Tone {
    /// No adjectives.
    Plain,
    /// All of them.
    Ornate,
}

const GOOD: &str = "
name: run
deadline_s: 1e-1
data:
  sources:
    shapes: {format: shapes, count: 10}
stages:
  - {name: sft, algorithm: sft, steps: 3}
  - name: rl
    algorithm: grpo
    rollout:
      group_size: 4
";

fn problems(text: &str, sets: &[&str]) -> Vec<String> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    match parse::<Config>(text, "run.yaml", &sets).unwrap_err() {
        ConfigError::Invalid { problems } => problems,
        other => vec![other.to_string()],
    }
}

fn loaded(sets: &[&str]) -> Loaded<Config> {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    parse(GOOD, "run.yaml", &sets).unwrap()
}

#[test]
fn a_good_file_loads_with_what_was_given() {
    let loaded = loaded(&[]);
    assert_eq!(loaded.config.deadline_s, Some(0.1));
    assert!(matches!(&loaded.config.stages[0], Stage::Sft(sft) if sft.steps == 3));
    assert!(matches!(&loaded.config.stages[1], Stage::Grpo(g) if g.rollout.group_size == 4));
    assert_eq!(loaded.given["stages"][0]["steps"], 3);
    assert_eq!(loaded.given.get("labels"), None);
    assert!(parse::<Config>("", "empty.yaml", &[]).is_ok());
}

#[test]
fn an_unknown_key_gets_line_path_and_nearest_key() {
    let text = GOOD.replace("group_size: 4", "group_sise: 4");
    assert_eq!(
        problems(&text, &[]),
        ["run.yaml:12: stages.1.rollout.group_sise: unknown key; did you mean `group_size`?"]
    );
    assert_eq!(
        problems("zzzzzz: 1", &[]),
        [
            "run.yaml:1: zzzzzz: unknown key; known here: name, deadline_s, data, stages, tone, labels"
        ]
    );
}

#[test]
fn wrong_types_and_bounds_are_named_all_at_once() {
    let text = "name: 5\ndeadline_s: soon\nstages: {}\nlabels:\n  a: -1\n  b: 1.5\ndata:\n";
    assert_eq!(
        problems(text, &[]),
        [
            "run.yaml:1: name: must be a string, got 5 (put it in quotes)",
            "run.yaml:2: deadline_s: must be a number, got \"soon\"",
            "run.yaml:3: stages: must be a list, got a mapping",
            "run.yaml:5: labels.a: must be >= 0, got -1",
            "run.yaml:6: labels.b: must be a whole number, got 1.5",
            "run.yaml:7: data: must be a mapping, got nothing (leave the key out for its default)",
        ]
    );
}

#[test]
fn tags_choose_the_branch_and_wrong_ones_are_refused() {
    let text = GOOD.replace("format: shapes", "format: shape");
    assert_eq!(
        problems(&text, &[]),
        ["run.yaml:6: data.sources.shapes.format: unknown value `shape`; did you mean `shapes`?"]
    );
    let text = GOOD.replace("count: 10", "path: x");
    assert_eq!(
        problems(&text, &[]).len(),
        1,
        "path is of jsonl, not of shapes"
    );
    assert_eq!(
        problems("stages:\n  - name: x", &[]),
        ["run.yaml:2: stages.0: `algorithm` is missing; it is one of `sft`, `grpo`"]
    );
    assert_eq!(
        problems("tone: plane", &[]),
        ["run.yaml:1: tone: unknown value `plane`; did you mean `plain`?"]
    );
}

#[test]
fn broken_yaml_names_its_line() {
    let found = problems("name: run\nstages: [a, b\n", &[]);
    assert!(
        found[0].starts_with("run.yaml:") && found[0].contains("not YAML"),
        "{found:?}"
    );
    assert_eq!(
        problems("name: a\nname: b\n", &[]),
        ["run.yaml:2: key `name` stands twice in this mapping"]
    );
    let two = problems("name: a\n---\nname: b\n", &[]);
    assert!(two[0].contains("second YAML document"), "{two:?}");
}

#[test]
fn a_missing_file_is_one_sentence() {
    let error = load::<Config>(Path::new("/nowhere/run.yaml"), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("cannot read the config /nowhere/run.yaml: ")
    );
}

#[test]
fn overrides_reach_elements_by_index_and_by_name() {
    let group_size = |set: &str| match &loaded(&[set]).config.stages[1] {
        Stage::Grpo(stage) => stage.rollout.group_size,
        Stage::Sft(_) => 0,
    };
    assert_eq!(group_size("stages.1.rollout.group_size=16"), 16);
    assert_eq!(group_size("stages.rl.rollout.group_size= 32"), 32);
    assert_eq!(group_size("stages.rl.rollout={group_size: 64}"), 64);
    assert_eq!(loaded(&["labels.new=7"]).config.labels["new"], 7);
    assert_eq!(loaded(&["tone=ornate"]).config.tone, Some(Tone::Ornate));
    assert_eq!(loaded(&["deadline_s=null"]).config.deadline_s, None);
}

#[test]
fn wrong_overrides_are_refused_with_the_nearest_key() {
    assert_eq!(
        problems(GOOD, &["stages.rl.rolout.group_size=2"]),
        [
            "--set stages.rl.rolout.group_size=2: stages.1.rolout: unknown key; did you mean `rollout`?"
        ]
    );
    assert_eq!(
        problems(GOOD, &["stages.slf.steps=2"]),
        ["--set stages.slf.steps=2: no list element `slf`; did you mean `sft`?"]
    );
    assert_eq!(
        problems(GOOD, &["stages.0.steps=many"]),
        ["--set stages.0.steps=many: stages.0.steps: must be a whole number, got \"many\""]
    );
    assert_eq!(
        problems(GOOD, &["seed"]),
        ["--set seed: expected KEY=VALUE"]
    );
    assert!(problems(GOOD, &["name.x=1"])[0].contains("inside a single value"));
}

#[test]
fn later_checks_find_the_place_of_a_key() {
    let document = loaded(&["stages.rl.rollout.group_size=1"]).document;
    let error = document.problem("stages.1.rollout.group_size", "must be >= 2, got 1");
    assert_eq!(
        error.to_string(),
        "--set stages.rl.rollout.group_size=1: stages.1.rollout.group_size: must be >= 2, got 1"
    );
    let error = loaded(&[])
        .document
        .problem("stages.0.steps", "must be >= 4, got 3");
    assert_eq!(
        error.to_string(),
        "run.yaml:8: stages.0.steps: must be >= 4, got 3"
    );
}

#[test]
fn the_reference_holds_every_key_with_default_and_meaning() {
    let text = reference_markdown::<Config>();
    for line in [
        "| `deadline_s` | number | none | Optional bound, in seconds. |",
        "| `group_size` | integer | `8` | Completions of one prompt; >= 2 \\| siblings are compared. |",
        "## stages.N (algorithm: grpo)",
        "## stages.N.rollout",
        "## data.sources.NAME (format: shapes)",
        "## data.sources.NAME.teacher_noise",
        "| `tone` | `plain` \\| `ornate` | none | Ways of speaking. `plain`: No adjectives. `ornate`: All of them. |",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
