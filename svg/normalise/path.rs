//! Path data under a transform, on a grid. Commands stay as they are, absolute or relative, as far as
//! the transform lets them; offsets are taken from where the rounded path stands, so that rounding
//! does not add up along a path.

use super::arc::Arc;
use super::matrix::Matrix;
use super::number::{round, written, written_size};
use svgtypes::{PathParser, PathSegment as Segment};

/// The data after `matrix`, with `digits` decimals; what follows an error is left out, as renderers do.
pub(super) fn transformed(data: &str, matrix: &Matrix, digits: usize) -> String {
    let mut pen = CoordinateWriter {
        matrix: *matrix,
        digits,
        out: String::with_capacity(data.len()),
        last: ' ',
        from: (0.0, 0.0),
        start: (0.0, 0.0),
        at: (0.0, 0.0),
        begun: (0.0, 0.0),
    };
    for segment in PathParser::from(data) {
        match segment {
            Ok(segment) => pen.draw(segment),
            Err(_) => break,
        }
    }
    pen.out
}

struct CoordinateWriter {
    matrix: Matrix,
    digits: usize,
    out: String,
    /// The letter that a following command of its kind need not repeat.
    last: char,
    /// Where the source stands and where its subpath began.
    from: (f64, f64),
    start: (f64, f64),
    /// The same of what is written.
    at: (f64, f64),
    begun: (f64, f64),
}

impl CoordinateWriter {
    fn draw(&mut self, segment: Segment) {
        let (abs, from) = (segment.is_abs(), self.from);
        let put = |x: f64, y: f64| match abs {
            true => (x, y),
            false => (from.0 + x, from.1 + y),
        };
        match segment {
            Segment::MoveTo { x, y, .. } => {
                let to = put(x, y);
                // The first one is absolute however it is written.
                let abs = abs || self.out.is_empty();
                self.last = ' ';
                self.command('m', abs, &[to]);
                (self.start, self.begun) = (self.from, self.at);
            }
            Segment::LineTo { x, y, .. } => self.command('l', abs, &[put(x, y)]),
            Segment::HorizontalLineTo { x, .. } => {
                let to = (put(x, 0.0).0, from.1);
                self.straight('h', abs, to);
            }
            Segment::VerticalLineTo { y, .. } => {
                let to = (from.0, put(0.0, y).1);
                self.straight('v', abs, to);
            }
            Segment::CurveTo {
                x1,
                y1,
                x2,
                y2,
                x,
                y,
                ..
            } => self.command('c', abs, &[put(x1, y1), put(x2, y2), put(x, y)]),
            Segment::SmoothCurveTo { x2, y2, x, y, .. } => {
                self.command('s', abs, &[put(x2, y2), put(x, y)]);
            }
            Segment::Quadratic { x1, y1, x, y, .. } => {
                self.command('q', abs, &[put(x1, y1), put(x, y)]);
            }
            Segment::SmoothQuadratic { x, y, .. } => self.command('t', abs, &[put(x, y)]),
            Segment::EllipticalArc {
                rx,
                ry,
                x_axis_rotation,
                large_arc,
                sweep,
                x,
                y,
                ..
            } => {
                let to = put(x, y);
                let arc = Arc {
                    radii: (rx.abs(), ry.abs()),
                    degrees: x_axis_rotation,
                    large_arc,
                    sweep,
                };
                let drawn = arc.under(&self.matrix);
                let ends = (self.at, self.reach(abs, to));
                let exact = (
                    self.matrix.point(self.from.0, self.from.1),
                    self.matrix.point(to.0, to.1),
                );
                let radii = drawn.radii_near(exact, ends, self.digits);
                self.letter('a', abs);
                self.word(&written_size(radii.0, self.digits));
                self.word(&written_size(radii.1, self.digits));
                self.word(&written(drawn.degrees, self.digits));
                self.word(&format!(
                    "{} {}",
                    u8::from(large_arc),
                    u8::from(drawn.sweep)
                ));
                self.points(abs, &[to]);
            }
            Segment::ClosePath { .. } => {
                self.out.push('z');
                self.last = ' ';
                (self.from, self.at) = (self.start, self.begun);
            }
        }
    }

