//! How far a document's coordinates may reach on the canvas, bounded from its numbers alone: the
//! rasteriser's time grows without limit (and it may panic) on shapes far larger than the canvas, so
//! such documents are drawn in a worker process.

use resvg::usvg::roxmltree::Node;

/// Pixels from the origin that a shape drawn in process may reach.
const LIMIT: f64 = 1e6;

/// What one element adds to how far the drawing reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CoordinateBounds {
    /// No less than the largest coordinate it writes.
    pub rough: f64,
    /// Base-2 logarithm of its transform's enlargement, at least 0; nested ones add up.
    pub zoom: f64,
}

/// Reads an element's numbers, quickly and therefore roughly: most documents are near even so.
pub(crate) fn reach(node: &Node<'_, '_>) -> CoordinateBounds {
    let zooms = |name: &str| name == "transform";
    CoordinateBounds {
        rough: farthest(node, rough, rough),
        zoom: node
            .attributes()
            .filter(|a| zooms(a.name()))
            .map(|a| zoom(a.value()))
            .sum(),
    }
}

/// The largest coordinate an element writes.
pub(crate) fn coordinate(node: &Node<'_, '_>) -> f64 {
    farthest(node, largest, |text| numbers(text).sum())
}

/// The farthest of the attributes' coordinates, taken by `largest`, or by `sum` where they add up.
fn farthest(node: &Node<'_, '_>, largest: impl Fn(&str) -> f64, sum: impl Fn(&str) -> f64) -> f64 {
    let coordinate = |name: &str, value: &str| match name {
        // Relative commands add up.
        "d" if value.bytes().any(|b| b.is_ascii_lowercase()) => sum(value),
        "id" | "class" | "href" | "viewBox" | "fill" | "stroke" | "stop-color" | "version"
        | "font-family" => 0.0,
        // A unit is at most an inch.
        _ if value.ends_with(|c: char| c.is_ascii_alphabetic()) => 96.0 * largest(value),
        _ => largest(value),
    };
    node.attributes()
        .map(|a| coordinate(a.name(), a.value()))
        .fold(0.0, f64::max)
}

/// No less than the sum of the numbers in a text: each digit before a point counts as the power of ten
/// it could stand for. The same few steps for every byte; exponents are not read.
fn rough(text: &str) -> f64 {
    let (mut sum, mut digits, mut decimals) = (0u64, 0usize, false);
    let (mut number, mut exponent) = (false, false);
    for &byte in text.as_bytes() {
        let (digit, point) = (byte.is_ascii_digit(), byte == b'.');
        exponent |= number & matches!(byte, b'e' | b'E');
        number = digit | point;
        decimals = point | (decimals & digit);
        digits = if digit & !decimals { digits + 1 } else { 0 };
        sum += POWERS[digits.min(FAR)] + u64::from(point);
    }
    if exponent { f64::INFINITY } else { sum as f64 }
}

/// What so many digits stand for at most. More than `FAR` of them are beyond [`LIMIT`] in any case.
const POWERS: [u64; FAR + 1] = [0, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const FAR: usize = 7;

/// Whether the farthest coordinate stays near the canvas.
pub(crate) fn is_near(coordinate: f64, zoom: f64, pixels_per_unit: f64) -> bool {
    coordinate * pixels_per_unit.max(1.0) * zoom.exp2() <= LIMIT
}

/// Every enlarging number of a transform list, multiplied: more than any of its orders gives.
fn zoom(transform: &str) -> f64 {
    let factor = |call: &str| -> f64 {
        let (name, arguments) = call.split_once('(').unwrap_or((call, ""));
        let scale = match name.trim_matches([' ', ',', '\n', '\t', '\r']) {
            "scale" => largest(arguments),
            "matrix" => 2.0 * numbers(arguments).take(4).fold(0.0, f64::max),
            // A tangent is as large as the angle is near a right one.
            "skewX" | "skewY" => f64::INFINITY,
            _ => 1.0,
        };
        scale.max(1.0).log2()
    };
    transform.split(')').map(factor).sum()
}

/// The largest magnitude written in a text.
pub(crate) fn largest(text: &str) -> f64 {
    numbers(text).fold(0.0, f64::max)
}

/// The magnitudes of the numbers in a text; hexadecimal colours are skipped.
fn numbers(text: &str) -> impl Iterator<Item = f64> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let starts = |at: usize| {
            bytes[at].is_ascii_digit()
                || (bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit))
        };
        while at < bytes.len() && !starts(at) {
            let colour = bytes[at] == b'#';
            at += 1;
            while colour && bytes.get(at).is_some_and(u8::is_ascii_hexdigit) {
                at += 1;
            }
        }
        let start = at;
        let mut number = Number::default();
        at = number.read(bytes, at);
        let whole = at;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = Number::default().read(bytes, at + 1 + sign);
            at = if end > at + 1 + sign { end } else { at };
        }
        let first = match number.second_point {
            Some(point) => &text[start..point],
            None => &text[start..at],
        };
        let plain = at == whole || number.second_point.is_some();
        (start < at).then(|| match number.value().filter(|_| plain) {
            Some(value) => value,
            None => first.parse().unwrap_or(f64::INFINITY),
        })
    })
}

