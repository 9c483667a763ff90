//! Adapters folded into the weights that they change.

use std::collections::HashMap;

use tch::Tensor;

use crate::layers::reduce_kind;
use crate::params::{AdapterSpec, ParamSpec, ParamTable};

/// Folds every adapter into its weight; the adapters have no effect afterwards.
pub(crate) fn merge_adapters(params: &ParamTable, scale: f64) {
    let specs: HashMap<&str, &ParamSpec> = params
        .specs()
        .iter()
        .map(|spec| (spec.name.as_str(), spec))
        .collect();
    tch::no_grad(|| {
        for adapter in params.adapters() {
            if let Some(spec) = specs.get(adapter.base.as_str()) {
                let sum = merged(params, (spec, adapter), scale);
                params.view(spec).copy_(&sum);
                let _ = params.view(&adapter.b).zero_();
            }
        }
    });
}

/// A weight with `scale * B A` added, computed in float32 (float64 stays) and rounded once.
pub(crate) fn merged(
    params: &ParamTable,
    (spec, adapter): (&ParamSpec, &AdapterSpec),
    scale: f64,
) -> Tensor {
    let weight = params.view(spec);
    let kind = reduce_kind(weight.kind());
    let wide = |spec: &ParamSpec| params.view(spec).to_kind(kind);
    let delta = wide(&adapter.b).matmul(&wide(&adapter.a)) * scale;
    let sum = wide(spec) + delta.view(spec.shape.as_slice());
    sum.to_kind(weight.kind())
}
