//! One screen of a watched run.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph};
use trainer::metrics::{Metric, keys};

use super::state::{WatchedRun, WatchedStage};
use crate::progress::duration;

/// Phases of a step: metric, name, colour.
const PHASES: [(&Metric, &str, Color); 5] = [
    (&keys::TIME_GENERATE, "generate", Color::Blue),
    (&keys::TIME_SCORE_EXPOSED, "score", Color::Magenta),
    (&keys::TIME_FORWARD_BACKWARD, "learn", Color::Green),
    (&keys::TIME_REDUCE, "reduce", Color::Cyan),
    (&keys::TIME_OPTIM, "optimizer", Color::Yellow),
];

/// A chart: its title, and the metrics that may stand in it with their names.
type Curve = (&'static str, &'static [(&'static Metric, &'static str)]);

const CURVES: [Curve; 4] = [
    ("reward", &[(&keys::REWARD_MEAN, "training")]),
    (
        "loss",
        &[
            (&keys::SFT_LOSS, "imitation"),
            (&keys::DPO_LOSS, "preference"),
            (&keys::POLICY_LOSS, "policy"),
        ],
    ),
    (
        "valid and cut off",
        &[(&keys::VALID, "valid"), (&keys::TRUNCATED, "cut off")],
    ),
    ("completion length", &[(&keys::TOKENS_MEAN, "tokens")]),
];

const COLOURS: [Color; 4] = [Color::Cyan, Color::Yellow, Color::Green, Color::Magenta];

/// Draws the run.
pub fn draw(run: &WatchedRun, frame: &mut Frame<'_>) {
    let [head, bar, phases, curves, samples, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Fill(2),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let Some(stage) = run.stages.last() else {
        frame.render_widget("nothing is written yet", head);
        return;
    };
    frame.render_widget(heading(run, stage), head);
    frame.render_widget(gauge(run, stage), bar);
    phase_bar(run, frame, phases);
    let told: Vec<&Curve> = CURVES
        .iter()
        .filter(|(_, of)| of.iter().any(|(key, _)| !series(stage, key).is_empty()))
        .collect();
    let columns = if curves.width < 80 { 1 } else { 2 };
    let rows = Layout::vertical(vec![
        Constraint::Fill(1);
        told.len().div_ceil(columns).max(1)
    ])
    .split(curves);
    for (at, curve) in told.iter().enumerate() {
        let row = Layout::horizontal(vec![Constraint::Fill(1); columns]).split(rows[at / columns]);
        chart(stage, curve, frame, row[at % columns]);
    }
    frame.render_widget(last_samples(run, samples), samples);
    frame.render_widget("q ends this view; the run goes on".dark_gray(), foot);
}

fn heading(run: &WatchedRun, stage: &WatchedStage) -> Line<'static> {
    let mut told = vec![
        stage.name.clone().bold(),
        format!(" step {}", stage.step).into(),
    ];
    if let Some(planned) = run.planned() {
        told.push(format!(" of {planned}").into());
    }
    for (metric, name) in [
        (&keys::REWARD_MEAN, "reward"),
        (&keys::SFT_LOSS, "loss"),
        (&keys::VALID, "valid"),
        (&keys::TOKENS_PER_S, "tokens/s"),
    ] {
        if let Some(value) = run.value(metric) {
            let digits = if value.abs() >= 100.0 { 0 } else { 3 };
            told.push(Span::raw(format!("  {name} ")).dark_gray());
            told.push(format!("{value:.digits$}").into());
        }
    }
    Line::from(told)
}

fn gauge(run: &WatchedRun, stage: &WatchedStage) -> Gauge<'static> {
    let share = run
        .planned()
        .map_or(0.0, |planned| stage.step as f64 / planned as f64);
    let pace = run
        .pace()
        .map_or(String::new(), |seconds| format!("{seconds:.2} s/step"));
    let left = run
        .left()
        .map_or(String::new(), |left| format!(", {} left", duration(left)));
    let later = match run.later() {
        0 => String::new(),
        steps => format!(", then {steps} steps of later stages"),
    };
    Gauge::default()
        .gauge_style(Style::new().fg(Color::Blue).bg(Color::Black))
        .ratio(share.clamp(0.0, 1.0))
        .label(format!("{pace}{left}{later}"))
}

