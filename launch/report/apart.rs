//! The held-out prompts on which two runs are furthest apart, by what their last evaluations earn.

use std::collections::HashMap;

use serde::Serialize;

use super::groups::by_prompt;
use super::paired::{SetOfTwo, sets_of_two};
use super::rows::ReportRow;
use super::run_data::ReportRun;

/// Prompts of a set and a pair of runs.
const MOST: usize = 8;

/// A prompt that two runs answer differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ApartPrompt {
    /// Numbers of the runs on the page.
    pub(super) runs: (usize, usize),
    pub(super) set: String,
    pub(super) task: String,
    pub(super) prompt_id: String,
    /// What the second run earns more than the first, in the mean over the prompt's completions.
    pub(super) difference: f64,
    /// Places of both runs' completions among the page's groups; none where they did not fit into it.
    pub(super) groups: [Option<usize>; 2],
}

/// The prompts on which every further run differs most from the first one, in each set; where rewards are the same there
/// are none.
pub(super) fn furthest(runs: &[ReportRun]) -> Vec<ApartPrompt> {
    let mut out = Vec::new();
    for SetOfTwo {
        at,
        set,
        own,
        theirs,
    } in sets_of_two(runs)
    {
        let theirs: HashMap<(&str, &str), f64> = means(&theirs.rows).collect();
        let differs = |(prompt, own): ((&str, &str), f64)| ApartPrompt {
            runs: (0, at),
            set: set.clone(),
            task: prompt.0.to_owned(),
            prompt_id: prompt.1.to_owned(),
            difference: theirs.get(&prompt).map_or(0.0, |theirs| theirs - own),
            groups: [None; 2],
        };
        let mut all: Vec<ApartPrompt> = means(&own.rows).map(differs).collect();
        all.retain(|one| one.difference != 0.0);
        all.sort_by(|a, b| b.difference.abs().total_cmp(&a.difference.abs()));
        all.truncate(MOST);
        out.extend(all);
    }
    out
}

/// Task, prompt and the mean reward of its completions that were scored.
fn means(rows: &[ReportRow]) -> impl Iterator<Item = ((&str, &str), f64)> {
    by_prompt(rows).into_iter().filter_map(|rows| {
        let first = *rows.first()?;
        let totals: Vec<f64> = rows.iter().filter_map(|row| row.total).collect();
        let mean = totals.iter().sum::<f64>() / totals.len() as f64;
        let prompt = (first.task.as_str(), first.prompt_id.as_str());
        (!totals.is_empty()).then_some((prompt, mean))
    })
}
