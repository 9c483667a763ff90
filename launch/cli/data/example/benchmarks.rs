//! The benchmark that a system is reported on, in small: a few rows in its published layout, and `suite.yaml`, by which `svgrl eval
//! SUITE --config suite.yaml --run RUN` judges the trained policy.

use serde_json::{Value, json};
use svg::{CanvasRule, RenderConfig, Target, draw_own};

use super::super::super::CliFailure;
use super::drawings::ExampleDrawing;
use super::encoders;
use super::folder::ExampleFolder;
use super::sagoge::turns;

/// Pixels of SArena's and SVG-Sophia's pictures.
const SIDE: u32 = 448;

/// A drawing as these benchmarks show it: a PNG.
fn picture(drawing: &ExampleDrawing) -> Result<Vec<u8>, CliFailure> {
    let config = RenderConfig {
        canvas: CanvasRule::Fixed,
        size: SIDE,
        ..RenderConfig::default()
    };
    let target = Target::Exact {
        width: SIDE,
        height: SIDE,
    };
    let drawn = draw_own(&drawing.svg, target, &config).map_err(CliFailure::other)?;
    drawn.to_png().map_err(CliFailure::other)
}

/// SArena-Icon in `data/SArena/Icon`: generation, one kind of editing, understanding.
///
/// # Errors
/// Whatever the file system says.
pub fn sarena(folder: &ExampleFolder, drawn: &[ExampleDrawing]) -> Result<(), CliFailure> {
    const ROOT: &str = "data/SArena/Icon";
    let (mut texts, mut images, mut captions) = (Vec::new(), Vec::new(), Vec::new());
    let (mut edits, mut questions) = (Vec::new(), Vec::new());
    for (id, drawing) in drawn.iter().enumerate() {
        let (image, words) = (format!("images/{id}.png"), &drawing.words);
        let png = picture(drawing)?;
        folder.bytes(&format!("{ROOT}/generation/{image}"), &png)?;
        folder.bytes(&format!("{ROOT}/edit/data/color_simple/{image}"), &png)?;
        let row = |asked: &str| json!({"id": id, "conversations": turns(asked, &drawing.svg)});
        texts.push(row(&format!("Instruction: {words}")));
        let mut shown = row("<image>\nInstruction: draw this");
        shown["image"] = json!(image);
        images.push(shown);
        captions
            .push(json!({"image": format!("{id}.png"), "caption": [{"generated_text": words}]}));
        edits.push(row(&format!(
            "{}\nInstruction: make it {words}",
            drawing.draft
        )));
        let other = &drawn[(id + 1) % drawn.len()].words;
        let mut asked = json!({
            "id": id, "conversations": turns(&format!("{}\nA: {words}\nB: {other}", drawing.svg), "A"),
        });
        asked["Subject"] = json!("Semantic");
        questions.push(asked);
    }
    let generation = format!("{ROOT}/generation");
    folder.lines(&format!("{generation}/text2svg.jsonl"), &texts)?;
    folder.lines(&format!("{generation}/img2svg.jsonl"), &images)?;
    folder.lines(&format!("{generation}/caption.jsonl"), &captions)?;
    folder.lines(&format!("{ROOT}/edit/color_simple.jsonl"), &edits)?;
    folder.lines(&format!("{ROOT}/understanding/sarena_un.jsonl"), &questions)?;
    encoders::long_clip(folder, "encoders/clip-l14")?;
    encoders::dinov2(folder, "encoders/dinov2-base")?;
    encoders::lpips(folder, "encoders/lpips")?;
    folder.text(
        "suite.yaml",
        "\
# SArena-Icon in small: svgrl eval sarena-icon --config suite.yaml --run RUN --out SCORES
data: data/SArena/Icon
encoders: {clip_l14: encoders/clip-l14, dinov2: encoders/dinov2-base, lpips: encoders/lpips}
tokenizer: models/tiny-internvl3
sampling: {max_new_tokens: 128}
",
    )
}

