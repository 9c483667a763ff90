//! The trace log: every completion of a step with its score, one JSON row each.

use std::path::Path;

use indexmap::IndexMap;
use rewards::{ImageSource, Invalid, Reference, Reward};
use rollout::{Completion, FinishReason, VersionSpan};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::grpo::advantage;
use crate::learn::Ranks;
use crate::metrics::{Keep, Metrics, keys};
use crate::rollout_batch::ScoredGroup;
use crate::{TrainError, files};

/// One completion as the sample files hold it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SampleRow {
    /// Stage name.
    pub stage: String,
    /// Step, from 1.
    pub step: u64,
    /// The prompt's id, unique within the step.
    pub prompt_id: String,
    /// Task name.
    pub task: String,
    /// Which of the group's completions.
    pub index: usize,
    /// The prompt as the policy saw it.
    pub prompt: String,
    /// The completion's text without its stop token.
    pub completion: String,
    /// Its token ids, the stop token included.
    pub token_ids: Vec<i64>,
    /// Log-probability of each under temperature alone.
    pub sampler_logprobs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Whether it has the asked form and its SVG renders.
    pub valid: bool,
    /// Why not.
    pub reason: Option<Invalid>,
    /// Each reward before its weight.
    pub parts: IndexMap<String, f64>,
    /// The task's metrics, where they were measured.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub metrics: IndexMap<String, f64>,
    /// Total reward; null where it could not be scored.
    pub total: Option<f64>,
    /// The formula's number; 0 in a zero-spread group, and where it could not be scored.
    pub advantage: f64,
    /// Updates of the policy in this stage before it was written: before its first token, where several versions wrote it.
    pub policy_version: u64,
    /// Which versions wrote which of its tokens, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policy_spans: Vec<VersionSpan>,
    /// The rewards that could not be had, where there are such.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unscored: Vec<String>,
    /// The row's own prompt, which rewards are given.
    pub reward_prompt: String,
    /// What image-text rewards and judges compare with: the reference's words, else the row's own prompt.
    pub reward_text: String,
    /// What it was compared with.
    pub reference: Reference,
    /// The pictures that the prompt shows, as the row has them: paths, or base64; on the first row of a group alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageSource>,
    /// Milliseconds spent rendering it.
    pub render_ms: f64,
    /// Whether the renderer's deadline ended it.
    pub deadline_hit: bool,
}

/// Where rows stand.
#[derive(Debug, Clone)]
pub struct StepId {
    /// Stage name.
    pub stage: String,
    /// Step.
    pub step: u64,
    /// Updates of the policy in this stage.
    pub policy_version: u64,
}

/// A prompt's rows under what orders prompts: the draw's number, and a place among the draw's own prompts.
#[derive(Debug, Serialize, Deserialize)]
pub struct GroupRows<R> {
    order: (u64, usize),
    rows: Vec<R>,
}

impl<R> GroupRows<R> {
    /// Of `rows`, which stand where `order` says.
    pub fn new(order: (u64, usize), rows: Vec<R>) -> Self {
        Self { order, rows }
    }
}

/// The rows of a group's completions, with their advantages where the step has any.
pub fn sample_rows(
    id: &StepId,
    scored: &ScoredGroup,
    advantages: Option<&[f64]>,
) -> GroupRows<SampleRow> {
    let prompt = &scored.group.prompt;
    let completions = scored.group.completions.iter().zip(&scored.rewards);
    let row = |(index, (completion, reward)): (usize, (&Completion, &Reward))| SampleRow {
        stage: id.stage.clone(),
        step: id.step,
        prompt_id: prompt.id.clone(),
        task: prompt.task.clone(),
        index,
        prompt: prompt.text.as_deref().unwrap_or_default().to_owned(),
        reward_prompt: prompt.asked.to_string(),
        reward_text: prompt.reference.wish(&prompt.asked).to_owned(),
        completion: completion.text.clone().unwrap_or_default(),
        token_ids: completion.ids.clone(),
        sampler_logprobs: completion.logprobs.clone(),
        finish_reason: completion.finish,
        valid: reward.valid,
        reason: reward.reason.clone(),
        parts: reward.parts.clone(),
        metrics: reward.metrics.clone(),
        total: reward.total,
        unscored: reward.unscored.clone(),
        advantage: advantages.map_or(0.0, |advantages| advantages[index]),
        policy_version: completion.version(),
        policy_spans: match completion.spans.len() {
            0 | 1 => Vec::new(),
            _ => completion.spans.clone(),
        },
        reference: (*prompt.reference).clone(),
        images: match index {
            0 => prompt.images.to_vec(),
            _ => Vec::new(),
        },
        render_ms: reward.render_ms,
        deadline_hit: reward.deadline_hit(),
    };
    GroupRows::new((prompt.draw, 0), completions.enumerate().map(row).collect())
}

