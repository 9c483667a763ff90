//! InternSVG: SAgoge's two stages, a folder for each domain and task.

use serde_json::{Value, json};

use super::super::super::CliFailure;
use super::benchmarks::sarena;
use super::drawings::drawings;
use super::folder::ExampleFolder;
use super::policy;
use super::policy::PolicyFamily;
use super::sagoge::{sagoge, turns};
use super::system::SystemExample;

pub const EXAMPLE: SystemExample = SystemExample {
    base: "internsvg.yaml",
    config: include_str!("../../../../configs/internsvg.yaml"),
    twin: TWIN,
    write,
    fit: None,
};

const TWIN: &str = "\
# InternSVG in small: the same stages over the rows beside this file, sizes and paths replaced.
base: internsvg.yaml
model: {path: models/tiny-internvl3}
data:
  sources:
    icon_text_1: {held_out: 2}
    icon_image_1: {held_out: 2}
    icon_text_2: {held_out: 2}
    icon_image_2: {held_out: 2}
stages:
  - name: stage1
    epochs: 4
    max_tokens: 400
    batch: {size: 12}
    optimizer: {learning_rate: 4.0e-3}
    eval: {prompts: 4, max_new_tokens: 128}
  - name: stage2
    epochs: 8
    max_tokens: 400
    batch: {size: 12}
    optimizer: {learning_rate: 4.0e-3}
    eval: {prompts: 4, max_new_tokens: 128}
";

const ROWS: usize = 16;

fn write(folder: &ExampleFolder) -> Result<(), CliFailure> {
    policy::write(folder, "models/tiny-internvl3", PolicyFamily::InternVl3)?;
    for (stage, domains) in [
        ("stage1", &["icon", "chemistry"][..]),
        ("stage2", &["icon", "illustration", "chemistry"]),
    ] {
        for (index, domain) in domains.iter().enumerate() {
            let drawn = drawings(ROWS, folder.seed + index as u64)?;
            let root = format!("{stage}/{domain}");
            sagoge(folder, &root, &drawn)?;
            if *domain != "icon" {
                continue;
            }
            let root = format!("data/SAgoge/{root}");
            let edits = drawn.iter().enumerate().map(|(id, drawing)| {
                let asked = format!("{}\nInstruction: make it {}", drawing.draft, drawing.words);
                json!({"id": id, "conversations": turns(&asked, &drawing.svg)})
            });
            let edits: Vec<Value> = edits.collect();
            folder.lines(&format!("{root}/edit/train.jsonl"), &edits)?;
            let questions = drawn.iter().enumerate().map(|(id, drawing)| {
                let other = &drawn[(id + 1) % drawn.len()].words;
                let asked = format!("<image>\nA: {}\nB: {other}", drawing.words);
                let image = format!("icon/{id}.png");
                json!({"id": id, "image": image, "conversations": turns(&asked, "A")})
            });
            let questions: Vec<Value> = questions.collect();
            folder.lines(&format!("{root}/understanding/train.jsonl"), &questions)?;
        }
    }
    sarena(folder, &drawings(4, folder.seed + 7)?)?;
    // Animations: one from words, one from a video, which is not read.
    let still = &drawings(1, folder.seed)?[0];
    let moving = still.svg.replace(
        "</svg>",
        "<animate attributeName=\"opacity\" from=\"0\" to=\"1\" dur=\"1s\"/></svg>",
    );
    let rows = [
        json!({"id": 0, "conversations": turns(&format!("Instruction: {}", still.words), &moving)}),
        json!({"id": 1, "video": "animation/1.mp4", "conversations": turns("<video>\nInstruction: draw this", &moving)}),
    ];
    folder.lines("data/SAgoge/stage2/animation/text2sani/train.jsonl", &rows)
}
