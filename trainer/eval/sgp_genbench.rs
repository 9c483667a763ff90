//! SGP-GenBench (arXiv 2509.05208) from its published files in one folder: `SGP-Object.json` (objects with their descriptions and
//! SVGs), `coco_test_data.json` with the photographs in `val2017/` (scenes), and `sgp-compbench-prompts.json` (compositions).
//! Objects and scenes are asked several times each, an item being `<prompt>/<place>`.
//!
//! As in the released code: answers have SGP-RL's shape, drawings their own size; what is not drawn has 0 in each cosine and
//! counts; references are squashed to 224 pixels; a prompt's diversity is 0 below two drawings. `diversity_as_released` is the
//! sum of prompts' diversities over the number of drawings, as its table has it. Left out on purpose: VQA by TIFA with
//! mPLUG and HPS v2.1, whose networks are not built.

use std::path::Path;

use indexmap::IndexMap;
use serde_json::Value;

use super::composition::{CompositionWish, SCORE};
use super::eval_canvas::EvalCanvas;
use super::item::Mix;
use super::judge_questions::JudgeQuestions;
use super::picture_metric::PictureMetric;
use super::picture_task::{EvalReference, PictureRow, PictureTask};
use super::result::SuiteResult;
use super::sgp_published::json;
use super::suite::{SUCCESS, SuiteTasks};
use super::variety::{DIVERSITY, task_of_prompts};

/// Drawings of each object and scene, as published.
const SAMPLES: usize = 8;

/// Tasks whose prompts have several drawings.
const DRAWN: [&str; 2] = ["object", "scene"];

const METRICS: [PictureMetric; 8] = [
    PictureMetric::ClipSmall,
    PictureMetric::ClipLarge,
    PictureMetric::SiglipSmall,
    PictureMetric::SiglipLarge,
    PictureMetric::DinoSmall,
    PictureMetric::DinoBase,
    PictureMetric::DinoLarge,
    PictureMetric::DinoGiant,
];

/// What is asked, in the words of configs/sgp_gen.yaml: a prompt that ends inside the thoughts.
fn question(words: &str) -> String {
    format!(
        "A user talks with an assistant. The assistant first thinks about the task and then answers. The thoughts stand between <think> and </think>, the answer between <answer> and </answer>, like this: <think> thoughts </think> <answer> answer </answer>\nUser: Write SVG code that depicts the following, without text elements. {words}\nAssistant: <think>"
    )
}

/// Reads the folder; `samples` says how often objects and scenes are asked, where it is not as published.
pub fn read(data: &Path, samples: Option<usize>) -> SuiteTasks {
    let mut tasks = SuiteTasks {
        suite: "sgp-genbench".into(),
        raw_prompts: true,
        ..SuiteTasks::default()
    };
    let samples = samples.unwrap_or(SAMPLES);
    let object = |row: &Value, _: &Path| {
        let words = text(row, "description")?;
        let svg = text(row, "svg_content")?;
        Ok((words, EvalReference::Svg(svg)))
    };
    let scene = |row: &Value, data: &Path| {
        let words = text(row, "caption")?;
        let path = text(row, "image_path")?;
        let name = Path::new(&path).file_name().unwrap_or_default();
        Ok((words, EvalReference::File(data.join("val2017").join(name))))
    };
    type ReadRow<'a> = &'a dyn Fn(&Value, &Path) -> Result<(String, EvalReference), String>;
    let readers: [(&str, &str, ReadRow); 2] = [
        (DRAWN[0], "SGP-Object.json", &object),
        (DRAWN[1], "coco_test_data.json", &scene),
    ];
    for (name, file, read) in readers {
        let mut rows = Vec::new();
        for (at, row) in list(&data.join(file), name, &mut tasks.notes) {
            let (words, reference) = match read(&row, data) {
                Ok(read) => read,
                Err(why) => {
                    let place = data.join(file);
                    let said = format!("{}: {at}: {why} (the row is left out)", place.display());
                    tasks.notes.push(said);
                    continue;
                }
            };
            rows.extend((0..samples).map(|sample| PictureRow {
                id: format!("{at}/{sample}"),
                question: question(&words),
                shown: None,
                reference: reference.clone(),
                caption: Some(Ok(words.clone())),
            }));
        }
        if !rows.is_empty() {
            tasks.pictures.push(PictureTask {
                name: name.into(),
                folder: name.into(),
                canvas: EvalCanvas::SGP,
                metrics: METRICS.to_vec(),
                rows,
            });
        }
    }
    compositions(data, &mut tasks);
    tasks
}

