//! Mistakes in a config end with status 2 and a sentence that says file, line, key and the way out.

use std::path::PathBuf;

use crate::cli::program::{Told, program, scratch, svgrl, told, write};
use crate::cli::tiny;

/// The tiny config with `from` replaced by `to`, and the line where that is.
fn changed(name: &str, from: &str, to: &str) -> (PathBuf, String) {
    let config = tiny::config(&scratch(name));
    let text = std::fs::read_to_string(&config).unwrap();
    let at = text
        .find(from)
        .unwrap_or_else(|| panic!("`{from}` is not in the config"));
    let line = text[..at].matches('\n').count() + 1;
    write(
        config.parent().unwrap(),
        "tiny.yaml",
        &text.replacen(from, to, 1),
    );
    (config, format!("tiny.yaml:{line}: "))
}

fn refused(name: &str, from: &str, to: &str, parts: &[&str]) {
    let (config, place) = changed(name, from, to);
    let told = svgrl("check", &[&config]);
    assert!(told.err.starts_with("error: "), "{told:?}");
    told.refused(2, &[&[place.as_str()], parts].concat());
}

#[test]
fn unknown_keys_come_with_the_nearest_known_one() {
    refused(
        "config_key",
        "seed: 3",
        "sead: 3",
        &["sead: unknown key", "`seed`"],
    );
    refused(
        "config_deep",
        "group_size: 4",
        "groupsize: 4",
        &["stages.1.rollout.groupsize: unknown key", "`group_size`"],
    );
    refused(
        "config_reward",
        "window_size: 7",
        "window_sise: 7",
        &[
            "tasks.draw.rubric.rewards.0.window_sise: unknown key",
            "`window_size`",
        ],
    );
}

#[test]
fn wrong_types_and_words_say_what_would_be_right() {
    refused(
        "config_type",
        "steps: 60",
        "steps: many",
        &["stages.0.steps: must be a whole number, got \"many\""],
    );
    refused(
        "config_word",
        "algorithm: grpo",
        "algorithm: gpro",
        &["stages.1.algorithm: unknown value `gpro`", "`grpo`"],
    );
    refused(
        "config_reward_type",
        "type: ssim",
        "type: sim",
        &["tasks.draw.rubric.rewards.0.type", "`ssim`"],
    );
    refused(
        "config_negative",
        "seed: 3",
        "seed: -1",
        &["seed: must be >= 0, got -1"],
    );
}

#[test]
fn bounds_say_key_bound_value_and_way_out() {
    refused(
        "config_group",
        "group_size: 4",
        "group_size: 1",
        &["stages.1.rollout.group_size: must be >= 2, got 1 (advantages need siblings)"],
    );
    refused(
        "config_lr",
        "learning_rate: 1.0e-3",
        "learning_rate: 0",
        &["stages.1.optimizer.learning_rate: must be > 0"],
    );
    refused(
        "config_device",
        "device: cpu",
        "device: gpu",
        &["device: must be auto, cpu, cuda or cuda:N, got `gpu`"],
    );
    refused(
        "config_size",
        "{size: 32}",
        "{size: 0}",
        &["tasks.draw.render.size: must be from 1"],
    );
}

#[test]
fn curricula_that_cannot_be_are_refused() {
    let grpo = "batch: {size: 4}";
    let with = |order: &str| format!("{grpo}\n    curriculum: {{order: {order}}}");
    let refused = |name: &str, order: &str, parts: &[&str]| {
        let (config, _) = changed(name, grpo, &with(order));
        svgrl("check", &[&config]).refused(2, parts);
    };
    refused(
        "curriculum_word",
        "sortet",
        &["stages.1.curriculum.order: unknown value `sortet`; did you mean `sorted`?"],
    );
    refused(
        "curriculum_type",
        "{type: stages}",
        &["stages.1.curriculum.order.type: unknown value `stages`; did you mean `staged`?"],
    );
    refused(
        "curriculum_key",
        "{type: observed, bucket: 3}",
        &["stages.1.curriculum.order.bucket: unknown key; did you mean `buckets`?"],
    );
    refused(
        "curriculum_bounds",
        "{type: staged, buckets: [300, 200]}",
        &["stages.1.curriculum.order.buckets: bounds must ascend, got 200 after 300"],
    );
    refused(
        "curriculum_empty",
        "{type: staged, buckets: [100000]}",
        &["stages.1.curriculum.order.buckets: bucket 2 holds no row of any task"],
    );
    let sft = "batch: {size: 6}";
    let observed = format!("{sft}\n    curriculum: {{order: {{type: observed}}}}");
    let (config, _) = changed("curriculum_sft", sft, &observed);
    svgrl("check", &[&config]).refused(2, &["stages.0.curriculum.order: `observed` is for stages"]);
}

