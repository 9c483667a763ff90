//! SVG-Sophia's refinement set (CTRL-S, arXiv 2603.16189): `cot_refinement_test.jsonl`, 934 rows of instruction, flawed SVG and
//! picture. Predictions lie in the folder itself: `output.jsonl`, `svg/{id}.svg`, `images/{id}.png`, an item's id being the name
//! of its picture without the ending.
//!
//! Rules of the released script: the first `<svg .. </svg>` of the whole answer counts, whatever stands around it; an item
//! without picture or without SVG is a black picture.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rewards::ImageSource;
use serde_json::Value;

use super::eval_canvas::EvalCanvas;
use super::item::Mix;
use super::jsonl::{SuiteRow, read_rows};
use super::picture_metric::PictureMetric;
use super::picture_task::{EvalReference, PictureRow, PictureTask};
use super::suite::{SUCCESS, SuiteTasks};

/// The task's name.
const TASK: &str = "refinement";
/// The file of the published set.
const FILE: &str = "cot_refinement_test.jsonl";

const METRICS: [PictureMetric; 4] = [
    PictureMetric::Dino,
    PictureMetric::Ssim,
    PictureMetric::Lpips,
    PictureMetric::Tokens,
];

/// Reads the set: its folder, or the file itself; pictures are relative to the file.
pub fn read(data: &Path) -> SuiteTasks {
    let file = match data.is_file() {
        true => data.to_owned(),
        false => data.join(FILE),
    };
    let mut tasks = SuiteTasks {
        suite: "sophia-refine".into(),
        ..SuiteTasks::default()
    };
    let rows = read_rows(&file, &mut tasks.notes).unwrap_or_else(|error| {
        tasks.notes.push(error);
        Vec::new()
    });
    let folder = file.parent().unwrap_or(Path::new(""));
    let mut seen = HashSet::new();
    let mut items = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        match item(row, index, folder) {
            Ok(item) if seen.insert(item.id.clone()) => items.push(item),
            Ok(item) => tasks.notes.push(format!(
                "{}: id {} stands twice (the row is left out)",
                row.place, item.id
            )),
            Err(problem) => {
                let note = format!("{}: {problem} (the row is left out)", row.place);
                tasks.notes.push(note);
            }
        }
    }
    tasks.pictures.push(PictureTask {
        name: TASK.into(),
        folder: PathBuf::new(),
        canvas: EvalCanvas::SOPHIA,
        metrics: METRICS.to_vec(),
        rows: items,
    });
    tasks
}

fn item(row: &SuiteRow, index: usize, folder: &Path) -> Result<PictureRow, String> {
    let Value::String(instruction) = &row.value["instruction"] else {
        let got = &row.value["instruction"];
        return Err(format!("instruction: must be text, got {got}"));
    };
    let Value::String(picture) = &row.value["images"][0] else {
        let got = &row.value["images"];
        return Err(format!("images: must be a list with a path, got {got}"));
    };
    let picture = folder.join(picture);
    let stem = picture
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_else(|| index.to_string());
    // The released script makes numbers of names that are some.
    let id = stem
        .parse::<i64>()
        .map_or(stem, |number| number.to_string());
    let input = row.value["input"]
        .as_str()
        .filter(|input| !input.is_empty());
    Ok(PictureRow {
        id,
        question: match input {
            Some(input) => format!("{instruction}{input}"),
            None => instruction.clone(),
        },
        shown: Some(ImageSource::Path(picture.clone())),
        reference: EvalReference::File(picture),
        caption: None,
    })
}

/// The task's numbers, which are the suite's.
pub fn headlines() -> IndexMap<String, Mix> {
    let names = METRICS.map(PictureMetric::name);
    let names = std::iter::once(SUCCESS).chain(names);
    names
        .map(|metric| (metric.to_owned(), Mix::default().and(1.0, TASK, metric)))
        .collect()
}
