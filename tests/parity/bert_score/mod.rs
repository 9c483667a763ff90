//! BERTScore of pairs of texts, by `svgrl reward`, against the bert_score package.

use serde_json::{Value, json};

use crate::cli::program::{program, rows, scratch, told, write, write_rows};
use crate::cli::tiny::TOKENIZER;
use crate::support::fixture;

const CONFIG: &str = "\
model: {tokenizer: TOKENIZER, init: {}}
device: cpu
data: {sources: {shapes: {format: shapes, task: caption}}}
encoders: {words: {path: ENCODER}}
tasks:
  caption:
    completion: {format: text}
    rubric:
      rewards:
        - {type: bert_score, name: f1, encoder: words, layer: 1}
        - {type: bert_score, name: precision, encoder: words, layer: 1, measure: precision}
        - {type: bert_score, name: recall, encoder: words, layer: 2, measure: recall, baseline: 0.25}
stages: [{algorithm: grpo}]
";

fn config(folder: &std::path::Path) -> std::path::PathBuf {
    let encoder = fixture("parity/encoders/bge_m3").display().to_string();
    let text = CONFIG
        .replace("TOKENIZER", TOKENIZER)
        .replace("ENCODER", &encoder);
    write(folder, "config.yaml", &text)
}

#[test]
fn bert_score_equals_its_package() {
    let text = std::fs::read_to_string(fixture("parity/bert_score/expected.json")).unwrap();
    let expected: Vec<Value> = serde_json::from_str(&text).unwrap();
    let [first, second]: [Vec<&Value>; 2] = [1, 2].map(|layer| {
        expected
            .iter()
            .filter(|row| row["layer"] == layer)
            .collect()
    });
    let data: Vec<Value> = first
        .iter()
        .enumerate()
        .map(|(id, row)| json!({"id": id, "prompt": "", "completion": row["completion"], "reference": {"text": row["reference"]}}))
        .collect();
    for batch in ["1", "3"] {
        let folder = scratch(&format!("bert_score_{batch}"));
        let data = write_rows(&folder, "data.jsonl", &data);
        let out = folder.join("out.jsonl");
        let mut command = program();
        command.args(["reward", "--set", &format!("encoders.words.batch={batch}")]);
        command.arg("--config").arg(config(&folder));
        told(command.arg("--data").arg(data).arg("--out").arg(&out)).fine();
        let out = rows(&out);
        assert_eq!((out.len(), second.len()), (first.len(), first.len()));
        for (index, got) in out.iter().enumerate() {
            let recall = second[index]["recall"].as_f64().unwrap();
            let wanted = [
                ("f1", first[index]["f1"].as_f64().unwrap()),
                ("precision", first[index]["precision"].as_f64().unwrap()),
                ("recall", (recall - 0.25) / 0.75),
            ];
            for (part, want) in wanted {
                let far = (got["parts"][part].as_f64().unwrap() - want).abs();
                println!("batch {batch}, {index}, {part}: {far:e}");
                assert!(far < 1e-5, "{part}: {got} and {want}");
            }
        }
    }
}

#[test]
fn an_encoder_or_a_layer_that_bert_score_cannot_use_is_refused_by_key() {
    let folder = scratch("bert_score_refused");
    let clip = format!(
        "encoders.words.path={}",
        fixture("parity/encoders/clip").display()
    );
    let data = write_rows(&folder, "data.jsonl", &[]);
    for (set, parts) in [
        (
            "tasks.caption.rubric.rewards.0.layer=3",
            ["tasks.caption.rubric.rewards.0.layer", "got 3"],
        ),
        (
            "tasks.caption.rubric.rewards.1.layer=null",
            ["tasks.caption.rubric.rewards.1.layer", "from 1 to 2"],
        ),
        (
            "tasks.caption.rubric.rewards.2.baseline=1",
            ["rewards.2.baseline", "below 1"],
        ),
        (
            "tasks.caption.completion.format=svg",
            ["rewards.0.type", "words"],
        ),
        (&clip, ["rewards.0.encoder", "XLM-RoBERTa"]),
    ] {
        let mut command = program();
        command.args(["reward", "--set", set]);
        command.arg("--config").arg(config(&folder));
        let out = folder.join("out.jsonl");
        told(command.arg("--data").arg(&data).arg("--out").arg(out)).refused(2, &parts);
    }
}
