//! Folders as people have them: of several weight files those that count, a tied pair under either name, flags at
//! both levels, tokens that stand beside tokenizer.json, tensors of other networks.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, ModelConfig, Tokenizer, load_folder, read_tensors, write_tensors};
use rollout::{Request, Sampling, Submission};
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use crate::cli::program::{copy, scratch};
use crate::support::python::{NO_PYTHON, answer, python};
use crate::support::skip::skip;
use crate::support::{fixture, packed, policy};

const SCRIPT: &str = "parity/folders/ref.py";

/// A copy of a fixture under tests/parity.
fn folder(name: &str, from: &str) -> PathBuf {
    let to = scratch(name).join("model");
    copy(&fixture("parity").join(from), &to);
    to
}

fn tensors(folder: &Path) -> Vec<(String, Tensor)> {
    let tensors = read_tensors(&folder.join("model.safetensors")).unwrap();
    tensors.into_iter().collect()
}

/// Log-probabilities of the ids 1 to 12, each after those before it, and 0 first.
fn scored(model: &Decoder) -> Tensor {
    tch::set_num_threads(1);
    let ids: Vec<i64> = (0..13).collect();
    let logits = tch::no_grad(|| model.logits(&model.hidden(&packed(std::slice::from_ref(&ids)))));
    let next = Tensor::from_slice(&ids[1..]).unsqueeze(-1);
    let rows = logits.narrow(0, 0, 12).log_softmax(-1, Kind::Float);
    rows.gather(1, &next, false)
}

fn load(folder: &Path) -> Tensor {
    scored(&load_folder(folder, Kind::Float, Device::Cpu).unwrap())
}

fn write_json(path: &Path, value: &Value) {
    std::fs::write(path, value.to_string()).unwrap();
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Puts the tensors of `folder` into one shard that an index names, together with `more` names.
fn shard(folder: &Path, tensors: &[(String, Tensor)], more: &[&str]) {
    let file = "model-00001-of-00001.safetensors";
    write_tensors(&folder.join(file), tensors).unwrap();
    let names = tensors.iter().map(|(name, _)| name.as_str());
    let map: Map<String, Value> = names
        .chain(more.iter().copied())
        .map(|name| (name.to_owned(), json!(file)))
        .collect();
    let index = json!({"metadata": {}, "weight_map": map});
    write_json(&folder.join("model.safetensors.index.json"), &index);
}

#[test]
fn of_a_tied_pair_either_name_is_read() {
    for name in [
        "networks/qwen2_tied",
        "networks/qwen3_tied",
        "vlm/qwen2_5_vl",
    ] {
        let folder = folder(&format!("tied_{}", name.replace('/', "_")), name);
        let before = load(&folder);
        let mut own = tensors(&folder);
        let embedding = own
            .iter_mut()
            .find(|(name, _)| name.ends_with("embed_tokens.weight"))
            .unwrap();
        embedding.0 = "lm_head.weight".into();
        write_tensors(&folder.join("model.safetensors"), &own).unwrap();
        assert_eq!(load(&folder), before, "{name}");
    }
}

#[test]
fn an_index_may_name_what_its_shards_no_longer_hold() {
    let folder = folder("stale_index", "networks/qwen2_tied");
    let before = load(&folder);
    let own = tensors(&folder);
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    shard(
        &folder,
        &own,
        &[
            "lm_head.weight",
            "model.layers.0.self_attn.rotary_emb.inv_freq",
        ],
    );
    assert_eq!(load(&folder), before);
    // What the network needs is missed by name.
    shard(&folder, &own[1..], &[&own[0].0]);
    let error = load_folder(&folder, Kind::Float, Device::Cpu)
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .contains(&format!("missing tensors: {}", own[0].0)),
        "{error}"
    );
}

#[test]
fn the_single_file_counts_before_an_index() {
    let folder = folder("single_and_index", "networks/qwen2_untied");
    let before = load(&folder);
    let others: Vec<_> = tensors(&folder)
        .into_iter()
        .map(|(name, tensor)| (name, tensor * 2.0))
        .collect();
    shard(&folder, &others, &[]);
    assert_eq!(load(&folder), before);
}

