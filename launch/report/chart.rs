//! A line chart as inline SVG, coloured by the page's style sheet.

use std::fmt::Write;

use super::page::escape;

/// Size of the drawing and of its margins, in its own units.
const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 22.0;

/// More points than this are averaged in equal runs.
const MOST_POINTS: usize = 300;
/// Colours that the style sheet knows.
const COLOURS: usize = 7;

/// Some series over the same steps.
#[derive(Debug)]
pub(super) struct Chart<'a> {
    pub(super) title: &'a str,
    pub(super) series: Vec<Series<'a>>,
}

/// One curve: step and value of each point.
#[derive(Debug)]
pub(super) struct Series<'a> {
    label: String,
    points: &'a [(f64, f64)],
    dots: bool,
}

impl<'a> Series<'a> {
    /// A connected curve.
    pub(super) fn line(label: impl Into<String>, points: &'a [(f64, f64)]) -> Self {
        Self {
            label: label.into(),
            points,
            dots: false,
        }
    }

    /// Marked points, for measurements that are far apart.
    pub(super) fn dots(label: impl Into<String>, points: &'a [(f64, f64)]) -> Self {
        Self {
            dots: true,
            ..Self::line(label, points)
        }
    }
}

/// The ranges that a chart shows.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn x(&self, step: f64) -> f64 {
        LEFT + (step - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (value - self.y.0) / (self.y.1 - self.y.0) * (HEIGHT - TOP - BOTTOM)
    }
}

impl Chart<'_> {
    /// The chart as a `figure` element.
    pub(super) fn html(&self) -> String {
        let every = || self.series.iter().flat_map(|series| series.points);
        let x = range(every().map(|(step, _)| *step));
        let (low, high) = range(every().map(|(_, value)| *value));
        let (ticks, spacing) = ticks(low, high);
        let frame = Frame {
            x,
            y: (low.min(ticks[0]), high.max(ticks[ticks.len() - 1])),
        };
        let mut out = format!(
            "<figure><figcaption>{}</figcaption>\
             <svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title),
            escape(self.title)
        );
        // Writing to a string cannot fail.
        for tick in &ticks {
            let y = frame.y(*tick);
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5,
                label(*tick, spacing)
            );
        }
        for (step, anchor) in [(frame.x.0, "start"), (frame.x.1, "end")] {
            let _ = write!(
                out,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"{anchor}\">step {}</text>",
                frame.x(step),
                HEIGHT - 6.0,
                step
            );
        }
        for (index, series) in self.series.iter().enumerate() {
            out.push_str(&series.marks(index % COLOURS, &frame));
        }
        out.push_str("</svg><p class=\"legend\">");
        for (index, series) in self.series.iter().enumerate() {
            let last = series.points.last().map_or(f64::NAN, |(_, value)| *value);
            let _ = write!(
                out,
                "<span class=\"item\"><span class=\"key c{}\">{}</span> <b>{}</b></span> ",
                index % COLOURS,
                escape(&series.label),
                short(last)
            );
        }
        out.push_str("</p></figure>\n");
        out
    }
}

impl Series<'_> {
    fn marks(&self, colour: usize, frame: &Frame) -> String {
        let mut out = String::new();
        let points = thinned(self.points);
        let path: Vec<String> = points
            .iter()
            .map(|(step, value)| format!("{:.1},{:.1}", frame.x(*step), frame.y(*value)))
            .collect();
        let dashed = if self.dots { " dashed" } else { "" };
        let _ = write!(
            out,
            "<polyline class=\"s{colour}{dashed}\" points=\"{}\"/>",
            path.join(" ")
        );
        if self.dots || points.len() == 1 {
            for (step, value) in points {
                let _ = write!(
                    out,
                    "<circle class=\"d{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\">\
                     <title>step {step}: {}</title></circle>",
                    frame.x(step),
                    frame.y(value),
                    short(value)
                );
            }
        }
        out
    }
}

/// Averages of equal runs of points when there are too many to see.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(MOST_POINTS).max(1);
    points
        .chunks(run)
        .map(|chunk| {
            let n = chunk.len() as f64;
            let (steps, values) = chunk
                .iter()
                .fold((0.0, 0.0), |(s, v), (step, value)| (s + step, v + value));
            (steps / n, values / n)
        })
        .collect()
}

/// Least and greatest, apart from each other.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low > high {
        return (0.0, 1.0);
    }
    if low == high {
        let margin = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
        return (low - margin, high + margin);
    }
    (low, high)
}

/// Round values around the range, three to six of them, and their distance.
fn ticks(low: f64, high: f64) -> (Vec<f64>, f64) {
    let rough = (high - low) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let spacing = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|spacing| *spacing >= rough)
        .unwrap_or(power * 10.0);
    let first = (low / spacing).floor() as i64;
    let last = (high / spacing).ceil() as i64;
    let ticks = (first..=last).map(|n| n as f64 * spacing).collect();
    (ticks, spacing)
}

/// A tick's value with as many digits as the spacing needs.
fn label(value: f64, spacing: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if spacing < 1e-3 || value.abs() >= 1e6 {
        return format!("{value:.1e}");
    }
    let mut decimals = (-spacing.log10().floor()).max(0.0) as usize;
    if (spacing * 10f64.powi(decimals as i32)).fract() > 1e-6 {
        decimals += 1;
    }
    format!("{value:.decimals$}")
}

/// A number as tables and legends show it.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
