//! Numbers as the normaliser reads and writes them: rounded to a grid, without needless zeros.

use super::error::Unsupported;
use svgtypes::{Length, LengthUnit};

/// The nearest multiple of `10^-digits`.
pub(super) fn round(value: f64, digits: usize) -> f64 {
    let unit = 10f64.powi(digits as i32);
    let rounded = (value * unit).round() / unit;
    // Beyond 2^53 grid points there is nothing to round.
    if rounded.is_finite() { rounded } else { value }
}

/// The number with at most `digits` decimals; no leading zero, no trailing ones, no minus zero.
pub(super) fn written(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", round(value, digits));
    let text = match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.'),
        false => &text,
    };
    let (sign, size) = match text.strip_prefix('-') {
        Some(size) => ("-", size),
        None => ("", text),
    };
    let size = match size.strip_prefix("0.") {
        Some(fraction) => format!(".{fraction}"),
        None => size.to_owned(),
    };
    match size.as_str() {
        "0" => size,
        _ => format!("{sign}{size}"),
    }
}

/// A size that must not vanish: at least one grid step when it was above 0.
pub(super) fn written_size(value: f64, digits: usize) -> String {
    let least = 10f64.powi(-(digits as i32));
    match value > 0.0 && round(value, digits) == 0.0 {
        true => written(least, digits),
        false => written(value, digits),
    }
}

/// A factor with five significant digits.
pub(super) fn written_factor(value: f64) -> String {
    if value.abs() < 1e-7 {
        return "0".into();
    }
    let whole = value.abs().log10().floor() as i32;
    written(value, (4 - whole).clamp(0, 11) as usize)
}

/// Which side of the viewport a percentage is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Width,
    Height,
    Diagonal,
}

/// A length as the picture has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum LengthSize {
    /// User units.
    User(f64),
    /// Follows the font's size.
    Font,
}

/// Reads one length; percentages are of the viewport's `view` width and height.
pub(super) fn length(text: &str, of: Axis, view: (f64, f64)) -> Result<LengthSize, Unsupported> {
    let parsed: Length = text
        .trim()
        .parse()
        .map_err(|_| Unsupported::new(format!("not a length: {text:?}")))?;
    size(parsed, of, view)
}

/// A parsed length in user units, at 96 dots an inch.
pub(super) fn size(length: Length, of: Axis, view: (f64, f64)) -> Result<LengthSize, Unsupported> {
    let base = match of {
        Axis::Width => view.0,
        Axis::Height => view.1,
        Axis::Diagonal => ((view.0 * view.0 + view.1 * view.1) / 2.0).sqrt(),
    };
    let factor = match length.unit {
        LengthUnit::None | LengthUnit::Px => 1.0,
        LengthUnit::Em | LengthUnit::Ex => return Ok(LengthSize::Font),
        LengthUnit::In => 96.0,
        LengthUnit::Cm => 96.0 / 2.54,
        LengthUnit::Mm => 96.0 / 25.4,
        LengthUnit::Pt => 96.0 / 72.0,
        LengthUnit::Pc => 16.0,
        LengthUnit::Percent => base / 100.0,
    };
    let value = length.number * factor;
    match value.is_finite() {
        true => Ok(LengthSize::User(value)),
        false => Err(Unsupported::new("a number that is not finite")),
    }
}

/// A plain number or a percentage of 1.
pub(super) fn fraction(text: &str) -> Option<f64> {
    let text = text.trim();
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    value.is_finite().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lose_what_they_do_not_need() {
        for (value, digits, text) in [
            (0.5, 2, ".5"),
            (-0.25, 2, "-.25"),
            (-0.001, 2, "0"),
            (100.0, 2, "100"),
            (99.999, 2, "100"),
            (12.345, 0, "12"),
            (-10.0, 0, "-10"),
        ] {
            assert_eq!(written(value, digits), text);
        }
        assert_eq!(written_size(0.001, 2), ".01");
        assert_eq!(written_size(0.0, 2), "0");
        assert_eq!(written_factor(0.866_025_4), ".86603");
        assert_eq!(written_factor(-1234.5678), "-1234.6");
    }

    #[test]
    fn units_and_percentages_become_user_units() {
        let of = |text| length(text, Axis::Width, (200.0, 100.0)).unwrap();
        assert_eq!(of("2in"), LengthSize::User(192.0));
        assert_eq!(of(" 50% "), LengthSize::User(100.0));
        assert_eq!(of("1em"), LengthSize::Font);
        assert!(length("wide", Axis::Width, (1.0, 1.0)).is_err());
        assert_eq!(fraction("25%"), Some(0.25));
    }
}