#[test]
fn ties_are_told_at_either_level() {
    let mut sums = Vec::new();
    for (top, text) in [
        (None, Some(true)),
        (Some(true), Some(false)),
        (Some(false), Some(true)),
    ] {
        let folder = folder(&format!("tie_{top:?}_{text:?}"), "vlm/qwen2_5_vl");
        let path = folder.join("config.json");
        let mut config = read_json(&path);
        config
            .as_object_mut()
            .unwrap()
            .remove("tie_word_embeddings");
        if let Some(top) = top {
            config["tie_word_embeddings"] = json!(top);
        }
        if let Some(text) = text {
            config["text_config"]["tie_word_embeddings"] = json!(text);
        }
        write_json(&path, &config);
        sums.push((load(&folder).sum(Kind::Double).double_value(&[]), folder));
    }
    assert!(sums.windows(2).all(|two| two[0].0 == two[1].0), "{sums:?}");
    let Some(python) = python() else {
        skip!("{NO_PYTHON}");
    };
    for (ours, folder) in sums {
        let theirs = answer(&python, SCRIPT, &[Path::new("--sum"), &folder]);
        let theirs: f64 = theirs.trim().parse().unwrap();
        assert!(
            (ours - theirs).abs() < 1e-4,
            "{}: {ours} {theirs}",
            folder.display()
        );
    }
}

const LINES: [&str; 4] = [
    "<svg viewBox=\"0 0 12 8\"><path d=\"M1 2\"/></svg>",
    "<|im_start|>user\na red circle<|im_end|>",
    "plain words, 128 of them",
    "<g><rect x=\"5\"/></g>",
];

/// The tokenizer of configs/tiny_vlm without its last `count` added tokens, which are given as
/// (id, token) instead.
fn shortened(name: &str, count: usize) -> (PathBuf, Vec<(u64, Value)>) {
    let folder = folder(name, "../../configs/tiny_vlm_tokenizer");
    let path = folder.join("tokenizer.json");
    let mut file = read_json(&path);
    let added = file["added_tokens"].as_array_mut().unwrap();
    let cut = added.split_off(added.len() - count);
    write_json(&path, &file);
    let listed = cut.into_iter().map(|mut token| {
        let id = token.as_object_mut().unwrap().remove("id").unwrap();
        (id.as_u64().unwrap(), token)
    });
    (folder, listed.collect())
}

#[test]
fn tokens_that_stand_beside_tokenizer_json_are_tokens() {
    let whole = Tokenizer::read(&fixture("../configs/tiny_vlm_tokenizer")).unwrap();
    let expected: Vec<Vec<i64>> = LINES.iter().map(|line| whole.encode(line)).collect();
    let (listed, cut) = shortened("listed_in_config", 140);
    let path = listed.join("tokenizer_config.json");
    let mut config = read_json(&path);
    let entry = |(id, token): &(u64, Value)| (id.to_string(), token.clone());
    config["added_tokens_decoder"] = Value::Object(cut.iter().map(entry).collect());
    write_json(&path, &config);

    let (older, cut) = shortened("listed_in_added_tokens", 140);
    let entry =
        |(id, token): &(u64, Value)| (token["content"].as_str().unwrap().to_owned(), json!(id));
    write_json(
        &older.join("added_tokens.json"),
        &Value::Object(cut.iter().map(entry).collect()),
    );

    for folder in [&listed, &older] {
        let read = Tokenizer::read(folder).unwrap();
        assert_eq!(read.len(), whole.len());
        for (line, ids) in LINES.iter().zip(&expected) {
            assert_eq!(&read.encode(line), ids, "{}: {line}", folder.display());
        }
    }
    // Two files that name one token differently are no tokenizer.
    config["added_tokens_decoder"] = json!({"9999": {"content": "<think>", "special": false}});
    write_json(&path, &config);
    let error = Tokenizer::read(&listed).err().unwrap().to_string();
    assert!(
        error.contains("<think>") && error.contains("9999"),
        "{error}"
    );

    let Some(python) = python() else {
        skip!("{NO_PYTHON}");
    };
    let text = older.join("lines.txt");
    // One text a line.
    let lines: Vec<&str> = LINES.iter().flat_map(|line| line.lines()).collect();
    std::fs::write(&text, lines.join("\n")).unwrap();
    let theirs = answer(&python, SCRIPT, &[&older, &text]);
    let theirs: Vec<Vec<i64>> = serde_json::from_str(&theirs).unwrap();
    let ours: Vec<Vec<i64>> = lines.iter().map(|line| whole.encode(line)).collect();
    assert_eq!(theirs, ours);
}

