//! VectorGym: one Parquet table, a row being a sketch, an edit, words and a caption of one drawing.

use std::sync::Arc;

use arrow_array::builder::BinaryBuilder;
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, Field, Fields};
use parquet::arrow::ArrowWriter;

use super::super::super::CliFailure;
use super::benchmarks;
use super::drawings::{ExampleDrawing, drawings};
use super::fit::FitPlan;
use super::folder::ExampleFolder;
use super::policy::PolicyFamily;
use super::system::SystemExample;
use super::{encoders, policy};

pub const EXAMPLE: SystemExample = SystemExample {
    base: "vectorgym.yaml",
    config: include_str!("../../../../configs/vectorgym.yaml"),
    twin: TWIN,
    write,
    fit: Some(FIT),
};

const TWIN: &str = "\
# VectorGym in small: the same stage over the rows beside this file, sizes and paths replaced.
base: vectorgym.yaml
model: {path: models/tiny-qwen3-vl}
data:
  sources:
    sketch: {held_out: 4}
    edit: {held_out: 4}
    text: {held_out: 4}
    caption: {held_out: 4}
stages:
  - name: rl
    steps: 4
    batch: {size: 8}
    rollout: {group_size: 4, max_prompt_tokens: 400, max_new_tokens: 128}
    optimizer: {learning_rate: 1.0e-4}
    eval: {every: 0, prompts: 8}
";

/// How the policy is fitted.
const FIT: FitPlan = FitPlan {
    max_tokens: 400,
    evaluated: (128, 16),
    answers: None,
};

const ROWS: usize = 32;

fn write(folder: &ExampleFolder) -> Result<(), CliFailure> {
    policy::write(folder, "models/tiny-qwen3-vl", PolicyFamily::Qwen3Vl)?;
    encoders::lpips(folder, "encoders/lpips-alex")?;
    encoders::dreamsim(folder, "encoders/dreamsim")?;
    encoders::bge_m3(folder, "encoders/bge-m3")?;
    let drawn = drawings(ROWS + 4, folder.seed)?;
    let (train, test) = drawn.split_at(ROWS);
    for (split, rows) in [("train", train), ("test", test)] {
        let table = table(split, rows).map_err(CliFailure::other)?;
        let mut bytes = Vec::new();
        let mut writer =
            ArrowWriter::try_new(&mut bytes, table.schema(), None).map_err(CliFailure::other)?;
        writer.write(&table).map_err(CliFailure::other)?;
        writer.close().map_err(CliFailure::other)?;
        let file = format!("data/VectorGym/data/{split}-00000-of-00001.parquet");
        folder.bytes(&file, &bytes)?;
    }
    benchmarks::vectorgym(folder)
}

/// The published columns. An edit turns the flawed drawing into the exact one.
fn table(split: &str, rows: &[ExampleDrawing]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let text = |of: &dyn Fn(usize, &ExampleDrawing) -> String| -> ArrayRef {
        let values = rows
            .iter()
            .enumerate()
            .map(|(index, row)| Some(of(index, row)));
        Arc::new(StringArray::from_iter(values))
    };
    let mut bytes = BinaryBuilder::new();
    rows.iter().for_each(|row| bytes.append_value(&row.png));
    let fields = Fields::from(vec![
        Field::new("bytes", DataType::Binary, true),
        Field::new("path", DataType::Utf8, true),
    ]);
    let path = text(&|index, _| format!("{index}.png"));
    let sketch = StructArray::try_new(fields, vec![Arc::new(bytes.finish()), path], None)?;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("svg_id", text(&|index, _| format!("{split}-{index}"))),
        ("sketch_category", text(&|_, _| "shapes".to_owned())),
        ("text_caption", text(&|_, row| row.words.clone())),
        ("sketch_image", Arc::new(sketch)),
        (
            "editing_prompt",
            text(&|_, row| format!("make it {}", row.words)),
        ),
        ("editing_target_svg", text(&|_, row| row.svg.clone())),
        ("split", text(&|_, _| split.to_owned())),
        (
            "editing_annotation_index",
            Arc::new(Int64Array::from(vec![0; rows.len()])),
        ),
        ("original_svg", text(&|_, row| row.svg.clone())),
        (
            "is_chart",
            Arc::new(BooleanArray::from(vec![false; rows.len()])),
        ),
    ];
    RecordBatch::try_from_iter(columns)
}
