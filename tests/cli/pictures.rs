//! Rows with `images` through `generate` and `logprobs`: expanded ids and placeholders, paths beside
//! the file, counts that are checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use models::read_tensors;
use serde_json::{Value, json};
use tch::Tensor;

use super::program::{copy, numbers, program, rows, scratch, svgrl, told, write, write_rows};
use crate::support::{fixture, ints};

pub type Expected = BTreeMap<String, Tensor>;

const MODEL: &str = "parity/vlm/qwen3_vl";

pub fn expected() -> Expected {
    read_tensors(&fixture(MODEL).join("expected.safetensors")).unwrap()
}

/// Writes the fixture's pictures as PNG files into `folder/media`.
pub fn media(folder: &Path, expected: &Expected) {
    std::fs::create_dir_all(folder.join("media")).unwrap();
    for index in 0..3 {
        let image = &expected[&format!("image.{index}")];
        let rgb = Vec::<u8>::try_from(image.flatten(0, -1)).unwrap();
        let raster = svg::Raster {
            width: image.size()[1] as u32,
            height: image.size()[0] as u32,
            rgba: rgb
                .chunks(3)
                .flat_map(|p| [p[0], p[1], p[2], 255])
                .collect(),
        };
        let path = folder.join(format!("media/{index}.png"));
        std::fs::write(path, raster.to_png().unwrap()).unwrap();
    }
}

fn images(expected: &Expected, index: usize) -> Vec<String> {
    let chosen = ints(&expected[&format!("images.{index}")]);
    chosen.iter().map(|at| format!("media/{at}.png")).collect()
}

fn generate(folder: &Path, model: &Path, rows: &[Value]) -> super::program::Told {
    let prompts = write_rows(folder, "prompts.jsonl", rows);
    let out = folder.join("out.jsonl");
    svgrl(
        "generate -q --greedy --max-new-tokens 12 --dtype float32 --device cpu --model",
        &[
            model,
            Path::new("--prompts"),
            &prompts,
            Path::new("--out"),
            &out,
        ],
    )
}

#[test]
fn rows_of_expanded_ids_with_pictures_are_completed_as_transformers_completes_them() {
    let (folder, expected) = (scratch("pictures_generate"), expected());
    media(&folder, &expected);
    let prompts: Vec<Value> = (0..4)
        .map(|index| {
            let ids = ints(&expected[&format!("ids.{index}")]);
            json!({"id": index, "token_ids": ids, "images": images(&expected, index)})
        })
        .collect();
    generate(&folder, &fixture(MODEL), &prompts).fine();
    for (index, row) in rows(&folder.join("out.jsonl")).iter().enumerate() {
        let want = ints(&expected[&format!("greedy.{index}")]);
        assert_eq!(row["token_ids"], json!(want), "{index}");
    }
}

#[test]
fn logprobs_of_rows_with_pictures_are_those_of_the_reference() {
    let (folder, expected) = (scratch("pictures_logprobs"), expected());
    media(&folder, &expected);
    let split = |index: usize| {
        let ids = ints(&expected[&format!("ids.{index}")]);
        // The text after the last picture.
        let from = ids.iter().rposition(|id| *id >= 36).map_or(3, |at| at + 1);
        (ids[..from].to_vec(), ids[from..].to_vec())
    };
    let data: Vec<Value> = (0..4)
        .map(|index| {
            let (prompt, completion) = split(index);
            json!({"id": index, "prompt_token_ids": prompt, "completion_token_ids": completion, "images": images(&expected, index)})
        })
        .collect();
    let data = write_rows(&folder, "data.jsonl", &data);
    let out = folder.join("out.jsonl");
    svgrl(
        "logprobs -q --device cpu --model",
        &[
            &fixture(MODEL),
            Path::new("--data"),
            &data,
            Path::new("--out"),
            &out,
        ],
    )
    .fine();
    for (index, row) in rows(&out).iter().enumerate() {
        let (prompt, completion) = split(index);
        let logits = &expected[&format!("logits.{index}")];
        let all = logits.log_softmax(-1, None);
        for (at, (got, id)) in numbers(&row["logprobs"])
            .iter()
            .zip(&completion)
            .enumerate()
        {
            let want = all.double_value(&[(prompt.len() + at) as i64 - 1, *id]);
            assert!((got - want).abs() < 1e-4, "{index} {at}: {got} {want}");
        }
    }
}

