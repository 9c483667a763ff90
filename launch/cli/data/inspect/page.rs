//! The survey as one HTML file.

use std::fmt::Write as _;
use std::path::Path;

use rayon::prelude::*;
use rollout::data::Split;
use rollout::prompt::PICTURE;
use trainer::config::Config;

use super::pictures;
use super::problems::Problems;
use super::survey::{Sample, Survey, TaskSurvey};
use crate::cli::data::stats::Lengths;
use crate::report::page::{clipped, document, escape, picture};
use crate::report::thumbnail::PngResult;

/// Pictures of a prompt that are shown.
const MOST_PICTURES: usize = 8;

/// The whole page about the config at `path`.
pub fn html(survey: &Survey, config: &Config, path: &Path) -> String {
    let title = format!("{}: data", config.name);
    let mut out = format!(
        "<header><h1>{}</h1><p class=\"muted\">{}</p></header>\n",
        escape(&title),
        escape(&path.display().to_string())
    );
    out.push_str(&sources(survey));
    for source in &survey.sources {
        let name = &source.summary.name;
        for (problems, what) in [
            (&source.bad, "bad rows"),
            (&source.absent, "rows that are no samples of its view"),
            (&source.stops, "rows of which no prompt can be made"),
        ] {
            out.push_str(&listed(problems, &format!("{name}: {what}")));
        }
    }
    let drawer = pictures::PageRenderer::new(config);
    for task in &survey.tasks {
        out.push_str(&section(task));
        let samples = survey.samples.iter();
        let own: Vec<&Sample> = samples
            .filter(|sample| sample.example.task == task.name)
            .collect();
        let cards = own.par_iter().with_max_len(1);
        let cards: Vec<String> = cards.map(|sample| card(sample, &drawer)).collect();
        let cards = cards.concat();
        if !cards.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(out, "<h3>Samples</h3><div class=\"samples\">{cards}</div>");
        }
        out.push_str("</section>\n");
    }
    let sentences = survey.stages.iter().flat_map(|stage| stage.sentences());
    for sentence in sentences {
        let _ = write!(out, "<p>{}</p>", escape(&sentence));
    }
    document(&title, &out)
}

fn sources(survey: &Survey) -> String {
    let mut rows = String::new();
    for source in &survey.sources {
        let of = &source.summary;
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&of.name),
            escape(&of.task),
            of.train,
            of.held_out,
            of.filtered,
            source.bad.total() + source.stops.total(),
            source.measured
        );
    }
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>source</th><th>task</th><th>to train on</th>\
         <th>held out</th><th>left out by length</th><th>bad</th><th>measured</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>\n"
    )
}

fn listed(problems: &Problems, title: &str) -> String {
    if problems.total() == 0 {
        return String::new();
    }
    let mut rows = String::new();
    for (name, kind) in problems.kinds() {
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(name),
            kind.count,
            escape(&clipped(&kind.first))
        );
    }
    format!(
        "<h3>{}</h3><div class=\"scroll\"><table><thead><tr><th>problem</th><th>rows</th>\
         <th>such as</th></tr></thead><tbody>{rows}</tbody></table></div>\n",
        escape(title)
    )
}

fn section(task: &TaskSurvey) -> String {
    let [train, held_out, measured] = task.rows;
    let [svg, text, image] = task.references;
    let mut out = format!(
        "<section><h2>{}</h2><p class=\"muted\">{train} rows to train on, {held_out} held out; \
         {measured} measured, with an SVG as reference {svg}, a text {text}, a picture {image}</p>\
         <div class=\"histograms\">",
        escape(&task.name)
    );
    for (name, lengths) in task.lengths.named() {
        out.push_str(&histogram(name, lengths));
    }
    out.push_str("</div>\n");
    if task.pictures.count > 0 {
        let sizes = task.pictures.frequent(12);
        let sizes: Vec<String> = sizes
            .iter()
            .map(|((width, height), count)| format!("{width} x {height} ({count})"))
            .collect();
        let _ = write!(
            out,
            "<p>{} pictures in the prompts of {} rows: {}</p>",
            task.pictures.count,
            task.pictures.rows,
            sizes.join(", ")
        );
    }
    out
}

