//! Which metrics share a chart, by the metric names' pattern `area/quantity[/stat]`.

use serde::Serialize;
use trainer::metrics::{Metric, keys};

use super::run_data::ReportRun;

/// One chart.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ChartPanel {
    /// The heading that it stands under.
    pub(super) group: &'static str,
    pub(super) title: String,
    pub(super) series: Vec<PanelSeries>,
}

/// One curve of a chart: a metric of training, or of evaluations where its name says so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PanelSeries {
    pub(super) label: String,
    pub(super) metric: String,
    /// The metric of its standard deviation, which is drawn as a band.
    pub(super) band: Option<String>,
}

/// Charts of learning, in reading order.
const LEARNING: &[(&str, &[(&Metric, &str)])] = &[
    (
        "Loss",
        &[
            (&keys::POLICY_LOSS, "policy"),
            (&keys::SFT_LOSS, "imitation"),
            (&keys::DPO_LOSS, "preference"),
        ],
    ),
    (
        "Pairs in the chosen order, fraction",
        &[(&keys::DPO_ACCURACY, "accuracy")],
    ),
    (
        "Margin of chosen over rejected answers, beta times log-ratios",
        &[(&keys::DPO_MARGIN, "margin")],
    ),
    (
        "Log-probability of an answer, nats",
        &[
            (&keys::DPO_CHOSEN_LOGP, "chosen"),
            (&keys::DPO_REJECTED_LOGP, "rejected"),
        ],
    ),
    (
        "KL divergence",
        &[
            (&keys::KL_REF, "to reference"),
            (&keys::KL_SAMPLER, "to sampler"),
        ],
    ),
    ("Entropy", &[(&keys::ENTROPY, "entropy")]),
    (
        "Groups without spread, fraction",
        &[(&keys::ZERO_SPREAD, "zero spread")],
    ),
    ("Learning rate", &[(&keys::LR, "rate")]),
    ("Gradient norm", &[(&keys::GRAD_NORM, "norm")]),
];

/// Charts of completions.
const COMPLETIONS: &[(&str, &[(&Metric, &str)])] = &[
    (
        "Valid SVG and truncated completions, fraction",
        &[(&keys::VALID, "valid"), (&keys::TRUNCATED, "truncated")],
    ),
    (
        "Completion length, tokens",
        &[(&keys::TOKENS_MEAN, "mean"), (&keys::TOKENS_MAX, "max")],
    ),
];

/// Charts of time.
const TIME: &[(&str, &[(&Metric, &str)])] = &[
    (
        "Time of a step, seconds",
        &[
            (&keys::TIME_STEP, "step"),
            (&keys::TIME_GENERATE, "generate"),
            (&keys::TIME_SCORE_EXPOSED, "score, exposed"),
            (&keys::TIME_FORWARD_BACKWARD, "forward and backward"),
            (&keys::TIME_REDUCE, "reduce"),
            (&keys::TIME_OPTIM, "optimizer"),
        ],
    ),
    (
        "Throughput, tokens per second",
        &[(&keys::TOKENS_PER_S, "tokens/s")],
    ),
    ("Peak memory, GiB", &[(&keys::PEAK_MEMORY, "peak")]),
];

/// The charts that some run has points for, in reading order.
pub(super) fn charts(runs: &[ReportRun]) -> Vec<ChartPanel> {
    let names = names(runs);
    let mut charts = vec![total(&names)];
    charts.extend(tasks(&names, runs));
    charts.extend(parts(&names));
    for (group, fixed) in [
        ("Completions", COMPLETIONS),
        ("Learning", LEARNING),
        ("Time", TIME),
    ] {
        charts.extend(fixed.iter().map(|(title, metrics)| {
            ChartPanel {
                group,
                title: (*title).to_owned(),
                series: metrics
                    .iter()
                    .flat_map(|(metric, label)| with_held_out(&names, metric.name, label))
                    .collect(),
            }
        }));
    }
    charts.push(reasons(&names));
    charts.push(benchmarks(&names));
    charts.retain(|chart| !chart.series.is_empty());
    charts
}