/// The fixture with a tokenizer of single letters and the four tokens about pictures.
pub fn with_tokenizer(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    copy(&fixture(MODEL), &model);
    let letters = ('a'..='z').chain('A'..='J').enumerate();
    let vocab: serde_json::Map<String, Value> = letters
        .map(|(id, letter)| (letter.to_string(), json!(id)))
        .collect();
    let special = [
        "<|image_pad|>",
        "<|video_pad|>",
        "<|vision_start|>",
        "<|vision_end|>",
    ];
    let added: Vec<Value> = special
        .iter()
        .enumerate()
        .map(|(at, text)| {
            json!({"id": 36 + at, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": added, "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false},
        "decoder": null, "truncation": null, "padding": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "a"},
    });
    write(&model, "tokenizer.json", &tokenizer.to_string());
    let template = "{% for m in messages %}{% for part in m.content %}{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}";
    write(
        &model,
        "tokenizer_config.json",
        &json!({"chat_template": template}).to_string(),
    );
    model
}

#[test]
fn placeholders_of_text_and_messages_are_expanded() {
    let (folder, expected) = (scratch("pictures_text"), expected());
    media(&folder, &expected);
    let model = with_tokenizer(&folder);
    let one = "<|vision_start|><|image_pad|><|vision_end|>";
    let ids = [&[2, 38][..], &[36; 6], &[39, 3, 4]].concat();
    let prompts = [
        json!({"id": 0, "token_ids": ids, "images": ["media/0.png"]}),
        json!({"id": 1, "prompt": format!("c{one}de"), "images": ["media/0.png"]}),
        json!({"id": 2, "messages": [{"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "image"}, {"type": "text", "text": "de"}]}], "images": ["media/0.png"]}),
    ];
    generate(&folder, &model, &prompts).fine();
    let out = rows(&folder.join("out.jsonl"));
    assert_eq!(out[0]["token_ids"], out[1]["token_ids"]);
    assert_eq!(out[0]["token_ids"], out[2]["token_ids"]);
}

#[test]
fn pictures_that_do_not_fit_are_refused_before_anything_runs() {
    let (folder, expected) = (scratch("pictures_refused"), expected());
    media(&folder, &expected);
    let model = with_tokenizer(&folder);
    let one = "<|vision_start|><|image_pad|><|vision_end|>";
    let refused = |row: Value, parts: &[&str]| {
        let parts = [&["prompts.jsonl:1"], parts].concat();
        generate(&folder, &model, &[row]).refused(2, &parts);
    };
    refused(
        json!({"id": 0, "prompt": format!("c{one}{one}"), "images": ["media/0.png"]}),
        &["2 placeholder(s)", "1 picture(s)"],
    );
    refused(
        json!({"id": 0, "token_ids": [1, 38, 36, 36, 36, 36, 36, 39], "images": ["media/0.png"]}),
        &["5 image tokens", "takes 6"],
    );
    refused(
        json!({"id": 0, "token_ids": [1, 2], "images": ["media/0.png"]}),
        &["1 picture(s)", "image tokens for 0"],
    );
    refused(
        json!({"id": 0, "token_ids": [1, 38, 36, 39]}),
        &["image tokens for more than the 0 picture(s)"],
    );
    refused(
        json!({"id": 0, "prompt": one, "images": ["media/9.png"]}),
        &["media/9.png"],
    );
    let text = fixture("parity/networks/qwen3_tied");
    let row = json!({"id": 0, "token_ids": [1, 2], "images": ["media/0.png"]});
    generate(&folder, &text, &[row]).refused(2, &["prompts.jsonl:1", "reads text only"]);
}

const SEEING: &str = "\
device: cpu
model:
  tokenizer: TOKENIZER
  init:
    architecture: qwen3
    hidden_size: 32
    intermediate_size: 64
    num_hidden_layers: 2
    num_attention_heads: 4
    num_key_value_heads: 2
    head_dim: 16
    vision: {depth: 1, hidden_size: 16, intermediate_size: 32, num_heads: 2, patch_size: 8, grid: 4, deepstack: []}
data: {sources: {rows: {format: jsonl, path: rows.jsonl, task: draw}}}
tasks: {draw: {render: {size: 32}}}
stages: [{name: sft, algorithm: sft, steps: 1, batch: {size: 1}}]
";

#[test]
fn marks_of_pictures_in_the_words_of_a_row_are_refused() {
    let tokenizer = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/tiny_vlm_tokenizer");
    for (name, prompt, target, code) in [
        ("marks_none", "a dot", "<svg/>", 0),
        ("marks_prompt", "a <|image_pad|> dot", "<svg/>", 2),
        ("marks_target", "a dot", "<svg/><|image_pad|>", 2),
    ] {
        let folder = scratch(name);
        let row = json!({"id": "odd", "prompt": prompt, "target": target});
        write_rows(&folder, "rows.jsonl", &[row]);
        let config = write(&folder, "run.yaml", &SEEING.replace("TOKENIZER", tokenizer));
        let mut train = program();
        train.arg("train").arg(config).arg("--run-dir");
        let done = told(train.arg(folder.join("run")));
        match code {
            0 => drop(done.fine()),
            code => done.refused(
                code,
                &[
                    "example rows/odd: ",
                    if target.len() > 6 {
                        "target"
                    } else {
                        "image tokens"
                    },
                ],
            ),
        }
    }
}
