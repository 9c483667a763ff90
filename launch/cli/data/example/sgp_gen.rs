//! SGP-Gen: descriptions with their programs as JSONL, and COCO's captions with photographs.

use jpeg_encoder::{ColorType, Encoder};
use serde_json::{Value, json};
use svg::Raster;

use super::super::super::CliFailure;
use super::benchmarks;
use super::drawings::drawings;
use super::fit::FitPlan;
use super::folder::ExampleFolder;
use super::policy::PolicyFamily;
use super::system::SystemExample;
use super::{encoders, policy};

pub const EXAMPLE: SystemExample = SystemExample {
    base: "sgp_gen.yaml",
    config: include_str!("../../../../configs/sgp_gen.yaml"),
    twin: TWIN,
    write,
    fit: Some(FIT),
};

const TWIN: &str = "\
# SGP-Gen in small: the same stage over the rows beside this file, sizes and paths replaced.
base: sgp_gen.yaml
model: {path: models/tiny-qwen2.5}
data:
  sources:
    photos: {held_out: 4}
stages:
  - name: rl
    epochs: 0.8
    batch: {size: 8}
    rollout: {group_size: 4, max_prompt_tokens: 400, max_new_tokens: 160}
    optimizer: {learning_rate: 1.0e-4}
    eval: {every: 0, prompts: 4}
";

/// How the policy is fitted: on answers to the same raw prompt, which the published rows do not have.
const FIT: FitPlan = FitPlan {
    max_tokens: 500,
    evaluated: (160, 8),
    answers: Some("{format: jsonl, task: draw, path: fit/answers.jsonl, weight: 1, held_out: 8}"),
};

const ROWS: usize = 40;
const PHOTOS: usize = 12;

fn write(folder: &ExampleFolder) -> Result<(), CliFailure> {
    policy::write(folder, "models/tiny-qwen2.5", PolicyFamily::Qwen25)?;
    encoders::siglip(folder, "encoders/siglip")?;
    encoders::dinov2(folder, "encoders/dinov2-small")?;
    let drawn = drawings(ROWS + PHOTOS, folder.seed)?;
    let (programs, seen) = drawn.split_at(ROWS);
    let rows: Vec<Value> = programs
        .iter()
        .enumerate()
        .map(|(index, drawing)| {
            json!({
                "id": index, "description": drawing.words, "svg": drawing.svg, "success": true,
                "description_length": drawing.words.len(), "element_count": drawing.svg.matches('<').count(),
                "element_complexity": 1.0, "structural_complexity": 1.0, "overall_complexity": 1.0,
            })
        })
        .collect();
    folder.lines("data/svg-gen-70k.jsonl", &rows)?;
    let answers: Vec<Value> = programs
        .iter()
        .map(|drawing| {
            let answer = format!("shapes</think> <answer>{}</answer>", drawing.svg);
            json!({"prompt": drawing.words, "svg": drawing.svg, "target": answer})
        })
        .collect();
    folder.lines("fit/answers.jsonl", &answers)?;
    let (mut images, mut captions) = (Vec::new(), Vec::new());
    for (index, drawing) in seen.iter().enumerate() {
        let file = format!("{index:012}.jpg");
        folder.bytes(
            &format!("data/coco/train2017/{file}"),
            &photograph(&drawing.png)?,
        )?;
        images.push(json!({"id": index, "file_name": file, "width": 128, "height": 128}));
        captions.push(json!({"id": index, "image_id": index, "caption": drawing.words}));
    }
    let captions = json!({"info": {}, "licenses": [], "images": images, "annotations": captions});
    folder.json("data/coco/annotations/captions_train2017.json", &captions)?;
    benchmarks::genbench(folder, &drawings(6, folder.seed + 7)?)
}

/// A picture as a camera stores it: JPEG.
fn photograph(png: &[u8]) -> Result<Vec<u8>, CliFailure> {
    let raster = Raster::from_png(png, 4096).map_err(CliFailure::other)?;
    let side = |length: u32| u16::try_from(length).map_err(CliFailure::other);
    let (width, height) = (side(raster.width)?, side(raster.height)?);
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, 90)
        .encode(&raster.rgb_over([255; 3]), width, height, ColorType::Rgb)
        .map_err(CliFailure::other)?;
    Ok(bytes)
}
