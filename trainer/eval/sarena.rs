//! SArena (InternSVG, arXiv 2510.11341) in its published layout: generation of icons, illustrations and chemistry, editing
//! and understanding of icons.
//!
//! `Icon/` holds `generation/`, `edit/` and `understanding/`; the other two hold what `generation/` does: `text2svg.jsonl` and
//! `img2svg.jsonl` with `images/{id}.png`, and `caption.jsonl`. Predictions lie in `text2svg/`, `img2svg/`, `edit/<task>/` and
//! `understanding/`.
//!
//! Left out on purpose: the animations, and one slip of the released script, whose printed tokens of editing are means of
//! running means; here they are means of items.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rewards::ImageSource;
use serde_json::Value;

use super::choice::{ChoiceRow, ChoiceTask};
use super::eval_canvas::EvalCanvas;
use super::item::Mix;
use super::jsonl::{SuiteRow, id_text, read_rows};
use super::picture_metric::PictureMetric;
use super::picture_task::{EvalReference, PictureRow, PictureTask};
use super::result::SuiteResult;
use super::suite::{SUCCESS, SuiteTasks};

/// A part of SArena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sarena {
    /// Icons: generation, editing, understanding, and the final score.
    Icon,
    /// Illustrations: generation.
    Illustration,
    /// Chemistry: generation, without captions.
    Chemistry,
}

/// What is said behind an editing question.
const ONLY_CODE: &str = "\nOnly output the svg code, no other text.";

/// What image-to-SVG and editing are measured by.
const OF_PAIRS: [PictureMetric; 5] = [
    PictureMetric::Dino,
    PictureMetric::Lpips,
    PictureMetric::Ssim,
    PictureMetric::Psnr,
    PictureMetric::Tokens,
];

impl Sarena {
    /// The suite's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Icon => "sarena-icon",
            Self::Illustration => "sarena-illustration",
            Self::Chemistry => "sarena-chemistry",
        }
    }

    /// Reads the part's folder. Files that are missing and rows of another layout are said in the tasks' notes.
    pub fn read(self, data: &Path) -> SuiteTasks {
        let mut tasks = SuiteTasks {
            suite: self.name().into(),
            ..SuiteTasks::default()
        };
        let inner = data.join("generation");
        let generation = if inner.is_dir() {
            inner
        } else {
            data.to_owned()
        };
        self.generation(&generation, &mut tasks);
        if self == Self::Icon {
            editing(&data.join("edit"), &mut tasks);
            understanding(&data.join("understanding"), &mut tasks);
        }
        tasks
    }

    fn generation(self, folder: &Path, tasks: &mut SuiteTasks) {
        let captions = match self {
            Self::Chemistry => None,
            _ => captions(&folder.join("caption.jsonl"), &mut tasks.notes),
        };
        for (name, from_text) in [("text2svg", true), ("img2svg", false)] {
            let Some(rows) = rows(
                &folder.join(format!("{name}.jsonl")),
                name,
                &mut tasks.notes,
            ) else {
                continue;
            };
            let mut items = Vec::new();
            for (id, row) in rows {
                let picture = format!("{id}.png");
                let shown = match (from_text, &row.value["image"]) {
                    (true, _) => None,
                    (false, Value::String(image)) => Some(ImageSource::Path(folder.join(image))),
                    (false, other) => {
                        let got = format!("{}: image: must be a path, got {other}", row.place);
                        tasks.notes.push(got);
                        continue;
                    }
                };
                let Some(question) = said(&row, 0, &mut tasks.notes) else {
                    continue;
                };
                let caption = captions.as_ref().filter(|_| from_text).map(|captions| {
                    let none = || format!("caption.jsonl has no caption of {picture}");
                    captions.get(&picture).cloned().ok_or_else(none)
                });
                items.push(PictureRow {
                    reference: EvalReference::File(folder.join("images").join(&picture)),
                    id,
                    question: question.to_owned(),
                    shown,
                    caption,
                });
            }
            let metrics = match (from_text, self) {
                (false, _) => OF_PAIRS.to_vec(),
                (true, Self::Chemistry) => of_text(false),
                (true, _) => of_text(true),
            };
            tasks.pictures.push(PictureTask {
                name: name.into(),
                folder: name.into(),
                canvas: EvalCanvas::SARENA,
                metrics,
                rows: items,
            });
        }
    }

    /// The suite's own numbers: the mean of all editing tasks' items by metric, as the released code's one meter has it,
    /// and for icons the final score of CTRL-S (arXiv 2603.16189).
    pub fn headlines(self, result: &SuiteResult) -> IndexMap<String, Mix> {
        let mut headlines = IndexMap::new();
        if self == Self::Icon {
            let score = Mix {
                constant: 20.0,
                ..Mix::default()
            };
            let score = score
                .and(0.3, "text2svg", "clip_i2i")
                .and(30.0, "img2svg", "dino")
                .and(20.0, "img2svg", "ssim")
                .and(-20.0, "img2svg", "lpips");
            headlines.insert("final".into(), score);
        }
        let names = OF_PAIRS.map(PictureMetric::name);
        for metric in std::iter::once(SUCCESS).chain(names) {
            let mut counts: IndexMap<&str, usize> = IndexMap::new();
            for item in &result.items {
                if item.task.starts_with("edit/") && item.values.contains_key(metric) {
                    *counts.entry(&item.task).or_default() += 1;
                }
            }
            let all: usize = counts.values().sum();
            let mut mean = Mix::default();
            for (task, count) in counts {
                mean = mean.and(count as f64 / all as f64, task, metric);
            }
            if all > 0 {
                headlines.insert(format!("edit/{metric}"), mean);
            }
        }
        headlines
    }
}

