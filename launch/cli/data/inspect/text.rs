//! The survey as plain text.

use std::fmt::Write as _;

use super::problems::Problems;
use super::survey::{PictureCounts, Survey, TaskSurvey};
use crate::cli::data::stats::Lengths;

/// Letters of the longest bar.
const WIDTH: u64 = 40;
/// Kinds of problems and sizes of pictures that are listed.
const MOST_LINES: usize = 12;

/// The whole text; it ends with a line's end.
pub fn of(survey: &Survey) -> String {
    let mut out = String::new();
    sources(survey, &mut out);
    for task in &survey.tasks {
        of_task(task, &mut out);
    }
    let sentences: Vec<String> = survey.stages.iter().flat_map(|of| of.sentences()).collect();
    if !sentences.is_empty() {
        out.push('\n');
    }
    for sentence in sentences {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{sentence}");
    }
    out
}

fn sources(survey: &Survey, out: &mut String) {
    let mut lines = vec![
        [
            "source", "task", "train", "held out", "filtered", "bad", "measured",
        ]
        .map(str::to_owned),
    ];
    for source in &survey.sources {
        let of = &source.summary;
        let bad = source.bad.total() + source.stops.total();
        lines.push([
            printable(&of.name),
            printable(&of.task),
            of.train.to_string(),
            of.held_out.to_string(),
            of.filtered.to_string(),
            bad.to_string(),
            source.measured.to_string(),
        ]);
    }
    let width = |column: usize| {
        let widths = lines.iter().map(|line| line[column].chars().count());
        widths.max().unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    for line in &lines {
        let cells = line.iter().zip(widths).enumerate();
        let cells = cells.map(|(column, (text, width))| match column {
            0 | 1 => format!("{text:<width$}"),
            _ => format!("{text:>width$}"),
        });
        let cells: Vec<String> = cells.collect();
        let _ = writeln!(out, "{}", cells.join("  "));
    }
    for source in &survey.sources {
        let name = printable(&source.summary.name);
        let unused = &source.summary.unused;
        if !unused.is_empty() {
            let _ = writeln!(out, "\n{name}: not used: {}", printable(&unused.join(", ")));
        }
        for (problems, what) in [
            (&source.bad, "bad rows"),
            (&source.absent, "rows that are no samples of its view"),
            (&source.stops, "rows of which no prompt can be made"),
        ] {
            listed(problems, &format!("{name}: {what}"), out);
        }
    }
}

fn listed(problems: &Problems, title: &str, out: &mut String) {
    if problems.total() == 0 {
        return;
    }
    let _ = writeln!(out, "\n{title}: {}", problems.total());
    let kinds = problems.kinds();
    for (name, kind) in kinds.iter().take(MOST_LINES) {
        let _ = writeln!(out, "  {:>8}  {}", kind.count, printable(name));
        let _ = writeln!(out, "            such as {}", printable(&kind.first));
    }
    if kinds.len() > MOST_LINES {
        let _ = writeln!(
            out,
            "            and {} kinds more",
            kinds.len() - MOST_LINES
        );
    }
}

fn of_task(task: &TaskSurvey, out: &mut String) {
    let [train, held_out, measured] = task.rows;
    let [svg, text, picture] = task.references;
    let _ = writeln!(
        out,
        "\ntask {}: {train} rows to train on, {held_out} held out; {measured} measured, with an SVG \
         as reference {svg}, a text {text}, a picture {picture}",
        printable(&task.name)
    );
    for (name, lengths) in task.lengths.named() {
        histogram(name, lengths, out);
    }
    shown(&task.pictures, out);
}

/// One line of statistics, and a bar for each power of two.
fn histogram(name: &str, lengths: &Lengths, out: &mut String) {
    let _ = writeln!(
        out,
        "  {name}: mean {:.0}, median {}, 95th percentile {}, longest {}",
        lengths.mean(),
        lengths.quantile(0.5),
        lengths.quantile(0.95),
        lengths.longest()
    );
    let bars = lengths.bars();
    let most = bars.iter().map(|(_, count)| *count).max().unwrap_or(1);
    for (bound, count) in bars {
        // What is there at all shows.
        let letters = (count * WIDTH).div_ceil(most.max(1)) as usize;
        let _ = writeln!(
            out,
            "    <= {bound:<8} {count:>8}{}{}",
            if letters > 0 { " " } else { "" },
            "#".repeat(letters)
        );
    }
}

fn shown(pictures: &PictureCounts, out: &mut String) {
    if pictures.count == 0 {
        return;
    }
    let _ = writeln!(
        out,
        "  pictures in prompts: {} in {} rows, {} different sizes",
        pictures.count,
        pictures.rows,
        pictures.sizes.len()
    );
    for ((width, height), count) in pictures.frequent(MOST_LINES) {
        let _ = writeln!(out, "    {count:>8}  {width} x {height}");
    }
}

/// Without characters that move a terminal's cursor or change its colours.
fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_a_bar_and_the_longest_is_as_wide_as_it_may_be() {
        let mut lengths = Lengths::default();
        for _ in 0..1000 {
            lengths.add(3);
        }
        lengths.add(9);
        let mut out = String::new();
        histogram("x", &lengths, &mut out);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].ends_with(&format!("1000 {}", "#".repeat(40))));
        assert!(lines[2].ends_with(" 0") && lines[3].ends_with(" 1 #"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\u{fffd}[31mb\u{fffd}");
    }
}