/// The rows of all ranks' prompts in the order of their draws, on rank 0; none on the others.
///
/// # Errors
/// A lost rank.
pub fn to_leader<R: Serialize + DeserializeOwned>(
    ranks: &Ranks,
    own: Vec<GroupRows<R>>,
) -> Result<Vec<R>, TrainError> {
    let mut all = own;
    if ranks.size() > 1 {
        let bad = |error: serde_json::Error| TrainError::Other(format!("sample rows: {error}"));
        let bytes = serde_json::to_vec(&all).map_err(bad)?;
        all = Vec::new();
        for part in ranks.gather_to_leader(&bytes)? {
            all.extend(serde_json::from_slice::<Vec<GroupRows<R>>>(&part).map_err(bad)?);
        }
    }
    all.sort_by_key(|group| group.order);
    Ok(all.into_iter().flat_map(|group| group.rows).collect())
}

/// Reward, SVG and length metrics of a set of rows; `draws` says of a task whether its completions are SVG, which
/// alone count as valid or not.
pub fn reward_metrics(rows: &[SampleRow], draws: &dyn Fn(&str) -> bool) -> Metrics {
    let mut metrics = Metrics::new();
    if rows.is_empty() {
        return metrics;
    }
    let count = rows.len() as f64;
    let mean_of = |value: &dyn Fn(&SampleRow) -> f64| rows.iter().map(value).sum::<f64>() / count;
    let totals: Vec<f64> = rows.iter().filter_map(|row| row.total).collect();
    if !totals.is_empty() {
        metrics.set(&keys::REWARD_MEAN, advantage::mean(&totals));
        metrics.set(&keys::REWARD_STD, advantage::deviation(&totals, true));
    }
    metrics.set(&keys::UNSCORED, 1.0 - totals.len() as f64 / count);
    let mut values: IndexMap<String, Vec<f64>> = IndexMap::new();
    let mut add = |name: String, value: f64| values.entry(name).or_default().push(value);
    for row in rows {
        let task = row.task.as_str();
        if let Some(total) = row.total {
            add(keys::REWARD_TASK.of(&[task]), total);
        }
        for (part, value) in &row.parts {
            add(keys::REWARD_PART.of(&[part]), *value);
            add(keys::REWARD_TASK_PART.of(&[task, part]), *value);
        }
        for (metric, value) in &row.metrics {
            add(keys::METRIC.of(&[metric]), *value);
            add(keys::METRIC_TASK.of(&[task, metric]), *value);
        }
        if draws(task) {
            add(keys::VALID.name.to_owned(), f64::from(row.valid));
            add(keys::VALID_TASK.of(&[task]), f64::from(row.valid));
        }
    }
    let drawn = rows.iter().filter(|row| draws(&row.task));
    let (mut drawings, mut reasons) = (0.0, IndexMap::<String, f64>::new());
    for row in drawn {
        drawings += 1.0;
        if let Some(reason) = &row.reason {
            *reasons.entry(reason.word().into_owned()).or_default() += 1.0;
        }
    }
    for (reason, count) in reasons {
        metrics.set_of(
            &keys::REASON,
            &[&format!("{reason}_frac")],
            count / drawings,
        );
    }
    for (name, values) in values {
        let spread = [&keys::REWARD_TASK, &keys::REWARD_PART];
        if keys::declared(&name).is_some_and(|metric| spread.contains(&metric)) {
            let std = name.trim_end_matches("mean").to_owned() + "std";
            metrics.set_name(std, advantage::deviation(&values, true));
        }
        metrics.set_name(name, advantage::mean(&values));
    }
    let share = |holds: &dyn Fn(&SampleRow) -> bool| mean_of(&|row| f64::from(holds(row)));
    let hits = rows.iter().filter(|row| row.deadline_hit).count();
    metrics.set(&keys::DEADLINE_HITS, hits as f64);
    metrics.set(&keys::RENDER_MS, mean_of(&|row| row.render_ms));
    let tokens = |row: &SampleRow| row.token_ids.len();
    metrics.set(&keys::TOKENS_MEAN, mean_of(&|row| tokens(row) as f64));
    let longest = rows.iter().map(tokens).max().unwrap_or(0);
    metrics.set(&keys::TOKENS_MAX, longest as f64);
    let cut_short = |row: &SampleRow| row.finish_reason == FinishReason::Length;
    metrics.set(&keys::TRUNCATED, share(&cut_short));
    metrics
}

