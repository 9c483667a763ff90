//! Which metrics share a chart, by the metric names' pattern `area/quantity[/stat]`.

use super::chart::{Chart, Series};
use super::data::Stage;

/// The charts of a stage that have something to show, in reading order.
pub(super) fn charts(stage: &Stage) -> Vec<Chart<'_>> {
    let mut charts = vec![total(stage), parts(stage), tasks(stage)];
    let fixed: [(&str, &[(&str, &str)]); 10] = [
        (
            "Loss",
            &[
                ("policy/loss", "policy"),
                ("sft/loss", "imitation"),
                ("dpo/loss", "preference"),
            ],
        ),
        (
            "Valid SVG and truncated completions, fraction",
            &[
                ("svg/valid_frac", "valid"),
                ("completion/truncated_frac", "truncated"),
            ],
        ),
        (
            "Completion length, tokens",
            &[
                ("completion/tokens/mean", "mean"),
                ("completion/tokens/max", "max"),
            ],
        ),
        (
            "KL divergence",
            &[
                ("policy/kl_ref", "to reference"),
                ("policy/kl_sampler", "to sampler"),
            ],
        ),
        ("Entropy", &[("policy/entropy", "entropy")]),
        (
            "Groups without spread, fraction",
            &[("reward/zero_spread_frac", "zero spread")],
        ),
        ("Learning rate", &[("optim/lr", "rate")]),
        ("Gradient norm", &[("optim/grad_norm", "norm")]),
        (
            "Time of a step, seconds",
            &[
                ("time/step_s", "step"),
                ("time/generate_s", "generate"),
                ("time/score_exposed_s", "score, exposed"),
                ("time/forward_backward_s", "forward and backward"),
                ("time/reduce_s", "reduce"),
                ("time/optim_s", "optimizer"),
            ],
        ),
        (
            "Throughput, tokens per second",
            &[("perf/tokens_per_s", "tokens/s")],
        ),
    ];
    charts.extend(fixed.iter().map(|(title, keys)| {
        Chart {
            title,
            series: keys
                .iter()
                .filter_map(|(key, label)| Some(Series::line(*label, stage.curves.get(*key)?)))
                .collect(),
        }
    }));
    charts.retain(|chart| !chart.series.is_empty());
    charts
}

fn total(stage: &Stage) -> Chart<'_> {
    let mut series = Vec::new();
    if let Some(points) = stage.curves.get("reward/total/mean") {
        series.push(Series::line("training", points));
    }
    for (key, points) in &stage.evals {
        let set = key
            .strip_prefix("eval/")
            .and_then(|key| key.strip_suffix("/reward/total/mean"));
        if let Some(set) = set {
            series.push(Series::dots(set, points));
        }
    }
    Chart {
        title: "Reward, total",
        series,
    }
}

/// `reward/<part>/mean`.
fn parts(stage: &Stage) -> Chart<'_> {
    rewards(stage, "Reward parts", |words| match words {
        [part, "mean"] if *part != "total" => Some((*part).to_owned()),
        _ => None,
    })
}

/// `reward/<task>/total/mean`, when there are several tasks.
fn tasks(stage: &Stage) -> Chart<'_> {
    let mut chart = rewards(stage, "Reward by task", |words| match words {
        [task, "total", "mean"] => Some((*task).to_owned()),
        _ => None,
    });
    if chart.series.len() < 2 {
        chart.series.clear();
    }
    chart
}

fn rewards<'a>(
    stage: &'a Stage,
    title: &'a str,
    label: impl Fn(&[&str]) -> Option<String>,
) -> Chart<'a> {
    let series = stage
        .curves
        .iter()
        .filter_map(|(key, points)| {
            let words: Vec<&str> = key.strip_prefix("reward/")?.split('/').collect();
            Some(Series::line(label(&words)?, points))
        })
        .collect();
    Chart { title, series }
}