/// SVG-Sophia's refinement set beside its other files; `rows` are its rows.
///
/// # Errors
/// Whatever the file system says.
pub fn sophia(
    folder: &ExampleFolder,
    drawn: &[ExampleDrawing],
    row: fn(usize, &ExampleDrawing) -> Value,
) -> Result<(), CliFailure> {
    const ROOT: &str = "data/SVG-Sophia";
    let mut rows = Vec::new();
    for (index, drawing) in drawn.iter().enumerate() {
        let image = format!("test/{index}.png");
        folder.bytes(&format!("{ROOT}/{image}"), &picture(drawing)?)?;
        let mut row = row(index, drawing);
        row["images"] = json!([image]);
        rows.push(row);
    }
    folder.lines(&format!("{ROOT}/cot_refinement_test.jsonl"), &rows)?;
    encoders::lpips(folder, "encoders/lpips")?;
    folder.text(
        "suite.yaml",
        "\
# SVG-Sophia's refinement set in small: svgrl eval sophia-refine --config suite.yaml --run RUN --out SCORES
data: data/SVG-Sophia
encoders: {dinov2: encoders/dinov2-base, lpips: encoders/lpips}
tokenizer: models/tiny-qwen3-vl
sampling: {max_new_tokens: 192}
",
    )
}

/// The config of VectorGym's own table; its judge is named on the command line.
///
/// # Errors
/// Whatever the file system says.
pub fn vectorgym(folder: &ExampleFolder) -> Result<(), CliFailure> {
    encoders::long_clip(folder, "encoders/clip-b32")?;
    encoders::dinov2(folder, "encoders/dinov2-base")?;
    folder.text(
        "suite.yaml",
        "\
# VectorGym's test rows in small: svgrl eval vectorgym --config suite.yaml --run RUN --out SCORES
# Its four scores need a judge: --set \"judge={endpoint: URL, model: NAME}\"
data: data/VectorGym
encoders: {clip_b32: encoders/clip-b32, dinov2: encoders/dinov2-base, lpips: encoders/lpips-alex, bge_m3: encoders/bge-m3}
tokenizer: models/tiny-qwen3-vl
sampling: {max_new_tokens: 128}
",
    )
}

/// SGP-GenBench in `data/SGP-GenBench`: objects, scenes and compositions.
///
/// # Errors
/// Whatever the file system says.
pub fn genbench(folder: &ExampleFolder, drawn: &[ExampleDrawing]) -> Result<(), CliFailure> {
    const ROOT: &str = "data/SGP-GenBench";
    let (objects, scenes) = drawn.split_at(drawn.len() / 2);
    let rows: Vec<Value> = objects
        .iter()
        .map(|drawing| {
            json!({
                "description": drawing.words, "svg_content": drawing.svg, "major_class": "shapes", "sub_class": "shape",
                "appearance": "plain", "api_call_success": true, "classification": {"is_of_class": true},
            })
        })
        .collect();
    folder.json(&format!("{ROOT}/SGP-Object.json"), &json!(rows))?;
    let mut rows = Vec::new();
    for (id, drawing) in scenes.iter().enumerate() {
        let name = format!("{id:012}.png");
        folder.bytes(&format!("{ROOT}/val2017/{name}"), &drawing.png)?;
        rows.push(json!({
            "image_id": id, "caption": drawing.words, "image_path": format!("data/coco/val2017/{name}"), "prompt": "",
        }));
    }
    folder.json(&format!("{ROOT}/coco_test_data.json"), &json!(rows))?;
    let row = |id: &str, prompt: &str, major: &str, minor: &str, metadata: Value| {
        json!({
            "id": id, "prompt": prompt, "gen_type": "template", "major_type": major, "minor_type": minor,
            "metadata": metadata,
        })
    };
    let counts = json!([{"noun": "circles", "count": 1}, {"noun": "squares", "count": 2}]);
    let rows = json!([
        row(
            "color_binding_template_1",
            "a red circle and a blue square",
            "binding",
            "color",
            json!({"colors": ["red", "blue"], "nouns": ["circle", "square"]})
        ),
        row(
            "2d_spatial_template_1",
            "a circle left of a square",
            "relation",
            "2d_spatial",
            json!({"relation": "left of", "nouns": ["circle", "square"]})
        ),
        row(
            "numeracy_template_1",
            "one circle and two squares",
            "numeracy",
            "numeracy",
            json!({"total_count": 3, "object_counts": counts})
        ),
    ]);
    folder.json(&format!("{ROOT}/sgp-compbench-prompts.json"), &rows)?;
    folder.text(
        "suite.yaml",
        "\
# SGP-GenBench in small: svgrl eval sgp-genbench --config suite.yaml --run RUN --out SCORES
# Compositions need a judge: --set \"judge={endpoint: URL, model: NAME}\"
data: data/SGP-GenBench
encoders: {siglip_base: encoders/siglip, dinov2_small: encoders/dinov2-small}
sampling: {max_new_tokens: 160, samples: 2}
",
    )
}