    /// A line along an axis: one number where the axes stay axes.
    fn straight(&mut self, letter: char, abs: bool, to: (f64, f64)) {
        if !self.matrix.is_upright() {
            return self.command('l', abs, &[to]);
        }
        self.letter(letter, abs);
        let exact = self.matrix.point(to.0, to.1);
        let mut reached = self.at;
        let (exact, side) = match letter {
            'h' => (exact.0, &mut reached.0),
            _ => (exact.1, &mut reached.1),
        };
        let base = if abs { 0.0 } else { *side };
        let number = round(exact - base, self.digits);
        *side = round(base + number, self.digits);
        self.word(&written(number, self.digits));
        (self.from, self.at) = (to, reached);
    }

    fn command(&mut self, letter: char, abs: bool, points: &[(f64, f64)]) {
        self.letter(letter, abs);
        self.points(abs, points);
    }

    /// Where the rounded path comes to stand when the source goes to `to`.
    fn reach(&self, abs: bool, to: (f64, f64)) -> (f64, f64) {
        let base = if abs { (0.0, 0.0) } else { self.at };
        let exact = self.matrix.point(to.0, to.1);
        let side =
            |base: f64, exact: f64| round(base + round(exact - base, self.digits), self.digits);
        (side(base.0, exact.0), side(base.1, exact.1))
    }

    /// Writes source points, the last of which is where the pen goes.
    fn points(&mut self, abs: bool, points: &[(f64, f64)]) {
        let base = if abs { (0.0, 0.0) } else { self.at };
        for &(x, y) in points {
            let exact = self.matrix.point(x, y);
            self.word(&written(exact.0 - base.0, self.digits));
            self.word(&written(exact.1 - base.1, self.digits));
        }
        if let Some(&last) = points.last() {
            self.at = self.reach(abs, last);
            self.from = last;
        }
    }

    fn letter(&mut self, letter: char, abs: bool) {
        let letter = match abs {
            true => letter.to_ascii_uppercase(),
            false => letter,
        };
        if letter != self.last {
            self.out.push(letter);
            self.last = letter;
        }
    }

    fn word(&mut self, text: &str) {
        if self.out.ends_with(|c: char| c.is_ascii_digit()) && !text.starts_with('-') {
            self.out.push(' ');
        }
        self.out.push_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(transform: &str, data: &str) -> String {
        transformed(data, &Matrix::parse(transform).unwrap(), 2)
    }

    #[test]
    fn commands_keep_their_kind_under_a_plain_transform() {
        assert_eq!(
            under(
                "translate(1 2) scale(2)",
                "m1 1h2v-1.5l1,1 1 1c0 0 1 1 2 2s1 0 1 1zM0 0L5-5"
            ),
            "M3 4h4v-3l2 2 2 2c0 0 2 2 4 4s2 0 2 2zM1 2L11-8"
        );
        assert_eq!(
            under(
                "scale(2)",
                "M0 0a1.5 1 30 101 1t2 2q1 1 2 2T9 9A1 2 0 0 1 3 3"
            ),
            "M0 0a3 2 30 1 0 2 2t4 4q2 2 4 4T18 18A2 4 0 0 1 6 6"
        );
    }

    #[test]
    fn rounding_does_not_add_up() {
        let steps = "h.333".repeat(300);
        let data = under("scale(1)", &format!("M0 0{steps}"));
        let sum: f64 = data["M0 0h".len()..]
            .split(' ')
            .map(|n| n.parse::<f64>().unwrap())
            .sum();
        assert!((sum - 99.9).abs() < 0.006, "{sum}");
    }

    #[test]
    fn turning_and_mirroring_are_taken_in() {
        assert_eq!(under("rotate(90)", "M1 0h2V4"), "M0 1l0 2L-4 3");
        assert_eq!(
            under("scale(1 -1)", "M0 0A2 1 0 0 1 4 0"),
            "M0 0A2 1 0 0 0 4 0"
        );
        assert_eq!(
            under("rotate(90)", "M0 0A2 1 0 0 1 4 0"),
            "M0 0A2 1 90 0 1 0 4"
        );
    }

    #[test]
    fn what_follows_an_error_is_left_out() {
        assert_eq!(under("scale(1)", "M0 0L1 1Lx"), "M0 0L1 1");
        assert_eq!(under("scale(1)", "L1 1"), "");
    }
}