fn histogram(name: &str, lengths: &Lengths) -> String {
    let bars = lengths.bars();
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut rows = String::new();
    for (bound, count) in bars {
        let share = 100.0 * count as f64 / most.max(1) as f64;
        let _ = write!(
            rows,
            "<span>≤ {bound}</span><div style=\"width:{share:.1}%\"></div><span>{count}</span>"
        );
    }
    format!(
        "<figure><figcaption>{}</figcaption><p class=\"muted\">mean {:.0}, median {}, 95th percentile {}, \
         longest {}</p><div class=\"bars\">{rows}</div></figure>",
        escape(name),
        lengths.mean(),
        lengths.quantile(0.5),
        lengths.quantile(0.95),
        lengths.longest()
    )
}

fn card(sample: &Sample, drawer: &pictures::PageRenderer) -> String {
    let example = &sample.example;
    let mut out = String::from("<article><div class=\"pair\">");
    let mut show = |caption: &str, drawn: PngResult| {
        let (png, reason) = match drawn {
            Ok(png) => (Some(png), String::new()),
            Err(reason) => (None, reason),
        };
        out.push_str(&picture(caption, png, &reason));
    };
    for (at, image) in example.images.iter().take(MOST_PICTURES).enumerate() {
        let caption = match example.images.len() {
            1 => "shown".to_owned(),
            many => format!("shown, {} of {many}", at + 1),
        };
        show(&caption, pictures::thumbnail(image));
    }
    for (name, text) in &example.fields {
        if name != "prompt" && text.contains("<svg") {
            show(name, drawer.drawing(text, &example.task));
        }
    }
    if let Some(svg) = &example.reference.svg {
        show("reference", drawer.drawing(svg, &example.task));
    }
    if let Some(image) = &example.reference.image {
        show("reference", pictures::thumbnail(image));
    }
    if let (None, None, Some(text)) = (
        &example.reference.svg,
        &example.reference.image,
        &example.reference.text,
    ) {
        let _ = write!(
            out,
            "<figure><p class=\"prompt\">{}</p><figcaption>reference</figcaption></figure>",
            escape(&clipped(text))
        );
    }
    let list = match sample.list {
        Split::Train => "to train on",
        Split::HeldOut => "held out",
    };
    let count = |tokens: Option<usize>, characters: usize| match tokens {
        Some(tokens) => format!("{tokens} tokens"),
        None => format!("{characters} characters"),
    };
    let asked = &sample.asked;
    let _ = write!(
        out,
        "</div><p class=\"prompt\">{}</p><p class=\"score\"><b>{}</b> <span class=\"chip\">{list}</span> \
         <span class=\"chip\">prompt {}</span>",
        escape(&clipped(&words(sample))),
        escape(&example.id),
        count(asked.tokens, asked.text.chars().count()),
    );
    let reference = &example.reference;
    let answer = example.target.as_ref();
    let answer = answer
        .or(reference.svg.as_ref())
        .or(reference.text.as_ref());
    if let Some(answer) = answer {
        let _ = write!(
            out,
            " <span class=\"chip\">answer {}</span></p><details><summary>answer</summary><pre>{}</pre></details>",
            count(sample.answer_tokens, answer.chars().count()),
            escape(&clipped(answer))
        );
    } else {
        out.push_str("</p>");
    }
    let _ = writeln!(
        out,
        "<details><summary>prompt as the policy reads it</summary><pre>{}</pre></details></article>",
        escape(&clipped(&asked.text))
    );
    out
}

/// What is asked, in the row's own words where it has some.
fn words(sample: &Sample) -> String {
    let example = &sample.example;
    let own = example.fields.get("prompt").map(|text| text.trim());
    let own = own.filter(|text| !text.is_empty() && *text != PICTURE);
    own.unwrap_or(&sample.asked.text).to_owned()
}
