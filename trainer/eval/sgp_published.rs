//! Predictions as SGP-RL's released scripts leave them: `batch_N/batch_info.json` in a folder a dataset, with a caption and its
//! responses a prompt; and of SGP-CompBench one array of `{"id", "svg", "success"}`.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::eval_canvas::AnswerShape;
use super::jsonl::id_text;
use super::picture_task::PictureTask;
use super::prediction::PredictionFolder;
use super::variety::prompt_of;

/// The folder that the scripts name a task by.
pub fn folder_of(task: &PictureTask) -> Option<&'static str> {
    match (task.canvas.answers, task.name.as_str()) {
        (AnswerShape::Sgp, "object") => Some("SGP-Single-9k"),
        (AnswerShape::Sgp, "scene") => Some("coco"),
        _ => None,
    }
}

/// With the released predictions in `folder`, where there are such and nothing else. What cannot be used is said in
/// `notes`.
///
/// # Errors
/// A file that cannot be read.
pub fn with_released(
    mut answers: PredictionFolder,
    folder: &Path,
    task: &PictureTask,
    notes: &mut Vec<String>,
) -> Result<PredictionFolder, String> {
    let alone = !folder.join("output.jsonl").exists() && !folder.join("svg").is_dir();
    match task.canvas.answers {
        AnswerShape::Sgp if alone => batches(&mut answers, folder, task, notes)?,
        AnswerShape::FirstOfAnswer if alone => results(&mut answers, folder, notes)?,
        _ => {}
    }
    Ok(answers)
}

/// The responses of each prompt, which is found by its caption: of several with one caption, in their order.
fn batches(
    answers: &mut PredictionFolder,
    folder: &Path,
    task: &PictureTask,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let mut prompts: HashMap<&str, VecDeque<&str>> = HashMap::new();
    for row in &task.rows {
        let (Some(Ok(words)), prompt) = (&row.caption, prompt_of(&row.id)) else {
            continue;
        };
        let own = prompts.entry(words).or_default();
        if own.back() != Some(&prompt) {
            own.push_back(prompt);
        }
    }
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut batches: Vec<(usize, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("batch_")?.parse().ok()?;
            Some((number, entry.path().join("batch_info.json")))
        })
        .collect();
    batches.sort();
    for (_, path) in batches {
        let batch = match json(&path) {
            Ok(batch) => batch,
            Err(why) => {
                notes.push(why);
                continue;
            }
        };
        let Some(own) = batch["prompts"].as_object() else {
            notes.push(format!("{}: prompts: must be an object", path.display()));
            continue;
        };
        let mut own: Vec<(&String, &Value)> = own.iter().collect();
        own.sort_by_key(|(number, _)| number.parse::<usize>().unwrap_or(usize::MAX));
        for (number, prompt) in own {
            let place = format!("{}: prompts.{number}", path.display());
            let caption = prompt["caption"].as_str().unwrap_or_default();
            let Some(id) = prompts.get_mut(caption).and_then(VecDeque::pop_front) else {
                notes.push(format!(
                    "{place}: no prompt of {} is {caption:?}",
                    task.name
                ));
                continue;
            };
            let responses = prompt["responses"].as_array().into_iter().flatten();
            for (at, response) in responses.enumerate() {
                let at = response["index"].as_u64().unwrap_or(at as u64);
                match response["text"].as_str() {
                    Some(text) => answers.put(&format!("{id}/{at}"), text.to_owned()),
                    None => {
                        let got = &response["text"];
                        notes.push(format!("{place}.responses: text: must be text, got {got}"));
                    }
                }
            }
        }
    }
    Ok(())
}

/// The drawings of the only array there is.
fn results(
    answers: &mut PredictionFolder,
    folder: &Path,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.to_string_lossy().ends_with("_all_result.json"))
        .collect();
    let path = match (files.pop(), files.len()) {
        (Some(path), 0) => path,
        (None, _) => {
            return Err(format!(
                "{}: holds neither output.jsonl nor a file *_all_result.json",
                folder.display()
            ));
        }
        _ => {
            return Err(format!(
                "{}: holds several files *_all_result.json",
                folder.display()
            ));
        }
    };
    let rows = json(&path)?;
    let rows = rows
        .as_array()
        .ok_or_else(|| format!("{}: must be a list", path.display()))?;
    for (at, row) in rows.iter().enumerate() {
        match (id_text(&row["id"]), row["svg"].as_str()) {
            (Some(id), Some(svg)) => answers.put(&id, svg.to_owned()),
            _ => notes.push(format!(
                "{}: {at}: needs id and svg, got {} and {}",
                path.display(),
                row["id"],
                row["svg"]
            )),
        }
    }
    Ok(())
}

/// A JSON document.
///
/// # Errors
/// The sentence.
pub fn json(path: &Path) -> Result<Value, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
    serde_json::from_str(&text).map_err(|error| told(&format!("is not JSON: {error}")))
}
