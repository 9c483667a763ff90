//! Held-out numbers before and after: the tiles at the top of a page, and the tables by task.

use std::fmt;

use serde::Serialize;
use trainer::metrics::{Metric, keys};

use super::run_data::{ReportRun, ReportStage};

/// One number of a run, before and after each stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BeforeAfter {
    pub(super) label: String,
    pub(super) metric: String,
    pub(super) stages: Vec<StageChange>,
}

/// `held-out reward: sft - to 0.412, rl 0.412 to 0.655`; what was not measured is a dash.
impl fmt::Display for BeforeAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = |value: Option<f64>| value.map_or("-".to_owned(), |it| format!("{it:.3}"));
        let stages = self.stages.iter().map(|stage| {
            let (first, last) = (value(stage.first), value(stage.last));
            format!("{} {first} to {last}", stage.stage)
        });
        let stages: Vec<String> = stages.collect();
        write!(f, "{}: {}", self.label, stages.join(", "))
    }
}

/// What a stage made of a number; a value that was not measured is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StageChange {
    pub(super) stage: String,
    pub(super) first: Option<f64>,
    pub(super) last: Option<f64>,
}

/// The numbers of one task (or of all, or of a benchmark).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct NumberTable {
    pub(super) title: String,
    pub(super) rows: Vec<BeforeAfter>,
}

/// What the tiles tell: a metric of all completions, the same of one task, its words.
const TOLD: [(&Metric, &Metric, &str); 2] = [
    (&keys::REWARD_MEAN, &keys::REWARD_TASK, "reward"),
    (&keys::VALID, &keys::VALID_TASK, "valid SVG"),
];

/// The tiles: over all, then task by task, then what benchmarks say.
pub(super) fn tiles(run: &ReportRun) -> Vec<BeforeAfter> {
    let sets = sets(run);
    let mut out = Vec::new();
    for set in &sets {
        let place = match set.as_str() {
            "heldout" => "held-out".to_owned(),
            set => set.replace('_', " "),
        };
        for (metric, _, words) in TOLD {
            let name = keys::held_out(set, metric.name);
            out.push(before_after(run, format!("{place} {words}"), name));
        }
    }
    let tasks = run.tasks();
    for task in tasks.iter().filter(|_| tasks.len() > 1) {
        for (_, metric, words) in TOLD {
            let set = sets.first().map_or("heldout", String::as_str);
            let name = keys::held_out(set, &metric.of(&[task]));
            out.push(before_after(run, format!("{task}: {words}"), name));
        }
    }
    for name in benchmark_names(run) {
        let label = name.trim_start_matches("eval/").replace('/', ": ");
        out.push(before_after(run, label, name));
    }
    out.retain(|tile| !tile.stages.is_empty());
    out
}

/// Every held-out number, by what it is of.
pub(super) fn tables(run: &ReportRun) -> Vec<NumberTable> {
    let mut tables: Vec<NumberTable> = Vec::new();
    for name in evaluation_names(run) {
        let Some((set, metric)) = keys::of_held_out(&name) else {
            continue;
        };
        let title = match keys::declared(&name) {
            Some(declared) if declared == &keys::EVAL => set.to_owned(),
            Some(declared) if declared.name.contains("<task>") => {
                declared.names(metric).next().unwrap_or_default().to_owned()
            }
            _ => "all tasks".to_owned(),
        };
        let row = before_after(run, format!("{set}: {metric}"), name.clone());
        match tables.iter_mut().find(|table| table.title == title) {
            Some(table) => table.rows.push(row),
            None => tables.push(NumberTable {
                title,
                rows: vec![row],
            }),
        }
    }
    tables
}

fn before_after(run: &ReportRun, label: String, metric: String) -> BeforeAfter {
    let change = |stage: &ReportStage| {
        stage.evals.get(&metric)?;
        let (first, last) = stage.first_and_last(&metric);
        Some(StageChange {
            stage: stage.name.clone(),
            first,
            last,
        })
    };
    BeforeAfter {
        label,
        stages: run.stages.iter().filter_map(change).collect(),
        metric,
    }
}

/// Names of the held-out sets that rewards are measured on, the sampled one first.
fn sets(run: &ReportRun) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    for name in evaluation_names(run) {
        if let Some((set, metric)) = keys::of_held_out(&name)
            && metric == keys::REWARD_MEAN.name
            && !sets.iter().any(|known| known == set)
        {
            sets.push(set.to_owned());
        }
    }
    sets
}

/// The chief numbers of benchmarks: those of no task of theirs.
fn benchmark_names(run: &ReportRun) -> Vec<String> {
    let mut names = evaluation_names(run);
    names.retain(|name| keys::declared(name) == Some(&keys::EVAL) && name.split('/').count() == 3);
    names
}

fn evaluation_names(run: &ReportRun) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in run.stages.iter().flat_map(|stage| stage.evals.keys()) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}
