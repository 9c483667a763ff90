//! CTRL-S' reward as the paper has it and as its released training code computes it, by one key of the task.

use serde_json::{Value, json};

use super::program::{program, rows, scratch, told, write, write_rows};
use super::tiny::{TOKENIZER, drawing};
use crate::support;

#[test]
fn one_key_chooses_between_the_paper_and_its_code() {
    let folder = scratch("released");
    let clip = support::fixture("parity/encoders/clip");
    let text = format!(
        "name: r\ndevice: cpu\nthreads: 1\n\
         model: {{tokenizer: {TOKENIZER}, init: {{hidden_size: 8, num_attention_heads: 1, num_key_value_heads: 1}}}}\n\
         data: {{sources: {{s: {{format: shapes, task: draw}}}}}}\n\
         encoders: {{clip: {{path: {clip:?}}}}}\n\
         tasks:\n  draw:\n    type: text_to_svg\n    completion: {{format: ctrl_s}}\n    render: {{size: 32}}\n    rubric: {{gate: product, rewards: [{{type: code_efficiency, weight: 0.5}}, {{type: image_text, encoder: clip, weight: 0.5}}]}}\n\
         stages: [{{algorithm: grpo}}]\n"
    );
    let config = write(&folder, "r.yaml", &text);
    let circle = drawing(r#"<circle cx="32" cy="32" r="12" fill="red"/>"#);
    let long = drawing(&r#"<circle cx="32" cy="32" r="12" fill="red"/>"#.repeat(9));
    let fence = |svg: &str| format!("```svg\n{svg}\n```");
    let row = |id: usize, completion: String, caption: &str| json!({"id": id, "prompt": caption, "completion": completion, "reference": {"svg": circle, "text": caption}});
    let endless = "a red dot ".repeat(300);
    let data = write_rows(
        &folder,
        "rows.jsonl",
        &[
            row(
                0,
                format!("<think>a</think>{}", fence(&circle)),
                "a red dot",
            ),
            row(1, format!("<think>a</think>{}", fence(&long)), "a red dot"),
            row(2, format!("<think>a</think>{}", fence(&circle)), &endless),
            // Drawn in the thoughts, and thought behind the drawing.
            row(
                3,
                format!("<think>{circle}</think>{}", fence(&long)),
                "a red dot",
            ),
            row(
                4,
                format!("{}<think>a</think>", fence(&circle)),
                "a red dot",
            ),
        ],
    );
    let scores = |set: &[&str]| -> Vec<Value> {
        let out = folder.join("out.jsonl");
        let mut reward = program();
        reward
            .arg("reward")
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&data);
        reward.args(set.iter().flat_map(|set| ["--set", set]));
        told(reward.arg("--out").arg(&out)).fine();
        rows(&out)
    };
    let part = |row: &Value, name: &str| row["parts"][name].as_f64().unwrap();
    let paper = scores(&[]);
    let code = scores(&["tasks.draw.variant=as_released"]);
    // At equal length, with 1e-8 more characters of the reference.
    assert_eq!(part(&paper[0], "code_efficiency"), 0.75);
    let length = circle.chars().count() as f64;
    let equal = 1.0 - (length / 2.0 / (length + 1e-8)).powi(2);
    assert_eq!(part(&code[0], "code_efficiency"), equal);
    assert!(part(&paper[1], "code_efficiency") < -1.0);
    assert_eq!(part(&code[1], "code_efficiency"), 0.0);
    // A caption that the network would cut.
    assert_eq!(part(&paper[0], "image_text"), part(&code[0], "image_text"));
    assert!(part(&paper[2], "image_text") != 0.0);
    assert_eq!(part(&code[2], "image_text"), 0.0);
    assert_eq!(
        code[2]["total"].as_f64().unwrap(),
        0.5 * part(&code[2], "code_efficiency")
    );
    // What is scored of a completion, and which order it may have.
    assert!(part(&paper[3], "code_efficiency") < -1.0);
    assert_eq!(part(&code[3], "code_efficiency"), equal);
    assert_eq!(
        (&paper[4]["valid"], &code[4]["valid"]),
        (&false.into(), &true.into())
    );
    // What says it for itself keeps its own.
    let own = scores(&[
        "tasks.draw.variant=as_released",
        "tasks.draw.completion.extraction=strict",
        "tasks.draw.rubric.rewards.image_text.variant=strict",
    ]);
    assert_eq!(own[4]["valid"], false);
    assert_eq!(part(&own[2], "image_text"), part(&paper[2], "image_text"));
    assert_eq!(part(&own[1], "code_efficiency"), 0.0);
}
