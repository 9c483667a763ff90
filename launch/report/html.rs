//! The page around charts and samples.

use std::fmt::Write;

use trainer::metrics::{Metric, keys};

use super::chart::short;
use super::data::{RunData, StageData};
use super::page::{document, escape};
use super::samples::Rasterise;
use super::{panels, samples};

/// Held-out numbers that stand at the top of the page, with their words.
const HEADLINES: [(&Metric, &str); 2] = [
    (&keys::REWARD_MEAN, "held-out reward"),
    (&keys::VALID, "held-out valid SVG"),
];

/// The whole page.
pub(super) fn page(run: &RunData, rasterise: Rasterise<'_>) -> String {
    let mut out = format!(
        "<header><h1>{}</h1>{}</header>\n",
        escape(&run.name),
        environment(run),
    );
    out.push_str(&warnings(run));
    out.push_str(&tiles(run));
    for stage in &run.stages {
        out.push_str(&section(stage, rasterise));
    }
    document(&run.name, &out)
}

/// Commit, versions and machine, as far as the run wrote them down.
fn environment(run: &RunData) -> String {
    let known: Vec<String> = run
        .environment
        .iter()
        .filter_map(|(key, value)| {
            let value = match value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Number(number) => number.to_string(),
                _ => return None,
            };
            Some(format!("{} {}", escape(key), escape(&value)))
        })
        .collect();
    format!("<p class=\"muted\">{}</p>", known.join(" · "))
}

/// What the run's logs warn of.
fn warnings(run: &RunData) -> String {
    let item = |said: &String| format!("<li>{}</li>", escape(said));
    let items: String = run.warnings.iter().map(item).collect();
    match items.is_empty() {
        true => items,
        false => format!("<section><h2>Warnings</h2><ul>{items}</ul></section>\n"),
    }
}

/// Last held-out numbers of the run, with what each stage made of them.
fn tiles(run: &RunData) -> String {
    let mut out = String::new();
    for (metric, words) in HEADLINES {
        for set in sets(run) {
            let name = keys::held_out(&set, metric.name);
            let spans: Vec<(&str, f64, f64)> = run
                .stages
                .iter()
                .filter_map(|stage| {
                    let points = stage.evals.get(&name)?;
                    Some((stage.name.as_str(), points.first()?.1, points.last()?.1))
                })
                .collect();
            let Some((_, _, last)) = spans.last() else {
                continue;
            };
            let words = match set.as_str() {
                "heldout" => words.to_owned(),
                set => format!("{words}, {set}"),
            };
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "<div class=\"tile\"><span>{}</span><b>{}</b>",
                escape(&words),
                short(*last)
            );
            for (stage, first, last) in &spans {
                let _ = write!(
                    out,
                    "<small>{}: {} → {}</small>",
                    escape(stage),
                    short(*first),
                    short(*last)
                );
            }
            out.push_str("</div>");
        }
    }
    if out.is_empty() {
        return out;
    }
    format!("<div class=\"tiles\">{out}</div>\n")
}

/// Names of the held-out sets.
fn sets(run: &RunData) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    for key in run.stages.iter().flat_map(|stage| stage.evals.keys()) {
        if let Some(set) = key.split('/').nth(1)
            && !sets.iter().any(|known| known == set)
        {
            sets.push(set.to_owned());
        }
    }
    sets
}

fn section(stage: &StageData, rasterise: Rasterise<'_>) -> String {
    let mut out = format!(
        "<section><h2>{}</h2><p class=\"muted\">{} steps{}</p>\n",
        escape(&stage.name),
        stage.steps,
        stage.span.map_or_else(String::new, |(first, last)| {
            format!(", {}", duration(last - first))
        })
    );
    out.push_str(&before_and_after(stage));
    out.push_str("<div class=\"charts\">\n");
    for chart in panels::charts(stage) {
        out.push_str(&chart.html());
    }
    out.push_str("</div>\n");
    for (step, rows) in &stage.samples {
        let title = format!("Samples of step {step}");
        out.push_str(&samples::html(&title, rows, rasterise));
    }
    for (set, step, rows) in &stage.held_out {
        let title = format!("Held-out samples of step {step}, {set}");
        out.push_str(&samples::html(&title, rows, rasterise));
    }
    out.push_str("</section>\n");
    out
}

/// The stage's held-out numbers, first and last.
fn before_and_after(stage: &StageData) -> String {
    let mut out = String::new();
    for (key, points) in &stage.evals {
        let (Some(first), Some(last)) = (points.first(), points.last()) else {
            continue;
        };
        let name = keys::of_held_out(key).map_or(key.clone(), |(set, key)| format!("{set}/{key}"));
        let change = last.1 - first.1;
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}{}</td></tr>",
            escape(&name),
            short(first.1),
            short(last.1),
            if change > 0.0 { "+" } else { "" },
            short(change)
        );
    }
    if out.is_empty() {
        return out;
    }
    let points = || stage.evals.values().flatten().map(|(step, _)| *step);
    let (first, last) = (
        points().fold(f64::INFINITY, f64::min),
        points().fold(0.0, f64::max),
    );
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>not trained on</th><th>step {}</th>\
         <th>step {}</th><th>change</th></tr></thead><tbody>{out}</tbody></table></div>\n",
        first, last
    )
}

fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}
