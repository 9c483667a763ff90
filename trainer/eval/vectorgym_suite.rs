//! VectorGym (arXiv 2603.29852) from the folders that its released evaluation code leaves: `sketch/`, `edit/` and `text/`, each
//! with a folder an item that holds `{id}.svg`, `{id}_generated.png`, `{id}_original.png` (or `{id}_gt.svg`, which is drawn),
//! `{id}_input_prompt.txt` and `metadata.json`; and `caption/output.jsonl` with `{"id", "answer", "reference"}`, for which there is no
//! released code. Or from the published table, where a model is asked: in the released words, the sketch alone being shown, as the
//! released code edits by text alone; what is answered lies in `sketch/output.jsonl` and so on.
//!
//! `variant: as_released`: pictures of 512 pixels, white where nothing compiles, MSE in 0..1, LPIPS at 384 pixels, DINO over all
//! tokens, CLIP ViT-B/32, a judge from 1 to 10. The scores are on the paper's scale, 0 to 100. As there, rows of one id
//! are one item, whose last prediction counts.

use std::path::Path;

use indexmap::IndexMap;
use rollout::data::{Catalog, DataConfig, Example};
use serde_json::json;

use super::caption_task::{CaptionRow, CaptionTask};
use super::eval_canvas::EvalCanvas;
use super::item::Mix;
use super::judge_questions::JudgeQuestions;
use super::picture_metric::PictureMetric;
use super::picture_task::{EvalReference, PictureRow, PictureTask};
use super::suite::SuiteTasks;

/// The words of the released prompts before a caption and an instruction.
const TEXT: &str = "Convert the input text into an SVG: ";
const EDIT: &str = "Edit this SVG with the following instruction: ";
const ORIGINAL: &str = "\n\nOriginal SVG:";

/// Reads what predictions hold of the suite.
pub fn read(predictions: &Path) -> SuiteTasks {
    let mut tasks = empty();
    for name in DRAWN {
        let folder = predictions.join(name);
        if !folder.is_dir() {
            tasks.notes.push(format!(
                "{name}: no folder {}: the task is left out",
                folder.display()
            ));
            continue;
        }
        let rows = items(&folder, &mut tasks.notes);
        tasks.pictures.push(of_drawings(name, rows));
    }
    tasks.captions.push(CaptionTask {
        name: "caption".into(),
        rows: Vec::new(),
    });
    tasks
}

/// Reads the published table: `data/test-*.parquet` in its folder, or the folder's own files.
pub fn read_table(data: &Path) -> SuiteTasks {
    let mut tasks = empty();
    let inner = data.join("data");
    let folder = if inner.is_dir() {
        inner
    } else {
        data.to_owned()
    };
    let path = folder.join("test-*.parquet");
    for name in DRAWN.into_iter().chain(["caption"]) {
        let rows = match view(&path, name, &mut tasks.notes) {
            Ok(rows) => rows,
            Err(error) => {
                tasks
                    .notes
                    .push(format!("{name}: {error}: the task is left out"));
                continue;
            }
        };
        // An edit is told from others of its drawing by its number.
        let id = |example: &Example| {
            let own = example
                .id
                .split_once('/')
                .map_or(&*example.id, |(_, id)| id);
            own.to_owned()
        };
        if name == "caption" {
            let row = |example: &Example| CaptionRow {
                id: id(example),
                question: question(name, example),
                answer: Err("no_prediction".into()),
                reference: example.reference.text.clone().unwrap_or_default(),
            };
            tasks.captions.push(CaptionTask {
                name: name.into(),
                rows: distinct(rows.iter().map(|e| (id(e), row(e)))),
            });
            continue;
        }
        let row = |example: &Example| PictureRow {
            id: id(example),
            question: question(name, example),
            shown: example.images.first().cloned(),
            reference: EvalReference::Svg(example.reference.svg.clone().unwrap_or_default()),
            caption: Some(Ok(example.reference.text.clone().unwrap_or_default())),
        };
        let rows = distinct(rows.iter().map(|e| (id(e), row(e))));
        tasks.pictures.push(of_drawings(name, rows));
    }
    tasks
}

/// The first of each id: one drawing stands in a row for each of its edits.
fn distinct<T>(rows: impl Iterator<Item = (String, T)>) -> Vec<T> {
    let mut seen: IndexMap<String, T> = IndexMap::new();
    for (id, row) in rows {
        seen.entry(id).or_insert(row);
    }
    seen.into_values().collect()
}

/// A view of the table's rows; those that are no samples of it are said.
fn view(path: &Path, name: &str, notes: &mut Vec<String>) -> Result<Vec<Example>, String> {
    let source = json!({
        "format": "vectorgym", "view": name, "task": name, "path": path, "split": "held_out",
    });
    let config = json!({"on_bad_row": "skip", "sources": {name: source}});
    let config: DataConfig = serde_json::from_value(config).map_err(|error| error.to_string())?;
    let catalog = Catalog::open(&config, Path::new(""), name).map_err(|error| error.to_string())?;
    let skipped = catalog.skipped();
    if let Some(first) = skipped.first() {
        notes.push(format!(
            "{name}: {} rows are no samples of it (the first: {first})",
            skipped.len()
        ));
    }
    catalog.held_out(&[]).map_err(|error| error.to_string())
}

/// What a model is asked: the released words, and for captions, which the released code does not ask for, those of
/// configs/vectorgym.yaml.
fn question(task: &str, example: &Example) -> String {
    let field = |name: &str| example.fields.get(name).map_or("", String::as_str);
    match task {
        "sketch" => "Convert the input sketch image into an SVG".to_owned(),
        "edit" => format!("{EDIT}{}{ORIGINAL}\n{}", field("prompt"), field("draft")),
        "text" => format!("{TEXT}{}", field("prompt")),
        _ => format!("Describe this drawing: {}", field("draft")),
    }
}

