//! Elliptical arcs under a transform, with radii on a grid.
//!
//! Where the ends lie almost a diameter apart, the centre moves with the square root of a radius'
//! rounding: half a circle of radius 26.665 written with 26.67 is visibly flatter. So of the two grid
//! steps around each radius those are taken that leave the centre where it was.

use super::matrix::Matrix;
use super::number::round;

/// An arc but for its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arc {
    pub radii: (f64, f64),
    /// Turn of the first radius.
    pub degrees: f64,
    pub large_arc: bool,
    pub sweep: bool,
}

type Point = (f64, f64);

impl Arc {
    /// The same arc after a transform.
    pub(super) fn under(&self, matrix: &Matrix) -> Arc {
        let (rx, ry) = self.radii;
        if matrix.is_plain() {
            let radii = (rx * matrix.a, ry * matrix.a);
            return Arc { radii, ..*self };
        }
        let (sin, cos) = self.degrees.to_radians().sin_cos();
        // The transform after the ellipse's own turn and radii.
        let (a, b) = (
            (matrix.a * cos + matrix.c * sin) * rx,
            (matrix.b * cos + matrix.d * sin) * rx,
        );
        let (c, d) = (
            (matrix.c * cos - matrix.a * sin) * ry,
            (matrix.d * cos - matrix.b * sin) * ry,
        );
        // Its axes are the eigenvectors of the product with its transpose.
        let (p, q, r) = (a * a + c * c, a * b + c * d, b * b + d * d);
        let spread = ((p - r) / 2.0).hypot(q);
        let middle = (p + r) / 2.0;
        let is_circle = spread <= 1e-9 * middle;
        let turn = match is_circle {
            true => 0.0,
            false => (2.0 * q).atan2(p - r) / 2.0,
        };
        Arc {
            radii: ((middle + spread).sqrt(), (middle - spread).max(0.0).sqrt()),
            degrees: turn.to_degrees(),
            sweep: self.sweep == (matrix.determinant() > 0.0),
            ..*self
        }
    }

    /// Radii on the grid whose arc between the rounded `ends` has its centre nearest to that of this
    /// arc between the `exact` ones.
    pub(super) fn radii_near(
        &self,
        exact: (Point, Point),
        ends: (Point, Point),
        digits: usize,
    ) -> Point {
        let Some(centre) = self.centre(exact) else {
            return self.radii;
        };
        let (wide, high) = (steps(self.radii.0, digits), steps(self.radii.1, digits));
        let mut best = (f64::INFINITY, self.radii);
        for (i, &rx) in wide.iter().enumerate() {
            for (j, &ry) in high.iter().enumerate() {
                // A circle stays one.
                if self.radii.0 == self.radii.1 && i != j {
                    continue;
                }
                let radii = (rx, ry);
                let Some(at) = (Arc { radii, ..*self }).centre(ends) else {
                    continue;
                };
                let away = (at.0 - centre.0).hypot(at.1 - centre.1);
                if away < best.0 - 1e-9 {
                    best = (away, radii);
                }
            }
        }
        best.1
    }

    /// The centre, as the SVG specification computes it (appendix on elliptical arcs).
    fn centre(&self, (from, to): (Point, Point)) -> Option<Point> {
        let (rx, ry) = self.radii;
        if rx <= 0.0 || ry <= 0.0 || from == to {
            return None;
        }
        let (sin, cos) = self.degrees.to_radians().sin_cos();
        let half = ((from.0 - to.0) / 2.0, (from.1 - to.1) / 2.0);
        // In units of the radii.
        let x = (cos * half.0 + sin * half.1) / rx;
        let y = (cos * half.1 - sin * half.0) / ry;
        let apart = x * x + y * y;
        let factor = ((1.0 - apart).max(0.0) / apart).sqrt();
        let side = if self.large_arc == self.sweep {
            -factor
        } else {
            factor
        };
        let (x, y) = (side * y * rx, -side * x * ry);
        let middle = ((from.0 + to.0) / 2.0, (from.1 + to.1) / 2.0);
        Some((cos * x - sin * y + middle.0, sin * x + cos * y + middle.1))
    }
}

/// The grid's numbers around a radius, the nearest first.
fn steps(radius: f64, digits: usize) -> Vec<f64> {
    let step = 10f64.powi(-(digits as i32));
    let nearest = round(radius, digits);
    if (radius - nearest).abs() < 1e-6 * step {
        return vec![nearest];
    }
    let other = match nearest > radius {
        true => nearest - step,
        false => nearest + step,
    };
    let found = [nearest, round(other, digits)];
    found.into_iter().filter(|r| *r > 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_circle_stays_half_a_circle() {
        let arc = Arc {
            radii: (26.665, 26.665),
            degrees: 0.0,
            large_arc: false,
            sweep: true,
        };
        let ends = ((0.0, 0.0), (53.33, 0.0));
        let radii = arc.radii_near(ends, ends, 2);
        assert_eq!(radii, (26.66, 26.66));
    }

    #[test]
    fn the_centre_is_on_the_side_the_flags_say() {
        let centre = |large_arc, sweep| {
            let arc = Arc {
                radii: (5.0, 5.0),
                degrees: 0.0,
                large_arc,
                sweep,
            };
            let (x, y) = arc.centre(((0.0, 0.0), (8.0, 0.0))).unwrap();
            (x.round(), y.round())
        };
        assert_eq!(centre(false, true), (4.0, 3.0));
        assert_eq!(centre(true, true), (4.0, -3.0));
        assert_eq!(centre(false, false), (4.0, -3.0));
    }
}
