//! `trainer::learn::AdamW` against torch.optim.AdamW, weight decay on matrices alone.

use tch::{Kind, Tensor};
use trainer::config::OptimizerConfig;
use trainer::learn::AdamW;

use crate::support::{expected, larger, network, relative};

/// Rate and factor of the gradient in each step, as in networks/make.py.
const STEPS: [(f64, f64); 5] = [
    (0.01, 1.0),
    (0.02, -0.5),
    (0.02, 2.0),
    (0.01, 0.1),
    (0.005, 0.7),
];

fn config() -> OptimizerConfig {
    OptimizerConfig {
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        ..OptimizerConfig::default()
    }
}

/// The largest difference from torch after the steps, relative to each parameter's largest number.
fn worst(kind: Kind) -> f64 {
    let (model, expected) = (network("qwen3_tied", kind), expected("qwen3_tied"));
    let gradient = Tensor::zeros_like(model.params.trainable());
    for spec in model.params.specs() {
        let mut part = gradient
            .narrow(0, spec.offset, spec.numel())
            .view(spec.shape.as_slice());
        part.copy_(&expected[&format!("grad.{}", spec.name)]);
    }
    let mut optimizer = AdamW::new(&model, &config());
    for (rate, factor) in STEPS {
        optimizer
            .step(&model.params, &(&gradient * factor), rate)
            .unwrap();
    }
    assert_eq!(optimizer.updates, 5);
    let gaps = model.params.specs().iter().map(|spec| {
        relative(
            &model.params.view(spec),
            &expected[&format!("adamw.{}", spec.name)],
        )
    });
    gaps.fold(0.0, larger)
}

#[test]
fn five_adamw_steps_equal_torch() {
    let (double, single) = (worst(Kind::Double), worst(Kind::Float));
    println!("adamw: float64 {double:e}, float32 {single:e}");
    assert!(double < 1e-10, "{double:e}");
    assert!(single < 1e-5, "{single:e}");
}
