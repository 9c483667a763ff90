//! Pairs whose prompts show pictures: the picture decides which answer is preferred.

use std::path::Path;

use serde_json::{Value, json};

use super::{curve, train};
use crate::cli::program::{scratch, told, write, write_rows};
use crate::cli::tiny::drawing;

const TOKENIZER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/tiny_vlm_tokenizer");

const CONFIG: &str = "\
name: pictured
seed: 1
device: cpu
threads: 1
model:
  tokenizer: TOKENIZER
  freeze: FREEZE
  init:
    {architecture: qwen3, hidden_size: 48, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 12, initializer_range: 0.1, vision: {depth: 2, hidden_size: 32, intermediate_size: 64, num_heads: 2, patch_size: 8, grid: 4, deepstack: [0]}}
data: {sources: {pairs: {format: dpo, path: pairs.jsonl}}}
rewards: {workers: 1}
tasks: {look: {type: image_to_svg, render: {size: 32}}}
stages:
  - {name: dpo, algorithm: dpo, steps: 12, reference: REFERENCE, batch: {size: 4, micro_tokens: 400}, optimizer: {learning_rate: 3.0e-3}}
";

/// Four rows that differ in their pictures alone; where the picture is dark, the circle is preferred.
fn write_pairs(folder: &Path) {
    let circle = drawing(r#"<circle r="9"/>"#);
    let square = drawing(r#"<rect width="9"/>"#);
    let row = |at: usize| {
        let shade = [0u8, 20, 235, 255][at];
        let raster = svg::Raster {
            width: 32,
            height: 32,
            rgba: [shade, shade, shade, 255].repeat(32 * 32),
        };
        std::fs::write(folder.join(format!("{at}.png")), raster.to_png().unwrap()).unwrap();
        let (chosen, rejected) = match at < 2 {
            true => (&circle, &square),
            false => (&square, &circle),
        };
        let parts = json!([{"type": "image", "image": format!("{at}.png")}, {"type": "text", "text": "draw it"}]);
        let said = |words: &str| json!([{"role": "assistant", "content": words}]);
        json!({"prompt": [{"role": "user", "content": parts}], "chosen": said(chosen), "rejected": said(rejected)})
    };
    let rows: Vec<Value> = (0..4).map(row).collect();
    write_rows(folder, "pairs.jsonl", &rows);
}

#[test]
fn a_policy_prefers_by_what_it_sees_whether_its_tower_learns_or_not() {
    let folder = scratch("dpo_pictured");
    write_pairs(&folder);
    for freeze in ["[]", "[vision]"] {
        let curves = ["cached", "policy"].map(|reference| {
            let text = CONFIG
                .replace("TOKENIZER", TOKENIZER)
                .replace("FREEZE", freeze)
                .replace("REFERENCE", reference);
            let config = write(&folder, "pictured.yaml", &text);
            let run = folder.join(format!("{reference}{}", freeze.len()));
            told(&mut train(&config, &run)).fine();
            (
                curve(&run, "dpo", "dpo/loss"),
                curve(&run, "dpo", "dpo/accuracy"),
            )
        });
        let [(cached, accuracy), (policy, _)] = &curves;
        // The same words are right for two pictures and wrong for the others.
        assert_eq!(accuracy[11], 1.0, "{freeze}: {accuracy:?} {cached:?}");
        assert!((cached[0] - 2f64.ln()).abs() < 1e-4, "{cached:?}");
        for (own, other) in cached.iter().zip(policy).take(3) {
            assert!(
                (own - other).abs() < 1e-3,
                "{freeze}: {cached:?} {policy:?}"
            );
        }
    }
}