/// What text-to-SVG is measured by.
fn of_text(captions: bool) -> Vec<PictureMetric> {
    let mut metrics = vec![PictureMetric::Fid, PictureMetric::FidClip];
    if captions {
        metrics.push(PictureMetric::ClipText);
    }
    metrics.extend([PictureMetric::ClipImage, PictureMetric::Tokens]);
    metrics
}

/// A file's rows by their ids; none where it is missing.
fn rows(path: &Path, task: &str, notes: &mut Vec<String>) -> Option<Vec<(String, SuiteRow)>> {
    let read = match read_rows(path, notes) {
        Ok(read) => read,
        Err(error) => {
            notes.push(format!("{task}: {error}: the task is left out"));
            return None;
        }
    };
    let mut seen = HashSet::new();
    let mut rows = Vec::new();
    for row in read {
        match id_text(&row.value["id"]) {
            None => notes.push(format!(
                "{}: id: must be a number or text, got {} (the row is left out)",
                row.place, row.value["id"]
            )),
            Some(id) if !seen.insert(id.clone()) => {
                notes.push(format!(
                    "{}: id {id} stands twice (the row is left out)",
                    row.place
                ));
            }
            Some(id) => rows.push((id, row)),
        }
    }
    Some(rows)
}

/// The words of a row's conversation at `turn`.
fn said<'a>(row: &'a SuiteRow, turn: usize, notes: &mut Vec<String>) -> Option<&'a str> {
    let value = &row.value["conversations"][turn]["value"];
    if !value.is_string() {
        notes.push(format!(
            "{}: conversations.{turn}.value: must be text, got {value} (the row is left out)",
            row.place
        ));
    }
    value.as_str()
}

/// Captions by the picture's name; none, said, where the file is missing.
fn captions(path: &Path, notes: &mut Vec<String>) -> Option<HashMap<String, String>> {
    let rows = match read_rows(path, notes) {
        Ok(rows) => rows,
        Err(error) => {
            notes.push(format!("text2svg: {error}: clip_t2i is left out"));
            return Some(HashMap::new());
        }
    };
    let mut captions = HashMap::new();
    for row in rows {
        let (image, caption) = (
            &row.value["image"],
            &row.value["caption"][0]["generated_text"],
        );
        match (image.as_str(), caption.as_str()) {
            (Some(image), Some(caption)) => {
                captions.insert(image.to_owned(), caption.trim().to_owned());
            }
            (None, _) => notes.push(format!("{}: image: must be a name, got {image}", row.place)),
            (_, None) => notes.push(format!(
                "{}: caption.0.generated_text: must be text, got {caption}",
                row.place
            )),
        }
    }
    Some(captions)
}

/// The tasks of `edit/*.jsonl`, which may also lie in `edit/data/`; pictures lie in `edit/data/<task>/images`.
fn editing(folder: &Path, tasks: &mut SuiteTasks) {
    let data = folder.join("data");
    let mut files = files_of(folder);
    if files.is_empty() {
        files = files_of(&data);
    }
    if files.is_empty() {
        tasks.notes.push(format!(
            "edit: {}: holds no file .jsonl: the tasks are left out",
            folder.display()
        ));
    }
    for file in files {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("edit/{stem}");
        let mut items = Vec::new();
        for (id, row) in rows(&file, &name, &mut tasks.notes).unwrap_or_default() {
            if let Some(question) = said(&row, 0, &mut tasks.notes) {
                let images = data.join(&*stem).join("images");
                items.push(PictureRow {
                    reference: EvalReference::File(images.join(format!("{id}.png"))),
                    id,
                    question: question.to_owned() + ONLY_CODE,
                    shown: None,
                    caption: None,
                });
            }
        }
        tasks.pictures.push(PictureTask {
            folder: (&name).into(),
            name,
            canvas: EvalCanvas::SARENA,
            metrics: OF_PAIRS.to_vec(),
            rows: items,
        });
    }
}

/// The files .jsonl of a folder, by name.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    files.sort();
    files
}

fn understanding(folder: &Path, tasks: &mut SuiteTasks) {
    let files = files_of(folder);
    if files.is_empty() {
        tasks.notes.push(format!(
            "understanding: {}: holds no file .jsonl: the task is left out",
            folder.display()
        ));
        return;
    }
    let mut task = ChoiceTask {
        name: "understanding".into(),
        ..ChoiceTask::default()
    };
    for file in files {
        for (id, row) in rows(&file, "understanding", &mut tasks.notes).unwrap_or_default() {
            let notes = &mut tasks.notes;
            let (Some(question), Some(answer)) = (said(&row, 0, notes), said(&row, 1, notes))
            else {
                continue;
            };
            let Some(letter) = answer.chars().next() else {
                notes.push(format!(
                    "{}: the answer is empty (the row is left out)",
                    row.place
                ));
                continue;
            };
            task.rows.push(ChoiceRow {
                id,
                question: question.to_owned(),
                answer: letter,
                subject: row.value["Subject"]
                    .as_str()
                    .unwrap_or("unknown")
                    .to_owned(),
            });
        }
    }
    tasks.choices.push(task);
}
