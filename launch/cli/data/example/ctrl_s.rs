//! CTRL-S: rows of SAgoge as InternVL's conversations, rows of SVG-Sophia as `instruction`, `input`, `output`, `images`.

use serde_json::{Value, json};

use super::super::super::CliFailure;
use super::benchmarks;
use super::drawings::{ExampleDrawing, drawings};
use super::folder::ExampleFolder;
use super::policy::PolicyFamily;
use super::sagoge::sagoge;
use super::system::SystemExample;
use super::{encoders, policy};

pub const EXAMPLE: SystemExample = SystemExample {
    base: "ctrl_s.yaml",
    config: include_str!("../../../../configs/ctrl_s.yaml"),
    twin: TWIN,
    write,
    fit: None,
};

const TWIN: &str = "\
# CTRL-S in small: the same stages over the rows beside this file, sizes and paths replaced.
base: ctrl_s.yaml
model: {path: models/tiny-qwen3-vl}
data:
  sources:
    rl_text: {held_out: 8}
    rl_image: {held_out: 8}
    rl_refine: {held_out: 8}
encoders:
  lclip: {path: encoders/longclip}
stages:
  - name: sft_sagoge
    steps: 60
    max_tokens: 400
    batch: {size: 12}
    optimizer: {learning_rate: 5.0e-3}
  - name: sft_sophia
    epochs: 14
    max_tokens: 400
    batch: {size: 12}
    optimizer: {learning_rate: 4.0e-3}
  - name: rl
    epochs: 0.25
    batch: {size: 8}
    rollout: {group_size: 4, max_prompt_tokens: 400, max_new_tokens: 192}
    optimizer: {learning_rate: 1.0e-4}
    eval: {every: 0, prompts: 6}
";

/// Rows of a file.
const ROWS: usize = 32;

fn write(folder: &ExampleFolder) -> Result<(), CliFailure> {
    policy::write(folder, "models/tiny-qwen3-vl", PolicyFamily::Qwen3Vl)?;
    encoders::dinov2(folder, "encoders/dinov2-base")?;
    encoders::long_clip(folder, "encoders/longclip")?;
    let drawn = drawings(ROWS, folder.seed)?;
    sagoge(folder, "stage2/icon", &drawn)?;
    let sophia = "data/SVG-Sophia";
    for (index, drawing) in drawn.iter().enumerate() {
        folder.bytes(&format!("{sophia}/images/{index}.png"), &drawing.png)?;
    }
    for (task, row) in [
        ("text2svg", text as fn(usize, &ExampleDrawing) -> Value),
        ("img2svg", image),
        ("refinement", refinement),
    ] {
        let rows: Vec<Value> = drawn.iter().enumerate().map(|(i, d)| row(i, d)).collect();
        for split in ["sft", "rl"] {
            folder.lines(&format!("{sophia}/cot_{task}_{split}.jsonl"), &rows)?;
        }
    }
    benchmarks::sophia(folder, &drawn[..6], refinement)
}

/// Thoughts, then the drawing in a fence.
fn answer(drawing: &ExampleDrawing) -> String {
    format!(
        "<think>Canvas: 128 x 128\nImage Description: {}\nDrawing Steps: 1</think>\n```svg\n{}\n```",
        drawing.words, drawing.svg
    )
}

fn row(instruction: String, images: Value, drawing: &ExampleDrawing) -> Value {
    json!({"instruction": instruction, "input": "", "output": answer(drawing), "images": images})
}

fn text(_: usize, drawing: &ExampleDrawing) -> Value {
    let asked = format!("Think, then draw.\nInstruction: {}", drawing.words);
    row(asked, json!([]), drawing)
}

fn image(index: usize, drawing: &ExampleDrawing) -> Value {
    let asked = "Think, then draw.\nImage: <image>\nInstruction: draw this".to_owned();
    row(asked, json!([format!("images/{index}.png")]), drawing)
}

fn refinement(index: usize, drawing: &ExampleDrawing) -> Value {
    let asked = format!(
        "Think, then draw.\nImage: <image>\nInstruction: {}\nDraft Code:\n{}",
        drawing.words, drawing.draft
    );
    row(asked, json!([format!("images/{index}.png")]), drawing)
}
