//! Folders that a config names and that are none, and lengths that a policy was not made for.

use std::path::Path;

use crate::cli::program::{program, scratch, svgrl, told, write};
use crate::cli::tiny::{self, tiny};

/// What `check` and `train` say of `model: {path: PATH}` in the second line of a config.
fn refused(folder: &Path, path: &str, parts: &[&str]) {
    let text = format!(
        "name: r\nmodel: {{path: {path:?}}}\ndata: {{sources: {{s: {{format: shapes, task: t}}}}}}\n\
         tasks: {{t: {{rubric: {{rewards: [{{type: mse}}]}}}}}}\n\
         stages: [{{name: sft, algorithm: sft, steps: 1}}]\n"
    );
    let config = write(folder, "r.yaml", &text);
    let parts = [&["r.yaml:2: model.path: "], parts].concat();
    svgrl("check", &[&config]).refused(2, &parts);
    svgrl("train --dry-run", &[&config]).refused(2, &parts);
    let run = folder.join("run");
    let train = |run: &Path| {
        told(
            program()
                .arg("train")
                .arg(&config)
                .arg("--run-dir")
                .arg(run),
        )
    };
    train(&run).refused(2, &parts);
    assert!(!run.exists());
}

#[test]
fn a_path_that_is_no_policy_s_folder_says_what_to_do() {
    let folder = scratch("config_folders");
    let hub = [
        "Qwen/Qwen2.5-7B-Instruct: ",
        "does not download",
        "hf download",
    ];
    refused(&folder, "Qwen/Qwen2.5-7B-Instruct", &hub);
    refused(&folder, "~/models/qwen", &["~/models/qwen: ", "whole path"]);
    refused(&folder, "../nowhere", &["../nowhere: is not there"]);
    let made = |name: &str, files: &[&str]| {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        for file in files {
            std::fs::write(folder.join(file), "{}").unwrap();
        }
    };
    made(
        "lora",
        &[
            "adapter_config.json",
            "adapter_model.safetensors",
            "tokenizer.json",
        ],
    );
    refused(&folder, "lora", &["LoRA", "base_model_name_or_path"]);
    made(
        "bin",
        &["config.json", "pytorch_model.bin", "tokenizer.json"],
    );
    refused(&folder, "bin", &[".bin", "save_pretrained"]);
    made(
        "slow",
        &[
            "config.json",
            "model.safetensors",
            "vocab.json",
            "merges.txt",
        ],
    );
    refused(&folder, "slow", &["tokenizer.json", "AutoTokenizer"]);
    made("empty", &[]);
    refused(&folder, "empty", &["config.json"]);
}

#[test]
fn commands_say_the_same_of_their_model() {
    let folder = scratch("model_folders");
    let prompts = write(&folder, "p.jsonl", "{\"id\": 0, \"prompt\": \"a\"}\n");
    for command in ["generate", "logprobs"] {
        let flag = if command == "generate" {
            "--prompts"
        } else {
            "--data"
        };
        let mut asked = program();
        asked
            .arg(command)
            .args(["--model", "Qwen/Qwen3-VL-8B-Instruct"]);
        asked
            .arg(flag)
            .arg(&prompts)
            .arg("--out")
            .arg(folder.join("o.jsonl"));
        told(&mut asked).refused(2, &["Qwen/Qwen3-VL-8B-Instruct: ", "hf download"]);
    }
    let mut asked = program();
    asked
        .args(["extend-tokens", "--model", "~/qwen", "--out"])
        .arg(folder.join("o"));
    told(&mut asked).refused(2, &["whole path"]);
}

#[test]
fn an_encoder_that_is_not_there_is_named_by_its_key() {
    let folder = scratch("config_encoder_folder");
    let config = tiny::config(&folder);
    let set = "encoders={dino: {path: facebook/dinov2-base}}";
    let parts = ["encoders.dino.path: ", "hf download facebook/dinov2-base"];
    let mut check = program();
    check.arg("check").arg(&config).args(["--set", set]);
    // They may lie on another machine.
    let check = told(&mut check).fine();
    assert!(
        parts.iter().all(|part| check.err.contains(part)),
        "{check:#?}"
    );
    let mut train = program();
    train.arg("train").arg(&config).args(["--set", set]);
    told(train.arg("--run-dir").arg(folder.join("run"))).refused(2, &parts);
}

#[test]
fn lengths_beyond_the_policy_s_positions_are_told() {
    let folder = scratch("config_positions");
    let config = tiny::config(&folder);
    let set = [
        "model.init.max_position_embeddings=64",
        "stages.rl.rollout.max_new_tokens=80",
        "stages.sft.steps=1",
        "stages.rl.steps=1",
    ];
    let sets = || set.iter().flat_map(|set| ["--set", set]);
    let parts = [
        "stages.rl.rollout.max_new_tokens: 80",
        "max_position_embeddings 64",
    ];
    let check = told(program().arg("check").arg(&config).args(sets())).fine();
    let plan = told(
        program()
            .args(["train", "--dry-run"])
            .arg(&config)
            .args(sets()),
    )
    .fine();
    let run = folder.join("run");
    let mut train = program();
    train
        .arg("train")
        .arg(&config)
        .arg("--run-dir")
        .arg(&run)
        .args(sets());
    let train = told(&mut train).fine();
    for part in parts {
        assert!(check.err.contains(part), "{check:#?}");
        assert!(plan.out.contains(part), "{plan:#?}");
        assert!(train.err.contains(part), "{train:#?}");
    }
    let quiet = told(program().arg("check").arg(&config)).fine();
    assert!(!quiet.err.contains("position"), "{quiet:#?}");
    // What a folder says counts for generate as well.
    let model = tiny().copy("short_positions").join("checkpoints/rl/final");
    let path = model.join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("32768", "16")).unwrap();
    let prompts = write(
        &folder,
        "p.jsonl",
        "{\"id\": 0, \"prompt\": \"a red circle\"}\n",
    );
    let mut generate = program();
    generate
        .arg("generate")
        .arg("--model")
        .arg(&model)
        .arg("--prompts")
        .arg(&prompts);
    generate
        .args(["--max-new-tokens", "16", "--out"])
        .arg(folder.join("o.jsonl"));
    let told = told(&mut generate).fine();
    assert!(told.err.contains("max_position_embeddings 16"), "{told:#?}");
}
