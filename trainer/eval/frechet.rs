//! The Fréchet distance of two sets of features (Heusel et al. 2017), as pytorch-fid defines FID:
//! `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` in float64, covariances divided by N - 1.
//!
//! pytorch-fid takes the root of the covariances' product by Schur's method. The trace of that root is the sum of the
//! singular values of `F1 F2'`, where `C = F' F`: with fewer pictures than features, or nearly equal sets, it keeps places that
//! squares lose. Where it is not finite, 1e-6 is added to both diagonals, as there.

use tch::{Kind, Tensor};

/// Mean `[D]` of features and a factor `[K, D]` of their covariance, K at most D, float64.
#[derive(Debug)]
pub struct FeatureMoments {
    mean: Tensor,
    factor: Tensor,
}

/// What is added to diagonals where the trace is not finite.
const OFFSET: f64 = 1e-6;

impl FeatureMoments {
    /// Of features `[N, D]`.
    ///
    /// # Errors
    /// Fewer than two rows, or numbers that are not finite.
    pub fn of(rows: &Tensor) -> Result<Self, String> {
        let count = rows.size()[0];
        if count < 2 {
            return Err(format!("needs two pictures at least, got {count}"));
        }
        let rows = rows.to_kind(Kind::Double);
        if rows.isfinite().all().int64_value(&[]) == 0 {
            return Err("the network gave features that are not finite".into());
        }
        let mean = rows.mean_dim(0i64, false, Kind::Double);
        let centred = (rows - &mean) / ((count - 1) as f64).sqrt();
        let factor = short(&centred)?;
        Ok(Self { mean, factor })
    }

    /// The distance to `other`.
    ///
    /// # Errors
    /// Sets of other widths; a trace that is not finite even with the offset.
    pub fn distance(&self, other: &Self) -> Result<f64, String> {
        let (own, others) = (self.mean.size(), other.mean.size());
        if own != others {
            return Err(format!("features of {own:?} and {others:?} numbers"));
        }
        let finite = |trace: &f64| trace.is_finite();
        let plain = self.root_trace(other, 0.0).ok().filter(finite);
        let trace = match plain {
            Some(trace) => trace,
            None => Some(self.root_trace(other, OFFSET)?)
                .filter(finite)
                .ok_or("the root of the covariances' product is not finite")?,
        };
        let difference = &self.mean - &other.mean;
        let apart = difference.dot(&difference).double_value(&[]);
        Ok(apart + self.trace() + other.trace() - 2.0 * trace)
    }

    /// The trace of the covariance.
    fn trace(&self) -> f64 {
        (&self.factor * &self.factor)
            .sum(Kind::Double)
            .double_value(&[])
    }

    /// The trace of the root of the covariances' product, `offset` added to both diagonals.
    fn root_trace(&self, other: &Self, offset: f64) -> Result<f64, String> {
        let [a, b] = [self, other].map(|set| set.with_offset(offset));
        let product = a?.matmul(&b?.tr());
        let both: &[i64] = &[-2, -1];
        let sum = product.f_linalg_norm_ord_str("nuc", both, false, Kind::Double);
        let sum = sum.map_err(|error| format!("singular values: {error}"))?;
        Ok(sum.double_value(&[]))
    }

    /// A factor of the covariance with `offset` on its diagonal.
    fn with_offset(&self, offset: f64) -> Result<Tensor, String> {
        if offset == 0.0 {
            return Ok(self.factor.shallow_clone());
        }
        let size = self.mean.size()[0];
        let more = Tensor::eye(size, (Kind::Double, self.mean.device())) * offset.sqrt();
        short(&Tensor::cat(&[&self.factor, &more], 0))
    }
}

/// A factor with as few rows as may be: `x' x` stays what it is.
fn short(x: &Tensor) -> Result<Tensor, String> {
    let (rows, width) = x.size2().map_err(|error| error.to_string())?;
    if rows <= width {
        return Ok(x.shallow_clone());
    }
    let (_, upper) = Tensor::f_linalg_qr(x, "r").map_err(|error| format!("factors: {error}"))?;
    Ok(upper)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// What make.py wrote beside this file: features, and what scipy's square root makes of them.
    fn cases() -> Vec<Value> {
        let text = include_str!("frechet/expected.json");
        let all: Value = serde_json::from_str(text).unwrap();
        all.as_array().unwrap().clone()
    }

    fn moments(rows: &Value) -> FeatureMoments {
        let rows: Vec<Vec<f64>> = serde_json::from_value(rows.clone()).unwrap();
        FeatureMoments::of(&Tensor::from_slice2(&rows)).unwrap()
    }

    #[test]
    fn distances_are_pytorch_fids() {
        let mut seen = 0;
        for case in cases() {
            let (a, b) = (moments(&case["a"]), moments(&case["b"]));
            let name = case["name"].as_str().unwrap();
            let want = case["distance"].as_f64().unwrap();
            let found = a.distance(&b).unwrap();
            // Of nearly equal sets scipy's root keeps nine places of what is subtracted.
            let scale = want.abs().max(1e-3 * a.trace());
            assert!(
                (found - want).abs() < 1e-6 * scale,
                "{name}: {found} {want}"
            );
            let want = case["root_trace_with_offset"].as_f64().unwrap();
            let found = a.root_trace(&b, OFFSET).unwrap();
            assert!((found - want).abs() < 1e-6 * want, "{name}: {found} {want}");
            seen += 1;
        }
        assert!(seen >= 4);
    }

    #[test]
    fn what_has_no_distance_says_why() {
        let zeros = |rows, width| Tensor::zeros([rows, width], (Kind::Float, tch::Device::Cpu));
        let told = FeatureMoments::of(&zeros(1, 3)).unwrap_err();
        assert_eq!(told, "needs two pictures at least, got 1");
        let holed = zeros(4, 3) / 0.0;
        assert!(FeatureMoments::of(&holed).unwrap_err().contains("finite"));
        let (a, b) = (zeros(4, 3), zeros(4, 2));
        let [a, b] = [a, b].map(|rows| FeatureMoments::of(&rows).unwrap());
        assert!(a.distance(&b).unwrap_err().contains("[3] and [2]"));
        assert_eq!(a.distance(&a).unwrap(), 0.0);
    }
}