fn compositions(data: &Path, tasks: &mut SuiteTasks) {
    const NAME: &str = "composition";
    let path = data.join("sgp-compbench-prompts.json");
    let (mut rows, mut wishes) = (Vec::new(), IndexMap::new());
    for (at, row) in list(&path, NAME, &mut tasks.notes) {
        let read = || {
            Ok((
                text(&row, "id")?,
                text(&row, "prompt")?,
                CompositionWish::of(&row)?,
            ))
        };
        let (id, words, wish) = match read() {
            Ok((id, ..)) if wishes.contains_key(&id) => {
                let said = format!(
                    "{}: {at}: id {id} stands twice (the row is left out)",
                    path.display()
                );
                tasks.notes.push(said);
                continue;
            }
            Ok(read) => read,
            Err::<_, String>(why) => {
                let said = format!("{}: {at}: {why} (the row is left out)", path.display());
                tasks.notes.push(said);
                continue;
            }
        };
        wishes.insert(id.clone(), wish);
        rows.push(PictureRow {
            id,
            question: question(&words),
            shown: None,
            reference: EvalReference::Absent,
            caption: Some(Ok(words)),
        });
    }
    if !rows.is_empty() {
        tasks.pictures.push(PictureTask {
            name: NAME.into(),
            folder: NAME.into(),
            canvas: EvalCanvas::COMPOSITION,
            metrics: Vec::new(),
            rows,
        });
    }
    tasks.asked = JudgeQuestions::Composition(wishes);
}

/// The rows of an array with their places; what is missing is said.
fn list(path: &Path, task: &str, notes: &mut Vec<String>) -> Vec<(usize, Value)> {
    let rows = match json(path) {
        Ok(Value::Array(rows)) => rows,
        Ok(_) => {
            notes.push(format!(
                "{task}: {}: must be a list: the task is left out",
                path.display()
            ));
            Vec::new()
        }
        Err(error) => {
            notes.push(format!("{task}: {error}: the task is left out"));
            Vec::new()
        }
    };
    rows.into_iter().enumerate().collect()
}

/// Words that are not blank.
fn text(row: &Value, key: &str) -> Result<String, String> {
    match row[key].as_str() {
        Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{key}: must be text, got {}", row[key])),
    }
}

/// The means of objects and scenes by metric, and the composition's scores.
pub fn headlines(result: &SuiteResult) -> IndexMap<String, Mix> {
    let mut headlines = IndexMap::new();
    let half = |metric: &str| {
        let mean = DRAWN
            .iter()
            .filter(|task| result.tasks.contains_key(**task));
        let count = mean.clone().count() as f64;
        mean.fold(Mix::default(), |mix, task| {
            mix.and(1.0 / count, task, metric)
        })
    };
    let drawn = DRAWN.iter().any(|task| result.tasks.contains_key(*task));
    if drawn {
        let names = METRICS.map(PictureMetric::name);
        for metric in std::iter::once(SUCCESS).chain(names) {
            headlines.insert(metric.to_owned(), half(metric));
        }
        let (mut mean, mut released) = (Mix::default(), Mix::default());
        let count = DRAWN
            .iter()
            .filter(|task| result.tasks.contains_key(**task))
            .count() as f64;
        for task in DRAWN
            .iter()
            .filter(|task| result.tasks.contains_key(**task))
        {
            let prompts = task_of_prompts(task);
            let all = result.of_task(task).count().max(1) as f64;
            let share = result.of_task(&prompts).count() as f64 / all;
            mean = mean.and(1.0 / count, &prompts, DIVERSITY);
            released = released.and(share / count, &prompts, DIVERSITY);
        }
        headlines.insert(DIVERSITY.into(), mean);
        headlines.insert("diversity_as_released".into(), released);
    }
    let scores = result.tasks.get("composition").into_iter().flatten();
    for name in scores.filter(|name| name.split('/').next() == Some(SCORE)) {
        let own = match name.split_once('/') {
            None => "composition".to_owned(),
            Some((_, kind)) => format!("composition/{kind}"),
        };
        headlines.insert(own, Mix::default().and(1.0, "composition", name));
    }
    headlines
}
