//! The Fréchet distance of two sets of features (Heusel et al. 2017), as pytorch-fid computes FID:
//! `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))` in float64, covariances divided by N - 1.
//!
//! pytorch-fid takes the root of the product by Schur's method; the trace of that root is the sum of the square
//! roots of the eigenvalues of `C1^(1/2) C2 C1^(1/2)`, which is symmetric, so that nothing becomes complex.
//! Where the root is not finite, 1e-6 is added to both diagonals, as there.

use tch::{Kind, Tensor};

/// Mean `[D]` and covariance `[D, D]` of features, float64.
#[derive(Debug)]
pub struct FeatureMoments {
    mean: Tensor,
    covariance: Tensor,
}

/// What is added to diagonals where the root of the product is not finite.
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
        let centred = rows - &mean;
        let covariance = centred.tr().matmul(&centred) / (count - 1) as f64;
        Ok(Self { mean, covariance })
    }

    /// The distance to `other`.
    ///
    /// # Errors
    /// Sets of other widths; roots that are not finite even with the offset.
    pub fn distance(&self, other: &Self) -> Result<f64, String> {
        let (own, others) = (self.mean.size(), other.mean.size());
        if own != others {
            return Err(format!("features of {own:?} and {others:?} numbers"));
        }
        let plain = self
            .root_trace(other, 0.0)
            .filter(|trace| trace.is_finite());
        let trace = match plain {
            Some(trace) => trace,
            None => self
                .root_trace(other, OFFSET)
                .filter(|trace| trace.is_finite())
                .ok_or("the root of the covariances' product is not finite")?,
        };
        let difference = &self.mean - &other.mean;
        let apart = difference.dot(&difference).double_value(&[]);
        let traces = [self, other].map(|set| set.covariance.trace().double_value(&[]));
        Ok(apart + traces[0] + traces[1] - 2.0 * trace)
    }

    /// The trace of the root of the covariances' product, `offset` added to both diagonals; none where no
    /// eigenvalues are found.
    fn root_trace(&self, other: &Self, offset: f64) -> Option<f64> {
        let size = self.mean.size()[0];
        let added = Tensor::eye(size, (Kind::Double, self.mean.device())) * offset;
        let [a, b] = [self, other].map(|set| &set.covariance + &added);
        let (values, vectors) = a.f_linalg_eigh("L").ok()?;
        let root = (&vectors * roots(&values)).matmul(&vectors.tr());
        let product = root.matmul(&b).matmul(&root);
        let product = (&product + product.tr()) / 2.0;
        let values = product.f_linalg_eigvalsh("L").ok()?;
        Some(roots(&values).sum(Kind::Double).double_value(&[]))
    }
}

/// Square roots of a positive matrix's eigenvalues `[D]`, those that are rounding alone counted as 0.
fn roots(values: &Tensor) -> Tensor {
    let most = values.max().double_value(&[]).max(0.0);
    let noise = most * values.size()[0] as f64 * f64::EPSILON;
    let kept = values.gt(noise).to_kind(Kind::Double);
    (values.clamp_min(0.0) * kept).sqrt()
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
            // Equal sets: their distance is nothing but rounding.
            let scale = want.abs().max(1e-3);
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
