//! Which metrics share a chart, by the metric names' pattern `area/quantity[/stat]`.

use trainer::metrics::{Metric, keys};

use super::chart::{Chart, Series};
use super::data::StageData;

/// The charts of a stage that have something to show, in reading order.
pub(super) fn charts(stage: &StageData) -> Vec<Chart<'_>> {
    let mut charts = vec![total(stage), parts(stage), tasks(stage)];
    let fixed: [(&str, &[(&Metric, &str)]); 13] = [
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
            "Valid SVG and truncated completions, fraction",
            &[(&keys::VALID, "valid"), (&keys::TRUNCATED, "truncated")],
        ),
        (
            "Completion length, tokens",
            &[(&keys::TOKENS_MEAN, "mean"), (&keys::TOKENS_MAX, "max")],
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
    ];
    charts.extend(fixed.iter().map(|(title, keys)| {
        Chart {
            title,
            series: keys
                .iter()
                .filter_map(|(key, label)| Some(Series::line(*label, stage.curves.get(key.name)?)))
                .collect(),
        }
    }));
    charts.retain(|chart| !chart.series.is_empty());
    charts
}

fn total(stage: &StageData) -> Chart<'_> {
    let mut series = Vec::new();
    if let Some(points) = stage.curves.get(keys::REWARD_MEAN.name) {
        series.push(Series::line("training", points));
    }
    for (key, points) in &stage.evals {
        match keys::of_held_out(key) {
            Some((set, metric)) if metric == keys::REWARD_MEAN.name => {
                series.push(Series::dots(set, points));
            }
            _ => {}
        }
    }
    Chart {
        title: "Reward, total",
        series,
    }
}

/// `reward/<part>/mean`.
fn parts(stage: &StageData) -> Chart<'_> {
    named(stage, "Reward parts", &keys::REWARD_PART)
}

/// `reward/<task>/total/mean`, when there are several tasks.
fn tasks(stage: &StageData) -> Chart<'_> {
    let mut chart = named(stage, "Reward by task", &keys::REWARD_TASK);
    if chart.series.len() < 2 {
        chart.series.clear();
    }
    chart
}

/// The curves of a metric with one name of the user's, by that name.
fn named<'a>(stage: &'a StageData, title: &'a str, metric: &'static Metric) -> Chart<'a> {
    let of_metric = |key: &str| keys::declared(key) == Some(metric);
    let curves = stage.curves.iter().filter(|(key, _)| of_metric(key));
    Chart {
        title,
        series: curves
            .filter_map(|(key, points)| Some(Series::line(metric.names(key).next()?, points)))
            .collect(),
    }
}
