//! When a benchmark's number is its reference's.

use serde_json::Value;

/// Fails where `got` is further from `want` than 2e-5 of it, or of 1 where it is smaller. What is a cosine times 100 by
/// its name may be 2e-4 off: a cosine's rounding is that of its sums, however small it is itself; 4.2e-5 is the most
/// that was measured, under six choices of instruction sets.
#[track_caller]
pub fn same_score(what: &str, got: &Value, want: &Value) {
    let (got, want) = (got.as_f64().unwrap_or(f64::NAN), want.as_f64().unwrap());
    let metric = what.rsplit(' ').next().unwrap();
    let bound = match metric.starts_with("clip") {
        true => 2e-4,
        false => 2e-5 * want.abs().max(1.0),
    };
    assert!((got - want).abs() < bound, "{what}: {got} {want}");
}
