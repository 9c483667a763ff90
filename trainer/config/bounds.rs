//! Bounds of config values, each violation as `key: rule, got value`.

/// A violated bound: `key: rule, got value`.
pub(super) type BoundResult = Result<(), String>;

pub(super) fn ensure(holds: bool, text: impl FnOnce() -> String) -> BoundResult {
    if holds { Ok(()) } else { Err(text()) }
}

pub(super) fn at_least<T: PartialOrd + std::fmt::Display>(
    key: &str,
    value: T,
    bound: T,
) -> BoundResult {
    ensure(value >= bound, || {
        format!("{key}: must be >= {bound}, got {value}")
    })
}

pub(super) fn positive(key: &str, value: f64) -> BoundResult {
    ensure(value.is_finite() && value > 0.0, || {
        format!("{key}: must be > 0, got {value}")
    })
}

pub(super) fn not_negative(key: &str, value: f64) -> BoundResult {
    ensure(value.is_finite() && value >= 0.0, || {
        format!("{key}: must be >= 0, got {value}")
    })
}

pub(super) fn within(key: &str, value: f64, (low, high): (f64, f64)) -> BoundResult {
    ensure((low..=high).contains(&value), || {
        format!("{key}: must be in [{low}, {high}], got {value}")
    })
}
