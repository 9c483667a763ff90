//! An SVG ends where its root closes, whoever reads it: rows of every layout, completions of every format, scoring alone.

use serde_json::{Value, json};

use super::program::{program, rows, scratch, told, write, write_rows};
use super::tiny::TOKENIZER;

/// Drawings that hold what looks like their own end, all of the same picture.
fn drawings() -> Vec<String> {
    let open = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">"#;
    let rest = r#"<rect x="8" y="8" width="40" height="40" fill="red"/></svg>"#;
    [
        r#"<svg x="1" y="1" width="4" height="4"><svg/></svg>"#,
        "<!-- not yet </svg> nor <svg> -->",
        "<style><![CDATA[/* </svg> */]]></style>",
        "<?note </svg> ?>",
    ]
    .map(|inside| format!("{open}{inside}{rest}"))
    .into()
}

const CONFIG: &str = "\
model:
  tokenizer: TOKENIZER
  init: {architecture: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16}
device: cpu
threads: 1
data: {sources: {d: {format: FORMAT, path: rows.jsonl}}}
tasks:
  draw: {type: text_to_svg, completion: {format: svg, surrounding_text: true}, render: {size: 32}, rubric: {rewards: [{type: mse}]}}
  sgp: {type: text_to_svg, completion: {format: sgp}, render: {size: 32}, rubric: {rewards: [{type: mse}]}}
  ctrl_s: {type: text_to_svg, completion: {format: ctrl_s}, render: {size: 32}, rubric: {rewards: [{type: mse}]}}
  released: {type: text_to_svg, completion: {format: svg, surrounding_text: true, extraction: as_released}, render: {size: 32}, rubric: {rewards: [{type: mse}]}}
stages: [{algorithm: sft, steps: 1, batch: {size: 4}, checkpoint: {every: 0, at_end: false}}]
";

#[test]
fn rows_of_every_layout_are_trained_on_whole() {
    let layouts: [(&str, fn(&str) -> Value); 3] = [
        (
            "messages",
            |svg| json!({"messages": [{"role": "user", "content": "draw"}, {"role": "assistant", "content": format!("Here:\n```svg\n{svg}\n```")}]}),
        ),
        (
            "alpaca",
            |svg| json!({"instruction": "draw", "output": svg}),
        ),
        (
            "sharegpt",
            |svg| json!({"conversations": [{"from": "human", "value": "draw"}, {"from": "gpt", "value": svg}]}),
        ),
    ];
    for (format, row) in layouts {
        let folder = scratch(&format!("nested_{format}"));
        let data: Vec<Value> = drawings().iter().map(|svg| row(svg)).collect();
        write_rows(&folder, "rows.jsonl", &data);
        let text = CONFIG.replace("TOKENIZER", TOKENIZER);
        let text = text
            .replace("FORMAT", format)
            .replace("path: rows.jsonl}", "path: rows.jsonl, task: draw}");
        let config = write(&folder, "config.yaml", &text);
        let mut command = program();
        command
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(folder.join("run"));
        told(&mut command).fine();
    }
}

#[test]
fn completions_of_every_format_are_scored_whole() {
    let folder = scratch("nested_rows");
    let text = CONFIG
        .replace("TOKENIZER", TOKENIZER)
        .replace("FORMAT", "jsonl");
    let config = write(
        &folder,
        "config.yaml",
        &text.replace("path: rows.jsonl}", "path: rows.jsonl, task: draw}"),
    );
    let all = drawings();
    let mut data = Vec::new();
    for svg in &all {
        for (task, completion) in [
            ("draw", svg.clone()),
            ("draw", format!("The <svg> tag:\n```svg\n{svg}\n```\n")),
            ("sgp", format!("a</think> <answer>{svg}</answer>")),
            ("ctrl_s", format!("<think>a</think>\n```svg\n{svg}\n```")),
            ("released", format!("Here: {svg}")),
        ] {
            data.push(json!({"task": task, "completion": completion, "reference": {"svg": svg}}));
        }
    }
    let data = write_rows(&folder, "data.jsonl", &data);
    let out = folder.join("out.jsonl");
    let mut command = program();
    command.arg("reward").arg("--config").arg(&config);
    told(command.arg("--data").arg(&data).arg("--out").arg(&out)).fine();
    for (index, row) in rows(&out).iter().enumerate() {
        // As papers' code has it, each is cut short, and is no XML then.
        let whole = index % 5 != 4;
        assert_eq!(
            (&row["total"], &row["valid"]),
            (&json!(f64::from(u8::from(whole))), &json!(whole)),
            "{index}: {row}"
        );
    }
}