/// Writes `samples/<stage>/step_NNNNNN.jsonl` of the run, whole.
///
/// # Errors
/// Whatever the file system says.
pub fn write<R: Serialize>(
    run: &Path,
    stage: &str,
    step: u64,
    rows: &[R],
) -> Result<(), TrainError> {
    write_step(&run.join("samples").join(stage), step, rows)
}

/// Writes `samples/<stage>/eval/<set>/step_NNNNNN.jsonl` of the run, whole.
///
/// # Errors
/// Whatever the file system says.
pub fn write_held_out(
    run: &Path,
    (stage, set): (&str, &str),
    step: u64,
    rows: &[SampleRow],
) -> Result<(), TrainError> {
    let folder = run.join("samples").join(stage).join("eval").join(set);
    write_step(&folder, step, rows)
}

/// Writes pictures of an evaluation's rows as `samples/<stage>/eval/<set>/step_NNNNNN/<row>.png` of the run, in the place of
/// those that were there.
///
/// # Errors
/// Whatever the file system says.
pub fn write_pictures<'a>(
    run: &Path,
    (stage, set): (&str, &str),
    step: u64,
    pictures: impl Iterator<Item = (usize, &'a [u8])>,
) -> Result<(), TrainError> {
    let folder = run.join("samples").join(stage).join("eval").join(set);
    let folder = folder.join(format!("step_{step:06}"));
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(TrainError::io(&folder))?;
    }
    for (row, png) in pictures {
        files::make_folder(&folder)?;
        files::write_whole(&folder.join(format!("{row}.png")), png)?;
    }
    Ok(())
}

fn write_step<R: Serialize>(folder: &Path, step: u64, rows: &[R]) -> Result<(), TrainError> {
    files::make_folder(folder)?;
    let path = folder.join(format!("step_{step:06}.jsonl"));
    files::write_whole(&path, lines(rows)?.as_bytes())
}

/// The rows as JSONL.
///
/// # Errors
/// A row that is no JSON.
pub fn lines<R: Serialize>(rows: &[R]) -> Result<String, TrainError> {
    let mut text = String::new();
    for row in rows {
        text.push_str(
            &serde_json::to_string(row)
                .map_err(|error| TrainError::Other(format!("sample row: {error}")))?,
        );
        text.push('\n');
    }
    Ok(text)
}

/// Removes the sample files for which `keep(stage, step)` does not hold, their pictures among them.
///
/// # Errors
/// Whatever the file system says.
pub fn cut(run: &Path, keep: &Keep) -> Result<(), TrainError> {
    each(run, keep, &mut |_, file, kept| {
        if kept {
            return Ok(());
        }
        std::fs::remove_file(file).map_err(TrainError::io(file))?;
        // A folder of pictures goes with the last of them; others are not empty, or are filled again.
        if file.extension().is_some_and(|ending| ending == "png") {
            let _ = std::fs::remove_dir(files::parent(file));
        }
        Ok(())
    })
}