fn empty() -> SuiteTasks {
    SuiteTasks {
        suite: "vectorgym".into(),
        asked: JudgeQuestions::VectorGym,
        ..SuiteTasks::default()
    }
}

/// Tasks of drawings.
const DRAWN: [&str; 3] = ["sketch", "edit", "text"];

fn of_drawings(name: &str, rows: Vec<PictureRow>) -> PictureTask {
    let metrics = match name {
        "text" => vec![
            PictureMetric::ClipTextB32,
            PictureMetric::Dino,
            PictureMetric::Tokens,
        ],
        _ => vec![
            PictureMetric::Mse,
            PictureMetric::Lpips,
            PictureMetric::Dino,
            PictureMetric::Ssim,
            PictureMetric::Tokens,
        ],
    };
    PictureTask {
        name: name.into(),
        folder: name.into(),
        canvas: EvalCanvas::VECTORGYM,
        metrics,
        rows,
    }
}

/// The items of a task's folder, by name.
fn items(folder: &Path, notes: &mut Vec<String>) -> Vec<PictureRow> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // What the released code writes its tables to.
        .filter(|name| name != "results")
        .collect();
    names.sort();
    let mut rows = Vec::new();
    for id in names {
        let own = folder.join(&id);
        let drawn = own.join(format!("{id}_original.png"));
        let code = own.join(format!("{id}_gt.svg"));
        let reference = if drawn.exists() { drawn } else { code };
        if !reference.exists() {
            notes.push(format!(
                "{}: holds neither {id}_original.png nor {id}_gt.svg (the item is left out)",
                own.display()
            ));
            continue;
        }
        let path = own.join(format!("{id}_input_prompt.txt"));
        let caption = std::fs::read_to_string(&path)
            .map(|prompt| asked(&prompt).to_owned())
            .map_err(|error| format!("{}: {error}", path.display()));
        rows.push(PictureRow {
            id,
            question: String::new(),
            shown: None,
            reference: EvalReference::File(reference),
            caption: Some(caption),
        });
    }
    rows
}

/// What a released prompt asks for, without its words around.
fn asked(prompt: &str) -> &str {
    if let Some((_, caption)) = prompt.split_once(TEXT) {
        return caption;
    }
    match prompt.split_once(EDIT) {
        Some((_, rest)) => rest.split_once(ORIGINAL).map_or(rest, |(wish, _)| wish),
        None => prompt,
    }
}

/// The four tasks' scores and their mean, 0 to 100.
pub fn headlines() -> IndexMap<String, Mix> {
    let of_pairs = |task: &str| {
        let mean = Mix {
            constant: 50.0,
            ..Mix::default()
        };
        mean.and(0.25, task, "judge")
            .and(25.0, task, "dino")
            .and(-25.0, task, "mse")
            .and(-25.0, task, "lpips")
    };
    let third = 1.0 / 3.0;
    let text = Mix::default()
        .and(third, "text", "judge")
        .and(third, "text", "clip")
        .and(100.0 * third, "text", "dino");
    let caption = Mix::default()
        .and(third, "caption", "judge")
        .and(100.0 * third, "caption", "bge_m3")
        .and(100.0 * third, "caption", "rouge_l");
    let tasks = [
        ("sketch", of_pairs("sketch")),
        ("edit", of_pairs("edit")),
        ("text", text),
        ("caption", caption),
    ];
    let mut overall = Mix::default();
    for (_, mix) in &tasks {
        overall.constant += mix.constant / 4.0;
        for term in &mix.terms {
            overall = overall.and(term.weight / 4.0, &term.task, &term.metric);
        }
    }
    let mut headlines: IndexMap<String, Mix> = tasks
        .into_iter()
        .map(|(name, mix)| (name.to_owned(), mix))
        .collect();
    headlines.insert("overall".into(), overall);
    headlines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_published_components() {
        let components = [
            ("sketch", "judge", 46.0),
            ("sketch", "mse", 0.1199),
            ("sketch", "dino", 0.8825),
            ("sketch", "lpips", 0.3937),
            ("edit", "judge", 67.0),
            ("edit", "mse", 0.0836),
            ("edit", "dino", 0.9394),
            ("edit", "lpips", 0.2134),
            ("text", "judge", 72.8),
            ("text", "clip", 30.55),
            ("text", "dino", 0.8746),
            ("caption", "judge", 35.8),
            ("caption", "bge_m3", 0.7976),
            ("caption", "rouge_l", 0.2558),
        ];
        let mean = |task: &str, metric: &str| {
            let mut all = components.iter();
            all.find(|(t, m, _)| (*t, *m) == (task, metric))
                .map(|(_, _, value)| *value)
        };
        let headlines = headlines();
        for (name, want) in [
            ("sketch", 70.72),
            ("edit", 82.81),
            ("text", 63.60),
            ("caption", 47.05),
            ("overall", 66.05),
        ] {
            let found = headlines[name].value(mean).unwrap();
            assert!((found - want).abs() < 0.01, "{name}: {found}");
        }
        assert_eq!(
            headlines["overall"]
                .value(|task, metric| mean(task, metric).filter(|_| task != "text")),
            None
        );
    }

    #[test]
    fn captions_stand_between_the_released_words() {
        assert_eq!(
            asked("Convert the input text into an SVG: a star"),
            "a star"
        );
        let edit =
            "Edit this SVG with the following instruction: make it red\n\nOriginal SVG:\n<svg/>";
        assert_eq!(asked(edit), "make it red");
        assert_eq!(
            asked("Convert the input sketch image into an SVG"),
            "Convert the input sketch image into an SVG"
        );
    }
}
