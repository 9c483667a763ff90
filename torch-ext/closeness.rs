//! How far a kernel's float32 numbers are from float64, for the tests beside the kernels.

use tch::{Kind, Tensor};

/// What float32 kernels are held to, relative to the largest number of a tensor. The inputs are random and the order of
/// sums is the processor's: six times the largest gap seen over forty seeds on three instruction sets (8.3e-7, attention
/// over scores near 15); one row left out or counted twice is above 1e-3.
pub const FLOAT32: f64 = 5e-6;

/// The largest difference of `got` and `want`, of one shape, over the largest number of `want`.
pub fn relative_gap(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let most = |x: Tensor| x.abs().max().double_value(&[]);
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    most(&got - &want) / most(want).max(f64::MIN_POSITIVE)
}
