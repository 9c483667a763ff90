//! What TensorBoard shows besides curves, made of the page's data: in `tensorboard/<stage>/samples` (training) and
//! `tensorboard/<stage>/<set>` a file a step with drawings, targets, texts and histograms, and the run's
//! hyper-parameters in `tensorboard/` itself.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use trainer::TrainError;
use trainer::metrics::keys;
use trainer::tensorboard::{
    HyperMetric, HyperValue, MediaItem, media_name, write_hyper_parameters, write_media,
};

use super::histogram::BinCounts;
use super::page::clipped;
use super::page_data::{GroupView, PageData, PictureView};
use super::run_data::ReportRun;

/// Groups of a step and completions of a group.
const GROUPS: usize = 8;
const MEMBERS: usize = 4;
/// Hyper-parameters, and characters of one.
const VALUES: usize = 300;
const CHARACTERS: usize = 200;

/// Writes what is not there yet, and removes what the run no longer has samples of.
///
/// # Errors
/// What the file system says.
pub(super) fn write(run: &ReportRun, data: &PageData) -> Result<(), TrainError> {
    let folder = run.folder.join("tensorboard");
    let mut moments: Vec<(&str, Option<&str>, u64)> = Vec::new();
    for group in &data.groups {
        let moment = (group.stage.as_str(), group.set.as_deref(), group.step);
        if !moments.contains(&moment) {
            moments.push(moment);
        }
    }
    for (stage, set, step) in moments {
        let source = samples(&run.folder, (stage, set), step);
        let out = folder
            .join(stage)
            .join(set.unwrap_or("samples"))
            .join(media_name(step));
        if !is_older(&out, &source) {
            continue;
        }
        let shown = shown(data, (stage, set), step);
        write_media(&out, (step, seconds(&source)), &shown)?;
    }
    for stage in &run.stages {
        remove_stale(run, &folder.join(&stage.name), &stage.name);
    }
    let text = std::fs::read_to_string(run.folder.join("config.resolved.yaml")).unwrap_or_default();
    let config: Value = serde_saphyr::from_str(&text).unwrap_or_default();
    let mut values = Vec::new();
    flatten("", &config, &mut values);
    // What runs differ by most often comes first, should there be too many.
    let rank = |key: &str| match key.split('.').next() {
        Some("stages") => 1,
        Some(first) if first == key => 0,
        _ => 2,
    };
    values.sort_by_key(|(key, _)| rank(key));
    values.truncate(VALUES);
    values.sort_by(|(a, _), (b, _)| a.cmp(b));
    let begun = run.stages.first().and_then(|stage| stage.span);
    let begun = begun.map_or(0.0, |(first, _)| first);
    write_hyper_parameters(&folder, (&run.name, begun), &values, &compared(run))
}

/// The file of samples of a moment.
fn samples(run: &Path, (stage, set): (&str, Option<&str>), step: u64) -> PathBuf {
    let mut folder = run.join("samples").join(stage);
    if let Some(set) = set {
        folder = folder.join("eval").join(set);
    }
    folder.join(format!("step_{step:06}.jsonl"))
}

fn is_older(out: &Path, source: &Path) -> bool {
    let time = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|data| data.modified())
            .ok()
    };
    match (time(out), time(source)) {
        (Some(out), Some(source)) => out < source,
        (None, _) => true,
        (Some(_), None) => false,
    }
}

fn seconds(path: &Path) -> f64 {
    let time = std::fs::metadata(path)
        .and_then(|data| data.modified())
        .ok();
    let since = time.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// Steps that a resume has cut away have no samples any more.
fn remove_stale(run: &ReportRun, folder: &Path, stage: &str) {
    let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for place in folders
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
    {
        let set = place
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let set = (set != "samples").then_some(set.as_str());
        for file in std::fs::read_dir(&place).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let step = name.split('.').nth(3).and_then(|step| step.parse().ok());
            let known = step.is_some_and(|step| samples(&run.folder, (stage, set), step).is_file());
            if !known {
                // What cannot be removed is looked at once more the next time.
                let _ = std::fs::remove_file(file.path());
            }
        }
    }
}