/// What the last step's time went to.
fn phase_bar(run: &WatchedRun, frame: &mut Frame<'_>, area: Rect) {
    let times: Vec<(f64, &str, Color)> = PHASES
        .iter()
        .filter_map(|(metric, name, colour)| Some((run.value(metric)?, *name, *colour)))
        .filter(|(seconds, ..)| *seconds > 0.0)
        .collect();
    let whole: f64 = times.iter().map(|(seconds, ..)| seconds).sum();
    if whole <= 0.0 {
        return;
    }
    let (mut bar, mut names) = (Vec::new(), Vec::new());
    let (mut done, mut cells) = (0.0, 0);
    for (seconds, name, colour) in times {
        done += seconds;
        let end = (done / whole * f64::from(area.width)).round() as usize;
        bar.push(Span::styled(
            "█".repeat(end - cells),
            Style::new().fg(colour),
        ));
        cells = end;
        names.push(Span::styled("■ ", Style::new().fg(colour)));
        names.push(Span::raw(format!("{name} {seconds:.2} s  ")));
    }
    frame.render_widget(
        Paragraph::new(vec![Line::from(bar), Line::from(names)]),
        area,
    );
}

fn series<'a>(stage: &'a WatchedStage, metric: &Metric) -> &'a [(f64, f64)] {
    stage.points.get(metric.name).map_or(&[], Vec::as_slice)
}

fn chart(stage: &WatchedStage, (title, metrics): &Curve, frame: &mut Frame<'_>, area: Rect) {
    let mut lines: Vec<(String, &[(f64, f64)])> = Vec::new();
    for (metric, name) in *metrics {
        lines.push(((*name).to_owned(), series(stage, metric)));
        for (key, points) in &stage.points {
            if let Some((set, own)) = keys::of_held_out(key)
                && own == metric.name
                && set == "heldout"
            {
                lines.push(("held out".to_owned(), points));
            }
        }
    }
    lines.retain(|(_, points)| !points.is_empty());
    let every = || lines.iter().flat_map(|(_, points)| points.iter());
    let ends = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = every()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low < high {
            [low, high]
        } else {
            [low - 0.5, low + 0.5]
        }
    };
    let (x, y) = (ends(|point| point.0), ends(|point| point.1));
    let sets = lines.iter().enumerate().map(|(at, (name, points))| {
        Dataset::default()
            .name(name.clone())
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(COLOURS[at % COLOURS.len()]))
            .data(points)
    });
    let chart = Chart::new(sets.collect())
        .block(Block::bordered().title(*title))
        .x_axis(
            Axis::default()
                .bounds(x)
                .labels([format!("{:.0}", x[0]), format!("{:.0}", x[1])]),
        )
        .y_axis(
            Axis::default()
                .bounds(y)
                .labels([format!("{:.3}", y[0]), format!("{:.3}", y[1])]),
        );
    frame.render_widget(chart, area);
}