#[test]
fn markup_survives_decoding_whatever_it_is_flagged_as() {
    let folder = folder("flagged", "../../configs/tiny_vlm_tokenizer");
    let path = folder.join("tokenizer.json");
    let mut file = read_json(&path);
    let added = file["added_tokens"].as_array_mut().unwrap();
    let next = added.len() as u64 + 369;
    let mut think = added[0].clone();
    (think["id"], think["content"]) = (json!(next), json!("<think>"));
    added.push(think);
    for token in added {
        token["special"] = json!(true);
    }
    write_json(&path, &file);
    // The template shows it in its example of an answer.
    let config = folder.join("tokenizer_config.json");
    let mut settings = read_json(&config);
    let template = settings["chat_template"].as_str().unwrap();
    settings["chat_template"] = json!(format!("{template}{{# <think> #}}"));
    write_json(&config, &settings);
    let tokenizer = Tokenizer::read(&folder).unwrap();
    let written = format!("<think>{}", LINES[0]);
    let sampled = format!("<|im_start|>{written}<|im_end|><|endoftext|>");
    assert_eq!(tokenizer.decode(&tokenizer.encode(&sampled)), written);
    assert!(tokenizer.unshown(&["<think>"]).is_empty());
    // A task's own word that is the token which ends completions is never seen in one.
    assert_eq!(tokenizer.unshown(&["<|im_end|>"]), ["<|im_end|>"]);
}

#[test]
fn rows_beyond_the_tokenizer_are_never_sampled() {
    let folder = fixture("../configs/quickstart_tokenizer");
    let tokenizer = Arc::new(Tokenizer::read(&folder).unwrap());
    let end = tokenizer.len() as i64;
    let config: ModelConfig = serde_json::from_value(json!({"init": {
        "vocab_size": end + 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": false,
    }}))
    .unwrap();
    let model = config
        .load(1, &tokenizer, (Kind::Float, Device::Cpu))
        .unwrap();
    // Without a rule nearly every token would be one of these rows.
    tch::no_grad(|| {
        let mut rows = model.head().narrow(0, end, 64);
        let _ = rows.multiply_scalar_(1000.0);
    });
    let mut engine = policy::engine(&Rc::new(model), Some(&tokenizer), 0);
    for temperature in [0.0, 1.0] {
        let request = Request {
            group: 0,
            ids: tokenizer.encode("a red circle").into(),
            images: None,
            samples: 8,
            draw: 0,
            lengths: None,
        };
        let sampling = Sampling {
            temperature,
            max_new_tokens: 16,
            ..Sampling::default()
        };
        engine
            .submit(Submission {
                requests: vec![request],
                sampling,
                seed: 0,
            })
            .unwrap();
        while let Some(finished) = engine.next().unwrap() {
            let ids = &finished.completion.ids;
            assert!(ids.iter().all(|id| *id < end), "{ids:?}");
        }
    }
}

#[test]
fn tensors_of_a_value_head_are_left_out_where_the_config_says_so() {
    let folder = folder("value_head", "networks/qwen3_tied");
    let before = load(&folder);
    let mut own = tensors(&folder);
    own.push((
        "v_head.summary.weight".into(),
        Tensor::ones([1, 8], (Kind::Float, Device::Cpu)),
    ));
    own.push((
        "model.rotary.scale".into(),
        Tensor::ones([1], (Kind::Float, Device::Cpu)),
    ));
    write_tensors(&folder.join("model.safetensors"), &own).unwrap();
    let error = load_folder(&folder, Kind::Float, Device::Cpu)
        .err()
        .unwrap()
        .to_string();
    for part in [
        "v_head.summary.weight",
        "model.rotary.scale",
        "model.ignore",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let config = |ignore: Value| -> ModelConfig {
        serde_json::from_value(json!({"path": folder, "ignore": ignore})).unwrap()
    };
    let place = (Kind::Float, Device::Cpu);
    let read = config(json!(["v_head.*", "*.scale"]))
        .reload(&folder, place)
        .unwrap();
    assert_eq!(scored(&read), before);
    let one = config(json!(["v_head.*"]))
        .reload(&folder, place)
        .err()
        .unwrap()
        .to_string();
    assert!(
        one.contains("model.rotary.scale") && !one.contains("v_head.summary"),
        "{one}"
    );
}