/// Digits and points as they are read. Points glued together (`1.2.3`) are several numbers, none
/// larger than the first says, which alone is kept.
#[derive(Default)]
struct Number {
    mantissa: u64,
    digits: usize,
    decimals: usize,
    point: bool,
    /// Where the second point stands.
    second_point: Option<usize>,
}

/// Powers of ten, all exact.
const TENS: [f64; 16] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
];

impl Number {
    /// Reads from `at`; returns where it ends.
    fn read(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'0'..=b'9' if self.second_point.is_none() => {
                    // Of more digits than are exact the value is read elsewhere.
                    let digit = u64::from(byte - b'0');
                    self.mantissa = self.mantissa.wrapping_mul(10).wrapping_add(digit);
                    self.digits += 1;
                    self.decimals += usize::from(self.point);
                }
                b'0'..=b'9' => {}
                b'.' if !self.point => self.point = true,
                b'.' => self.second_point = self.second_point.or(Some(at)),
                _ => break,
            }
            at += 1;
        }
        at
    }

    /// Its value where that is exact: a quotient of two numbers that are.
    fn value(&self) -> Option<f64> {
        (self.digits < TENS.len()).then(|| self.mantissa as f64 / TENS[self.decimals])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_where_they_stand() {
        let found = |text| numbers(text).collect::<Vec<f64>>();
        assert_eq!(found("M1-2.5.5l3e2,.4"), [1.0, 2.5, 300.0, 0.4]);
        assert_eq!(found("fill:#123456;stroke-width:7px"), [7.0]);
        assert_eq!(found("1e400 2em"), [f64::INFINITY, 2.0]);
        assert_eq!(found("none"), [0.0; 0]);
        assert_eq!(
            found("0.1 12345678.901234567890 98765432109876543210"),
            [0.1, 12_345_678.901_234_567, 98_765_432_109_876_540_000.0]
        );
        assert_eq!(found("1.5.5e9"), [1.5]);
    }

    #[test]
    fn a_rough_reading_is_never_too_small() {
        let pieces = [
            "1",
            "27",
            ".5",
            "12.75",
            "1e3",
            "9E-2",
            "-",
            " ",
            ",",
            "M",
            "l",
            "e",
            ".",
            "#12ab",
            "99999999999999999999",
            "é",
        ];
        let mut state = 7u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..8 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                text += pieces[(state >> 60) as usize];
            }
            let exact: f64 = numbers(&text).sum();
            assert!(
                rough(&text) >= exact.min(LIMIT),
                "{text}: {} {exact}",
                rough(&text)
            );
        }
        assert_eq!(
            rough("M1 20.75l.5-3"),
            10.0 + 10.0 + 100.0 + 1.0 + 1.0 + 10.0
        );
    }

    #[test]
    fn enlargement_multiplies_along_a_list() {
        assert_eq!(zoom("scale(4) translate(9 9) scale(.5, 2)"), 3.0);
        assert_eq!(zoom("rotate(45)"), 0.0);
        assert_eq!(zoom("skewX(89.9999)"), f64::INFINITY);
    }

    #[test]
    fn what_reaches_far_is_not_near() {
        assert!(is_near(128.0, 0.0, 2.0));
        assert!(!is_near(128.0, 20.0, 2.0));
        assert!(!is_near(f64::INFINITY, 0.0, 1.0));
        assert!(!is_near(1.0, 0.0, 1e9));
    }
}
