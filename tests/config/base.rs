//! A config that is written over another one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::program::{Told, program, scratch, svgrl, told, write};
use crate::cli::tiny;

/// The tiny config in `folder`/below, and `text` over it in `folder`/above.
fn layered(name: &str, text: &str) -> (PathBuf, PathBuf) {
    let folder = scratch(name);
    for inner in ["below", "above"] {
        std::fs::create_dir(folder.join(inner)).unwrap();
    }
    let base = tiny::config(&folder.join("below"));
    let own = format!("base: ../below/tiny.yaml\n{text}");
    (base, write(&folder.join("above"), "own.yaml", &own))
}

fn dry(config: &Path, set: &[&str]) -> Told {
    let set = set.iter().flat_map(|set| ["--set", set]);
    told(
        program()
            .arg("train")
            .arg(config)
            .arg("--dry-run")
            .args(set),
    )
}

/// The resolved config that a dry run prints.
fn resolved(config: &Path, set: &[&str]) -> Value {
    let out = dry(config, set).fine().out;
    let yaml = out.split("\nplan\n").next().unwrap();
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn sections_merge_lists_replace_and_stages_are_found_by_name() {
    let (base, own) = layered(
        "base_merge",
        "seed: 9\n\
         data: {sources: {drawings: {held_out: 3}}}\n\
         tasks: {draw: {rubric: {rewards: [{type: mse}]}}}\n\
         stages:\n\
         - {name: rl, optimizer: {schedule: {type: step, every: 2, factor: 0.7}}}\n",
    );
    let (before, now) = (resolved(&base, &[]), resolved(&own, &[]));
    assert_eq!((&before["seed"], &now["seed"]), (&3.into(), &9.into()));
    assert_eq!(now["name"], "tiny");
    assert!(now.get("base").is_none());
    let source = &now["data"]["sources"]["drawings"];
    assert_eq!(source["held_out"], 3);
    let real = |path: &Value| std::fs::canonicalize(path.as_str().unwrap()).unwrap();
    let path = &before["data"]["sources"]["drawings"]["path"];
    assert_eq!(real(&source["path"]), real(path));
    let rewards = &now["tasks"]["draw"]["rubric"]["rewards"];
    assert_eq!(rewards.as_array().unwrap().len(), 1);
    assert_eq!(rewards[0]["type"], "mse");
    assert_eq!(now["tasks"]["draw"]["render"]["size"], 32);
    assert_eq!(now["stages"][0], before["stages"][0]);
    let (rl, was) = (&now["stages"][1], &before["stages"][1]);
    assert_eq!(
        rl["optimizer"]["learning_rate"],
        was["optimizer"]["learning_rate"]
    );
    assert_eq!(rl["optimizer"]["schedule"]["every"], 2);
    assert_eq!(rl["steps"], was["steps"]);
    assert_eq!(rl["rollout"], was["rollout"]);
    // Overrides are said last, over both.
    let set = resolved(&own, &["stages.rl.optimizer.schedule.every=5", "seed=4"]);
    assert_eq!(set["stages"][1]["optimizer"]["schedule"]["every"], 5);
    assert_eq!(set["seed"], 4);
}

#[test]
fn a_section_of_another_kind_replaces_whole_and_one_without_its_tag_merges() {
    let cosine = "stages.rl.optimizer.schedule={type: cosine, floor: 0.1}";
    let (base, own) = layered(
        "base_tags",
        "stages:\n- {name: rl, optimizer: {schedule: {type: step, every: 3, factor: 0.5}}}\n\
         tasks: {draw: {completion: {format: ctrl_s}}}\n",
    );
    let text = std::fs::read_to_string(&base).unwrap();
    let text = text
        .replace(
            "optimizer: {learning_rate: 1.0e-3}",
            "optimizer: {learning_rate: 1.0e-3, schedule: {type: cosine, floor: 0.1}}",
        )
        .replace(
            "completion: {format: svg}",
            "completion: {format: svg, surrounding_text: true}",
        );
    std::fs::write(&base, text).unwrap();
    // Keys of the base's `cosine` and `svg` would not be known to `step` and `ctrl_s`.
    let now = resolved(&own, &[]);
    let schedule = &now["stages"][1]["optimizer"]["schedule"];
    assert_eq!(
        (&schedule["type"], &schedule["every"]),
        (&"step".into(), &3.into())
    );
    assert!(schedule.get("floor").is_none());
    assert_eq!(now["tasks"]["draw"]["completion"]["format"], "ctrl_s");
    assert!(
        now["tasks"]["draw"]["completion"]
            .get("surrounding_text")
            .is_none()
    );
    // Without a tag of its own it keeps the base's.
    let folder = own.parent().unwrap();
    let third = write(
        folder,
        "third.yaml",
        "base: own.yaml\nstages:\n- {name: rl, optimizer: {schedule: {factor: 0.25}}}\n",
    );
    let schedule = resolved(&third, &[])["stages"][1]["optimizer"]["schedule"].clone();
    assert_eq!(
        (&schedule["every"], &schedule["factor"]),
        (&3.into(), &0.25.into())
    );
    assert_eq!(
        resolved(&third, &[cosine])["stages"][1]["optimizer"]["schedule"]["type"],
        "cosine"
    );
}

#[test]
fn a_stage_of_another_algorithm_replaces_the_base_s() {
    let (_, own) = layered(
        "base_algorithm",
        "stages:\n- {name: rl, algorithm: sft, steps: 4}\n",
    );
    let now = resolved(&own, &[]);
    assert_eq!(now["stages"][1]["algorithm"], "sft");
    assert!(now["stages"][1].get("rollout").is_none());
}

#[test]
fn mistakes_are_told_in_the_file_that_holds_them() {
    let (base, own) = layered(
        "base_mistakes",
        "seed: 9\nstages:\n- {name: rl, rollout: {group_size: 1}}\n",
    );
    let line = |path: &Path, part: &str| {
        let text = std::fs::read_to_string(path).unwrap();
        text[..text.find(part).unwrap()].matches('\n').count() + 1
    };
    let here = format!(
        "own.yaml:{}: stages.1.rollout.group_size: ",
        line(&own, "group_size")
    );
    svgrl("check", &[&own]).refused(2, &[&here, "must be >= 2, got 1"]);
    let text = std::fs::read_to_string(&base).unwrap();
    std::fs::write(&base, text.replace("workers: 1", "werkers: 1")).unwrap();
    let there = format!("tiny.yaml:{}: rewards.werkers: ", line(&base, "werkers"));
    svgrl("check", &[&own]).refused(2, &[&there, "`workers`"]);
    std::fs::write(
        &base,
        text.replace("path: drawings.jsonl", "path: lost.jsonl"),
    )
    .unwrap();
    let fixed = std::fs::read_to_string(&own)
        .unwrap()
        .replace("group_size: 1", "group_size: 4");
    std::fs::write(&own, fixed).unwrap();
    svgrl("check", &[&own]).refused(2, &["below", "lost.jsonl"]);
}

#[test]
fn stages_that_the_base_lacks_circles_and_lost_files_are_refused() {
    let (base, own) = layered("base_refusals", "");
    let refused = |text: &str, parts: &[&str]| {
        std::fs::write(&own, text).unwrap();
        svgrl("check", &[&own]).refused(2, parts);
    };
    refused(
        "base: ../below/tiny.yaml\nstages:\n- {name: rls, steps: 3}\n",
        &["own.yaml:3: stages.0.name: the base has no stage `rls`; did you mean `rl`?"],
    );
    refused(
        "base: ../below/tiny.yaml\nstages:\n- {steps: 3}\n",
        &["own.yaml:3: stages.0: needs the `name`", "sft, rl"],
    );
    refused(
        "base: ../below/tiny.yaml\nstages: [{name: rl, steps: 3}, {name: rl}]\n",
        &["stages.1.name: `rl` stands twice"],
    );
    refused(
        "seed: 1\nbase: ../below/none.yaml\n",
        &["own.yaml:2: base: cannot read ", "none.yaml"],
    );
    refused("base: [a]\n", &["own.yaml:1: base: must be the path"]);
    refused("base: own.yaml\n", &["own.yaml:1: base: goes in a circle"]);
    let text = std::fs::read_to_string(&base).unwrap();
    std::fs::write(&base, format!("base: ../above/own.yaml\n{text}")).unwrap();
    refused(
        "base: ../below/tiny.yaml\n",
        &["tiny.yaml:1: base: goes in a circle", "own.yaml -> "],
    );
    std::fs::write(&base, text).unwrap();
    dry(&own, &["base=other.yaml"]).refused(2, &["--set base=other.yaml: ", "`base: other.yaml`"]);
}

#[test]
fn the_run_folder_keeps_every_file_and_one_that_stands_alone() {
    let (base, own) = layered(
        "base_run",
        "stages:\n- {name: sft, steps: 1}\n- {name: rl, steps: 1, eval: {prompts: 0}}\n",
    );
    let run = own.with_file_name("run");
    let train = |config: &Path| {
        let mut train = program();
        train.arg("train").arg(config).arg("--run-dir").arg(&run);
        train.args(["--set", "stages.rl.checkpoint.every=0", "--resume", "auto"]);
        told(&mut train)
    };
    train(&own).fine();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&run.join("config.yaml")), read(&own));
    assert_eq!(read(&run.join("base_1.yaml")), read(&base));
    let alone = run.join("config.resolved.yaml");
    std::fs::remove_file(&base).unwrap();
    svgrl("check", &[&alone]).fine();
    // Continued from a file without a base, the folder holds none.
    let mut more = program();
    more.arg("train").arg(&alone).arg("--run-dir").arg(&run);
    told(more.args(["--set", "stages.rl.steps=2"])).fine();
    assert!(!run.join("base_1.yaml").exists());
}

#[test]
fn names_with_dots_are_found_in_the_file_that_holds_them() {
    let (base, own) = layered(
        "base_dots",
        "data: {sources: {drawings.v1: {held_out: 3}}}\n",
    );
    let text = std::fs::read_to_string(&base).unwrap();
    std::fs::write(&base, text.replace("drawings: {", "drawings.v1: {")).unwrap();
    svgrl("check", &[&own]).fine();
}