/// Names of all metrics of all runs, each once.
fn names(runs: &[ReportRun]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let stages = runs.iter().flat_map(|run| &run.stages);
    for name in stages.flat_map(|stage| stage.curves.keys().chain(stage.evals.keys())) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// A metric's curve and those of the held-out sets, as far as they are there.
fn with_held_out(names: &[String], metric: &str, label: &str) -> Vec<PanelSeries> {
    let held_out = |name: &&String| keys::of_held_out(name).is_some_and(|(_, own)| own == metric);
    let own = names.iter().find(|name| *name == metric);
    let own = own.map(|name| series(names, label.to_owned(), name));
    let sets = names.iter().filter(held_out).filter_map(|name| {
        let set = keys::of_held_out(name)?.0;
        let label = match label {
            "training" => set.to_owned(),
            label => format!("{label}, {set}"),
        };
        Some(series(names, label, name))
    });
    own.into_iter().chain(sets).collect()
}

fn series(names: &[String], label: String, metric: &str) -> PanelSeries {
    let band = metric
        .strip_suffix("/mean")
        .map(|stem| format!("{stem}/std"));
    PanelSeries {
        label,
        metric: metric.to_owned(),
        band: band.filter(|band| names.contains(band)),
    }
}

fn total(names: &[String]) -> ChartPanel {
    ChartPanel {
        group: "Reward",
        title: "Reward, total".to_owned(),
        series: with_held_out(names, keys::REWARD_MEAN.name, "training"),
    }
}

/// A chart a task, where there are several.
fn tasks(names: &[String], runs: &[ReportRun]) -> Vec<ChartPanel> {
    let mut tasks: Vec<String> = Vec::new();
    for task in runs.iter().flat_map(ReportRun::tasks) {
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
    if tasks.len() < 2 {
        return Vec::new();
    }
    let chart = |task: &String| ChartPanel {
        group: "Reward",
        title: format!("Reward of {task}"),
        series: with_held_out(names, &keys::REWARD_TASK.of(&[task]), "training"),
    };
    tasks.iter().map(chart).collect()
}

/// A chart a part of the reward: over all tasks, and within each where several have it.
fn parts(names: &[String]) -> Vec<ChartPanel> {
    let plain =
        |name: &String| keys::of_held_out(name).map_or(name.clone(), |(_, own)| own.to_owned());
    let mut parts: Vec<String> = Vec::new();
    for name in names.iter().map(plain) {
        if keys::declared(&name) == Some(&keys::REWARD_PART) {
            let part = keys::REWARD_PART
                .names(&name)
                .next()
                .unwrap_or_default()
                .to_owned();
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    let of_part = |part: &str| -> Vec<String> {
        let own = names.iter().filter(|name| {
            keys::declared(name) == Some(&keys::REWARD_TASK_PART)
                && !keys::is_evaluation(name)
                && keys::REWARD_TASK_PART.names(name).nth(1) == Some(part)
        });
        own.cloned().collect()
    };
    let chart = |part: &String| {
        let mut all = with_held_out(names, &keys::REWARD_PART.of(&[part]), "training");
        let tasks = of_part(part);
        if tasks.len() > 1 {
            all.extend(tasks.iter().map(|name| {
                let task = keys::REWARD_TASK_PART
                    .names(name)
                    .next()
                    .unwrap_or_default();
                series(names, task.to_owned(), name)
            }));
        }
        ChartPanel {
            group: "Parts of the reward",
            title: part.clone(),
            series: all,
        }
    };
    parts.iter().map(chart).collect()
}

/// Why completions are no SVG, in training.
fn reasons(names: &[String]) -> ChartPanel {
    let own = names
        .iter()
        .filter(|name| !keys::is_evaluation(name) && keys::declared(name) == Some(&keys::REASON));
    let label = |name: &str| {
        let reason = keys::REASON.names(name).next().unwrap_or_default();
        reason.trim_end_matches("_frac").to_owned()
    };
    ChartPanel {
        group: "Completions",
        title: "Why SVG is invalid, fraction".to_owned(),
        series: own.map(|name| series(names, label(name), name)).collect(),
    }
}

/// Numbers of benchmarks that runs evaluate on.
fn benchmarks(names: &[String]) -> ChartPanel {
    let own = names
        .iter()
        .filter(|name| keys::declared(name) == Some(&keys::EVAL));
    let brief = |name: &&String| name.split('/').count() == 3;
    ChartPanel {
        group: "Completions",
        title: "Benchmarks".to_owned(),
        series: own
            .filter(brief)
            .map(|name| series(names, name.trim_start_matches("eval/").to_owned(), name))
            .collect(),
    }
}