fn shown(
    data: &PageData,
    (stage, set): (&str, Option<&str>),
    step: u64,
) -> Vec<(String, MediaItem)> {
    let own = |group: &&GroupView| {
        group.stage == stage && group.set.as_deref() == set && group.step == step
    };
    let mut out = Vec::new();
    for (at, group) in data.groups.iter().filter(own).take(GROUPS).enumerate() {
        let tag = format!("{}/{at}", group.task);
        let mut picture = |name: String, view: &Option<PictureView>| {
            if let Some(PictureView::Number(number)) = view
                && let Some(shown) = decoded(&data.pictures[*number])
            {
                out.push((name, shown));
            }
        };
        picture(format!("{tag}/target"), &group.target);
        for member in group.members.iter().take(MEMBERS) {
            picture(format!("{tag}/drawing {}", member.index), &member.picture);
        }
        out.push((tag, MediaItem::Text(text(group))));
    }
    for one in data.runs.iter().flat_map(|run| &run.histograms) {
        if one.stage == stage && one.set.as_deref() == set && one.step == step {
            out.push((format!("{}/reward", one.task), counts(&one.rewards)));
            out.push((format!("{}/length", one.task), counts(&one.lengths)));
        }
    }
    out
}

fn decoded(code: &str) -> Option<MediaItem> {
    let png = STANDARD.decode(code).ok()?;
    let side = |at: usize| Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?));
    let (width, height) = (side(16)?, side(20)?);
    Some(MediaItem::Picture { width, height, png })
}

/// A group's words in Markdown: what a policy wrote stands in indented blocks, where nothing is markup.
fn text(group: &GroupView) -> String {
    let block = |text: &str| -> String {
        let lines = text.lines().map(|line| format!("    {line}\n"));
        lines.collect()
    };
    let mut out = format!(
        "**{}**\n\n{}\n",
        group.prompt_id,
        block(&clipped(&group.asked))
    );
    for member in group.members.iter().take(MEMBERS) {
        let total = member
            .total
            .map_or("not scored".to_owned(), |total| format!("{total:.3}"));
        let reason = member.reason.as_deref().unwrap_or("valid");
        let said = match (member.learnt, member.chosen) {
            (false, _) => format!("completion {}: {total}, {reason}", member.index),
            (true, chosen) => {
                let which = match chosen {
                    None => "answer",
                    Some(true) => "chosen answer",
                    Some(false) => "rejected answer",
                };
                let loss = member
                    .loss
                    .map_or("no number".to_owned(), |loss| format!("{loss:.3}"));
                format!("{which} that was learnt: loss {loss}")
            }
        };
        out += &format!("{said}\n\n{}\n", block(&clipped(&member.text)));
    }
    if let Some(words) = &group.target_words {
        out += &format!("target\n\n{}\n", block(&clipped(words)));
    }
    out
}

fn counts(bins: &BinCounts) -> MediaItem {
    let width = (bins.high - bins.low) / bins.counts.len() as f64;
    MediaItem::Counts {
        low: bins.low,
        ends: (1..=bins.counts.len())
            .map(|at| bins.low + width * at as f64)
            .collect(),
        counts: bins.counts.iter().map(|count| *count as f64).collect(),
    }
}

/// The config's single values by their dotted keys.
fn flatten(key: &str, value: &Value, out: &mut Vec<(String, HyperValue)>) {
    let child = |name: &str| match key {
        "" => name.to_owned(),
        key => format!("{key}.{name}"),
    };
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(name, value)| flatten(&child(name), value, out)),
        Value::Array(list) => {
            for (at, value) in list.iter().enumerate() {
                let name = value["name"].as_str().map_or(at.to_string(), str::to_owned);
                flatten(&child(&name), value, out);
            }
        }
        Value::Bool(flag) => out.push((key.to_owned(), HyperValue::Flag(*flag))),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            out.push((key.to_owned(), HyperValue::Number(number)));
        }
        Value::String(words) if words.len() <= CHARACTERS => {
            out.push((key.to_owned(), HyperValue::Words(words.clone())));
        }
        Value::String(_) | Value::Null => {}
    }
}

/// What runs are compared by: the last stage's held-out reward and validity.
fn compared(run: &ReportRun) -> Vec<HyperMetric> {
    let evaluated = run
        .stages
        .iter()
        .rev()
        .find(|stage| !stage.evals.is_empty());
    let Some(stage) = evaluated else {
        return Vec::new();
    };
    let chief = [keys::REWARD_MEAN.name, keys::VALID.name];
    let tags = stage
        .evals
        .keys()
        .filter(|name| keys::of_held_out(name).is_some_and(|(_, metric)| chief.contains(&metric)));
    tags.map(|tag| HyperMetric {
        stage: stage.name.clone(),
        tag: tag.clone(),
    })
    .collect()
}