/// Copies the sample files for which `keep(stage, step)` holds from one run to another.
///
/// # Errors
/// Whatever the file system says.
pub fn copy(from: &Path, to: &Path, keep: &Keep) -> Result<(), TrainError> {
    each(from, keep, &mut |inner, file, kept| {
        let target = to.join(inner);
        match kept {
            true => files::make_folder(files::parent(&target))
                .and_then(|()| files::copy_file(file, &target)),
            false => Ok(()),
        }
    })
}

/// What is done with a sample file: its path within the run, its path, whether it is kept.
type VisitSample<'a> = dyn FnMut(&Path, &Path, bool) -> Result<(), TrainError> + 'a;

/// Hands over every sample file of a run; those of evaluations lie deeper than a stage's own.
fn each(run: &Path, keep: &Keep, visit: &mut VisitSample) -> Result<(), TrainError> {
    let mut open = entries(&run.join("samples"))?;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(entries(&path)?);
            continue;
        }
        let inner = path.strip_prefix(run).unwrap_or(&path).to_owned();
        let mut parts = inner.iter().skip(1).map(|part| part.to_string_lossy());
        let stage = parts.next().unwrap_or_default();
        let evaluation = parts.count() > 1;
        // Pictures lie in a folder of their step's name.
        let named = match path.extension().is_some_and(|ending| ending == "png") {
            true => files::parent(&path),
            false => &path,
        };
        let stem = named.file_stem().unwrap_or_default().to_string_lossy();
        let step = stem
            .strip_prefix("step_")
            .and_then(|step| step.parse().ok());
        visit(
            &inner,
            &path,
            step.is_some_and(|step| keep(&stage, step, evaluation)),
        )?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>, TrainError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let read = std::fs::read_dir(folder).map_err(TrainError::io(folder))?;
    read.map(|entry| {
        entry
            .map(|entry| entry.path())
            .map_err(TrainError::io(folder))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(task: &str, valid: bool) -> SampleRow {
        let row = json!({
            "stage": "rl", "step": 1, "prompt_id": "a", "task": task, "index": 0, "prompt": "a", "completion": "b",
            "token_ids": [1], "sampler_logprobs": [0.0], "finish_reason": "stop", "valid": valid, "reason": null,
            "parts": {}, "total": 1.0, "advantage": 0.0, "policy_version": 0, "reward_prompt": "a", "reward_text": "a",
            "reference": {}, "render_ms": 0.0, "deadline_hit": false,
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn answers_in_words_are_neither_valid_drawings_nor_invalid_ones() {
        let draws = |task: &str| task != "caption";
        let rows = [
            row("draw", true),
            row("draw", false),
            row("edit", true),
            row("edit", true),
            row("caption", true),
            row("caption", false),
        ];
        let metrics = reward_metrics(&rows, &draws);
        assert_eq!(metrics.get(&keys::VALID), Some(0.75));
        let of = |task: &str| {
            let name = keys::VALID_TASK.of(&[task]);
            metrics
                .iter()
                .find(|(own, _)| *own == name)
                .map(|(_, value)| value)
        };
        assert_eq!(
            [of("draw"), of("edit"), of("caption")],
            [Some(0.5), Some(1.0), None]
        );
        let mut lacking = rows.clone();
        for row in &mut lacking[..3] {
            row.reason = Some("no_svg: more".parse().unwrap());
        }
        let metrics = reward_metrics(&lacking, &draws);
        let name = "svg/reason/no_svg_frac";
        let share = metrics.iter().find(|(own, _)| *own == name);
        assert_eq!(share.map(|(_, value)| value), Some(0.75));
        let words = reward_metrics(&rows[4..], &draws);
        assert_eq!(words.get(&keys::VALID), None);
    }
}
