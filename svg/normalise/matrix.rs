//! Transforms: composing them, telling the kinds that coordinates can take in, writing the rest.

use super::error::Unsupported;
use super::number::{written, written_factor};
use svgtypes::Transform;

/// `x' = a x + c y + e`, `y' = b x + d y + f`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Matrix {
    pub a: f64,
    pub b: f64,
    pub c: f64,
    pub d: f64,
    pub e: f64,
    pub f: f64,
}

/// Differences that rounding leaves behind.
const NEAR: f64 = 1e-9;
/// An angle below which a rotation's centre is too uncertain to be written, radians.
const LEAST_ANGLE: f64 = 0.017;

impl Matrix {
    pub(super) const IDENTITY: Matrix = Matrix::uniform(1.0, 0.0, 0.0);

    /// Scaling by `s`, then moving.
    pub(super) const fn uniform(s: f64, e: f64, f: f64) -> Self {
        Matrix {
            a: s,
            b: 0.0,
            c: 0.0,
            d: s,
            e,
            f,
        }
    }

    /// A `transform` attribute.
    pub(super) fn parse(text: &str) -> Result<Self, Unsupported> {
        let bad = || Unsupported::new(format!("not a transform: {text:?}"));
        let t: Transform = text.parse().map_err(|_| bad())?;
        let matrix = Matrix {
            a: t.a,
            b: t.b,
            c: t.c,
            d: t.d,
            e: t.e,
            f: t.f,
        };
        let numbers = [t.a, t.b, t.c, t.d, t.e, t.f];
        match numbers.iter().all(|n| n.is_finite()) && matrix.determinant().abs() > 1e-12 {
            true => Ok(matrix),
            false => Err(bad()),
        }
    }

    /// First `inner`, then this one.
    pub(super) fn after(&self, inner: &Matrix) -> Matrix {
        Matrix {
            a: self.a * inner.a + self.c * inner.b,
            b: self.b * inner.a + self.d * inner.b,
            c: self.a * inner.c + self.c * inner.d,
            d: self.b * inner.c + self.d * inner.d,
            e: self.a * inner.e + self.c * inner.f + self.e,
            f: self.b * inner.e + self.d * inner.f + self.f,
        }
    }

    pub(super) fn inverse(&self) -> Matrix {
        let k = 1.0 / self.determinant();
        Matrix {
            a: self.d * k,
            b: -self.b * k,
            c: -self.c * k,
            d: self.a * k,
            e: (self.c * self.f - self.d * self.e) * k,
            f: (self.b * self.e - self.a * self.f) * k,
        }
    }

    pub(super) fn determinant(&self) -> f64 {
        self.a * self.d - self.b * self.c
    }

    /// The factor of lengths; of their mean where directions differ.
    pub(super) fn scale(&self) -> f64 {
        match self.is_plain() {
            true => self.a,
            false => self.determinant().abs().sqrt(),
        }
    }

    pub(super) fn point(&self, x: f64, y: f64) -> (f64, f64) {
        (
            self.a * x + self.c * y + self.e,
            self.b * x + self.d * y + self.f,
        )
    }

    /// Whether it moves and scales alike in all directions, without turning or mirroring: every shape
    /// can take it in.
    pub(super) fn is_plain(&self) -> bool {
        let near = NEAR * self.a.abs();
        self.a > 0.0 && (self.a - self.d).abs() <= near && self.is_upright()
    }

    /// Whether horizontal and vertical stay what they are.
    pub(super) fn is_upright(&self) -> bool {
        let near = NEAR * self.a.abs().max(self.d.abs());
        self.b.abs() <= near && self.c.abs() <= near
    }

    /// The attribute's value with translations of `digits` decimals; none for the identity.
    pub(super) fn written(&self, digits: usize) -> Option<String> {
        let moved = [self.e, self.f].map(|v| written(v, digits));
        let shift = match [moved[0].as_str(), moved[1].as_str()] {
            ["0", "0"] => None,
            [x, "0"] => Some(format!("translate({x})")),
            [x, y] => Some(format!("translate({x} {y})")),
        };
        if self.is_upright() {
            let factors = [self.a, self.d].map(written_factor);
            let scaling = match [factors[0].as_str(), factors[1].as_str()] {
                ["1", "1"] => None,
                [x, y] if x == y => Some(format!("scale({x})")),
                [x, y] => Some(format!("scale({x} {y})")),
            };
            let parts: Vec<String> = shift.into_iter().chain(scaling).collect();
            return (!parts.is_empty()).then(|| parts.join(" "));
        }
        if let Some(rotation) = self.rotation(digits) {
            return Some(rotation);
        }
        let linear = [self.a, self.b, self.c, self.d].map(written_factor);
        Some(format!(
            "matrix({} {} {})",
            linear.join(" "),
            moved[0],
            moved[1]
        ))
    }

    fn rotation(&self, digits: usize) -> Option<String> {
        let turns = (self.a - self.d).abs() < 1e-6
            && (self.b + self.c).abs() < 1e-6
            && (self.determinant() - 1.0).abs() < 1e-6;
        let angle = self.b.atan2(self.a);
        if !turns || angle.abs() < LEAST_ANGLE {
            return None;
        }
        let k = 1.0 / ((1.0 - self.a).powi(2) + self.b * self.b);
        let x = ((1.0 - self.a) * self.e - self.b * self.f) * k;
        let y = (self.b * self.e + (1.0 - self.a) * self.f) * k;
        let degrees = written(angle.to_degrees(), 3);
        let centre = [x, y].map(|v| written(v, digits));
        Some(match centre.iter().all(|v| v == "0") {
            true => format!("rotate({degrees})"),
            false => format!("rotate({degrees} {} {})", centre[0], centre[1]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str) -> String {
        Matrix::parse(text).unwrap().written(2).unwrap_or_default()
    }

    #[test]
    fn transforms_are_written_in_their_shortest_kind() {
        for (text, expected) in [
            ("translate(1.004,0)", "translate(1)"),
            ("matrix(2 0 0 2 3 4)", "translate(3 4) scale(2)"),
            ("scale(1,-1)", "scale(1 -1)"),
            ("rotate(45)", "rotate(45)"),
            (
                "translate(5 5) rotate(30) translate(-5 -5)",
                "rotate(30 5 5)",
            ),
            ("skewX(45)", "matrix(1 0 1 1 0 0)"),
            ("translate(.001)", ""),
        ] {
            assert_eq!(rewritten(text), expected, "{text}");
            if !expected.is_empty() {
                assert_eq!(rewritten(expected), expected);
            }
        }
    }

    #[test]
    fn an_inverse_undoes() {
        let matrix = Matrix::parse("rotate(20) scale(2 3) translate(4 5)").unwrap();
        let (x, y) = matrix.inverse().after(&matrix).point(7.0, 8.0);
        assert!((x - 7.0).abs() < 1e-12 && (y - 8.0).abs() < 1e-12);
        assert!(Matrix::parse("scale(0)").is_err());
        assert!(Matrix::parse("scale(1px)").is_err());
    }
}