#[test]
fn names_must_fit_together() {
    refused(
        "config_task",
        "held_out: 2",
        "task: drow",
        &["data.sources.drawings.task: `drow` is not in tasks"],
    );
    refused(
        "config_source",
        "eval: {prompts: 2}",
        "curriculum: {sources: [icons]}",
        &["stages.1.curriculum.sources: `icons` is not in data.sources"],
    );
    refused(
        "config_twice",
        "name: rl",
        "name: sft",
        &["stages.1.name: `sft` is used twice"],
    );
}

#[test]
fn files_that_are_not_there_or_no_yaml_are_named() {
    let folder = scratch("config_files");
    svgrl("check", &[&folder.join("nowhere.yaml")]).refused(2, &["nowhere.yaml"]);
    svgrl("train", &[&folder.join("nowhere.yaml")]).refused(2, &["nowhere.yaml"]);
    let broken = write(&folder, "broken.yaml", "name: a\nstages: [a, b\nseed: 1\n");
    svgrl("check", &[&broken]).refused(2, &["broken.yaml:", "not YAML"]);
    let twice = write(&folder, "twice.yaml", "name: a\nseed: 1\nname: b\n");
    svgrl("check", &[&twice]).refused(2, &["twice.yaml:3: ", "`name`"]);
    svgrl("check", &[&write(&folder, "empty.yaml", "")]).refused(2, &["empty.yaml", "stage"]);
    let (config, place) = changed("config_data", "path: drawings.jsonl", "path: nowhere.jsonl");
    let parts = [
        place.as_str(),
        "data.sources.drawings.path: ",
        "nowhere.jsonl",
    ];
    svgrl("check", &[&config]).refused(2, &parts);
    let (config, place) = changed("config_held", "held_out: 2", "held_out: 8");
    let parts = [
        place.as_str(),
        "data.sources.drawings.held_out: must be less than the 8 rows",
    ];
    svgrl("check", &[&config]).refused(2, &parts);
    svgrl("train --dry-run", &[&config]).refused(2, &parts);
    let run = config.with_file_name("run");
    let train = told(
        program()
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(run),
    );
    train.refused(2, &parts);
    let (config, _) = changed("config_model", tiny::TOKENIZER, "nowhere");
    svgrl("check", &[&config]).refused(2, &["nowhere"]);
}

#[test]
fn overrides_reach_stages_by_index_and_by_name() {
    let config = tiny::config(&scratch("config_set"));
    let dry = |set: &[&str]| -> Told {
        told(
            program()
                .arg("train")
                .arg(&config)
                .arg("--dry-run")
                .args(set.iter().flat_map(|set| ["--set", set])),
        )
    };
    assert!(
        dry(&["stages.rl.steps=5"])
            .fine()
            .out
            .contains("grpo, 5 steps")
    );
    let both = dry(&[
        "stages.1.steps=6",
        "stages.sft.steps=9",
        "stages.1.rollout={group_size: 3}",
    ])
    .fine()
    .out;
    assert!(
        both.contains("6 steps of 4 prompts x 3 completions") && both.contains("sft, 9 steps"),
        "{both}"
    );
    let last = dry(&["seed=8", "seed=9"]).fine().out;
    assert!(last.contains("seed: 9"), "{last}");
    dry(&["stages.rl.stepz=5"]).refused(
        2,
        &["--set stages.rl.stepz=5", "stepz: unknown key", "`steps`"],
    );
    dry(&["stages.lr.steps=5"]).refused(2, &["`lr`", "rl"]);
    dry(&["stages.rl.rollout.group_size=1"]).refused(
        2,
        &[
            "--set stages.rl.rollout.group_size=1",
            "must be >= 2, got 1",
        ],
    );
    dry(&["seed"]).refused(2, &["KEY=VALUE"]);
    dry(&["tasks.drow.render.size=3"]).refused(2, &["no `drow` is there; did you mean `draw`?"]);
    dry(&["data.sources.icons.weight=3"]).refused(2, &["no `icons` is there", "drawings"]);
    // A reward without a name is called by its type.
    let weighed = dry(&["tasks.draw.rubric.rewards.ssim.weight=0.125"]).fine();
    assert!(weighed.out.contains("weight: 0.125"), "{}", weighed.out);
    let flag = told(program().arg("train").arg(&config).args([
        "--dry-run",
        "--seed",
        "12",
        "--set",
        "seed=11",
    ]))
    .fine()
    .out;
    assert!(flag.contains("seed: 12"), "flags beat the config");
}
