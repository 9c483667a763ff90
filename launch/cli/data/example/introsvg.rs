//! IntroSVG: JSON arrays of `messages` with `images`: drawings, corrections and critiques; prompts as CSV.

use serde_json::{Value, json};

use super::super::super::CliFailure;
use super::drawings::{ExampleDrawing, drawings};
use super::folder::ExampleFolder;
use super::policy;
use super::policy::PolicyFamily;
use super::system::SystemExample;

pub const EXAMPLE: SystemExample = SystemExample {
    base: "introsvg.yaml",
    config: include_str!("../../../../configs/introsvg.yaml"),
    twin: TWIN,
    write,
    fit: None,
};

const TWIN: &str = "\
# IntroSVG in small: the same stages over the rows beside this file, sizes, paths and the judge's address replaced.
base: introsvg.yaml
model: {path: models/tiny-qwen2.5-vl}
stages:
  - name: sft
    epochs: 12
    max_tokens: 500
    batch: {size: 16}
    optimizer: {learning_rate: 4.0e-3}
  - name: dpo
    epochs: 2
    max_tokens: 500
    batch: {size: 4}
    optimizer: {learning_rate: 1.0e-4}
    pairs:
      prompts: 12
      rollout: {max_new_tokens: 128}
      judge: {endpoint: \"http://127.0.0.1:8765/v1\"}
";

const ROWS: usize = 24;

fn write(folder: &ExampleFolder) -> Result<(), CliFailure> {
    policy::write(folder, "models/tiny-qwen2.5-vl", PolicyFamily::Qwen25Vl)?;
    let root = "data/IntroSVG-train";
    for (index, name) in ["omnisvg", "svgen", "llm4svg"].iter().enumerate() {
        let drawn = drawings(ROWS, folder.seed + index as u64)?;
        let rows: Vec<Value> = drawn.iter().map(drawing).collect();
        folder.json(&format!("{root}/{name}.json"), &Value::Array(rows))?;
    }
    let drawn = drawings(ROWS, folder.seed)?;
    let corrected: Vec<Value> = drawn.iter().map(correction).collect();
    folder.json(&format!("{root}/refined.json"), &Value::Array(corrected))?;
    let mut critiques = Vec::new();
    for (index, drawing) in drawn.iter().enumerate() {
        let picture = format!("draft_image/{index}.png");
        folder.bytes(&format!("{root}/{picture}"), &drawing.png)?;
        critiques.push(critique(drawing, &picture));
    }
    folder.json(&format!("{root}/critic.json"), &Value::Array(critiques))?;
    let prompts = drawn.iter().enumerate();
    let prompts = prompts.map(|(index, drawing)| format!("{index},{}\n", drawing.words));
    folder.text(
        &format!("{root}/prompts.csv"),
        &("id,desc\n".to_owned() + &prompts.collect::<String>()),
    )
}

fn messages(asked: String, answer: &str, images: Value) -> Value {
    json!({
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}],
        "images": images,
    })
}

fn drawing(drawing: &ExampleDrawing) -> Value {
    let asked = format!(
        "Please generate an SVG icon that meets the following description: {}",
        drawing.words
    );
    messages(asked, &drawing.svg, json!([]))
}

fn correction(drawing: &ExampleDrawing) -> Value {
    let asked = format!(
        "The goal: {}\nThe draft:\n```xml\n{}\n```\nThe critique: not exact\nReply with the corrected SVG.",
        drawing.words, drawing.draft
    );
    messages(asked, &drawing.svg, json!([]))
}

fn critique(drawing: &ExampleDrawing, picture: &str) -> Value {
    let asked = format!("Criticise this drawing of {}.\n<image>", drawing.words);
    let said = json!({"score": 8.0, "critique": "a good drawing", "suggestions": "none"});
    messages(asked, &said.to_string(), json!([picture]))
}