fn last_samples(run: &WatchedRun, area: Rect) -> Paragraph<'static> {
    let wide = usize::from(area.width.saturating_sub(4));
    let short = |text: &str, most: usize| -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // What a policy writes may hold codes that terminals act on.
        line.chars()
            .filter(|c| !c.is_control())
            .take(most)
            .collect()
    };
    let mut told = Vec::new();
    for sample in &run.samples {
        let total = match (sample.total, sample.loss) {
            (Some(number), _) => format!("{number:.3}"),
            (None, Some(loss)) => format!("loss {loss:.3}"),
            (None, None) => "–".to_owned(),
        };
        let colour = if sample.reason.is_some() {
            Color::Red
        } else {
            Color::Green
        };
        let asked = short(&sample.asked, wide / 3);
        let rest = wide.saturating_sub(asked.chars().count() + total.len().max(6) + 4);
        let said = match &sample.reason {
            Some(reason) => format!("[{}] {}", short(reason, 40), sample.text),
            None => sample.text.clone(),
        };
        told.push(Line::from(vec![
            Span::styled(format!("{total:>6}  "), Style::new().fg(colour)),
            asked.bold(),
            Span::raw("  "),
            Span::raw(short(&said, rest)).dark_gray(),
        ]));
    }
    Paragraph::new(told).block(Block::bordered().title("last samples"))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;
    use std::fmt::Write;
    use std::path::Path;

    use super::*;

    fn run_folder(folder: &Path, steps: u64) {
        let config = "stages:\n- {name: sft, steps: 10}\n- {name: rl, steps: 40}\n- {name: more, steps: 7}\n";
        std::fs::write(folder.join("config.resolved.yaml"), config).unwrap();
        let mut text = String::new();
        writeln!(
            text,
            "{}",
            json!({"stage": "sft", "step": 10, "time": 1.0, "sft/loss": 1.0})
        )
        .unwrap();
        for step in 1..=steps {
            let row = json!({"stage": "rl", "step": step, "time": 2.0, "reward/total/mean": step as f64 / 50.0, "svg/valid_frac": 0.5,
                "perf/tokens_per_s": 1234.0, "time/step_s": 2.0, "time/generate_s": 1.0, "time/forward_backward_s": 0.5});
            writeln!(text, "{row}").unwrap();
        }
        text.push_str("{\"stage\": \"rl\", \"st");
        std::fs::write(folder.join("metrics.jsonl"), text).unwrap();
        std::fs::create_dir_all(folder.join("samples/rl")).unwrap();
        let row = json!({"reward_prompt": "a red\u{1b}[31m dot", "completion": "<svg>\u{1b}]0;x</svg>", "total": 0.25, "reason": "xml: bad"});
        std::fs::write(
            folder.join(format!("samples/rl/step_{steps:06}.jsonl")),
            row.to_string(),
        )
        .unwrap();
    }

    fn screen(run: &WatchedRun, (width, height): (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(run, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let cells = buffer.content().chunks(usize::from(width));
        let line = |cells: &[ratatui::buffer::Cell]| {
            cells.iter().map(|cell| cell.symbol()).collect::<String>()
        };
        cells.map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_screen_tells_of_step_pace_phases_curves_and_samples() {
        let folder = tempfile::tempdir().unwrap();
        run_folder(folder.path(), 30);
        let mut run = WatchedRun::of(folder.path()).unwrap();
        let seen = screen(&run, (100, 40));
        for word in [
            "rl step 30 of 40",
            "reward 0.600",
            "valid 0.500",
            "tokens/s 1234",
            "2.00 s/step, 20s left, then 7 steps",
            "generate 1.00 s",
            "learn 0.50 s",
            "█",
            "last samples",
            "a red",
            "[xml: bad]",
        ] {
            assert!(seen.contains(word), "{word}: {seen}");
        }
        assert!(!seen.contains('\u{1b}'));
        // Two thirds of the phases' time is decoding.
        assert_eq!(seen.lines().nth(2).unwrap().matches('█').count(), 100);
        // What comes is seen, and what a resume cuts away is gone.
        run_folder(folder.path(), 31);
        run.refresh();
        assert!(screen(&run, (100, 40)).contains("rl step 31 of 40"));
        run_folder(folder.path(), 12);
        run.refresh();
        assert!(screen(&run, (100, 40)).contains("rl step 12 of 40"));
    }

    #[test]
    fn a_small_terminal_and_an_empty_run_are_drawn_too() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            WatchedRun::of(folder.path())
                .unwrap_err()
                .contains("no run folder")
        );
        std::fs::write(folder.path().join("config.resolved.yaml"), "stages: []\n").unwrap();
        let run = WatchedRun::of(folder.path()).unwrap();
        assert!(screen(&run, (40, 12)).contains("nothing is written yet"));
        run_folder(folder.path(), 3);
        let run = WatchedRun::of(folder.path()).unwrap();
        for size in [(40, 12), (10, 3), (1, 1)] {
            screen(&run, size);
        }
    }
}
