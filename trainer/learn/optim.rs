//! AdamW over the parameters that learn, with its state our own, and the learning-rate schedules.
//!
//! Moments are float32; a network in bfloat16 has float32 master weights. Weight decay spares
//! norms and biases. All state is laid out as the trainable buffer: what is frozen has none.

use std::collections::BTreeMap;

use models::{Decoder, ModelError, ParamTable};
use tch::{Kind, Tensor};
use torch_ext::{AdamwArgs, AdamwScalars, fused_adamw_};

use crate::config::{OptimizerConfig, Schedule};

/// The optimizer's state, `[N]` as what learns ([`ParamTable::trainable`]).
pub struct AdamW {
    config: OptimizerConfig,
    /// First moments `[N]`.
    pub exp_avg: Tensor,
    /// Second moments `[N]`.
    pub exp_avg_sq: Tensor,
    /// Master weights `[N]` float32, where the network is in another kind.
    pub master: Option<Tensor>,
    /// Updates applied.
    pub updates: u64,
}

impl AdamW {
    /// Fresh state for `model`.
    pub fn new(model: &Decoder, config: &OptimizerConfig) -> Self {
        let trainable = model.params.trainable();
        let kind = moment_kind(trainable.kind());
        let zeros = || Tensor::zeros(trainable.size(), (kind, trainable.device()));
        let master = (trainable.kind() != kind).then(|| trainable.to_kind(kind));
        Self {
            config: config.clone(),
            exp_avg: zeros(),
            exp_avg_sq: zeros(),
            master,
            updates: 0,
        }
    }

    /// One update of `params` with `gradient [N]` at learning rate `lr`.
    ///
    /// # Errors
    /// libtorch refusing the tensors.
    pub fn step(
        &mut self,
        params: &ParamTable,
        gradient: &Tensor,
        lr: f64,
    ) -> Result<(), ModelError> {
        self.updates += 1;
        let weights = self.master.as_ref().unwrap_or(params.trainable());
        let gradient = gradient.to_kind(weights.kind());
        let step = Tensor::from(self.updates as f32).to_device(weights.device());
        let parts = |flat: &Tensor, decay: bool| -> Vec<Tensor> {
            params
                .split(flat)
                .filter(|(leaf, _)| leaf.decay == decay)
                .map(|(_, view)| view)
                .collect()
        };
        for decay in [true, false] {
            let group = parts(weights, decay);
            if group.is_empty() {
                continue;
            }
            let steps: Vec<Tensor> = group.iter().map(|_| step.shallow_clone()).collect();
            tch::no_grad(|| {
                fused_adamw_(AdamwArgs {
                    params: &group,
                    grads: &parts(&gradient, decay),
                    exp_avg: &parts(&self.exp_avg, decay),
                    exp_avg_sq: &parts(&self.exp_avg_sq, decay),
                    steps: &steps,
                    scalars: AdamwScalars {
                        lr,
                        beta1: self.config.beta1,
                        beta2: self.config.beta2,
                        weight_decay: if decay { self.config.weight_decay } else { 0.0 },
                        eps: self.config.epsilon,
                    },
                })
            })?;
        }
        if let Some(master) = &self.master {
            tch::no_grad(|| params.trainable().shallow_clone().copy_(master));
        }
        Ok(())
    }
}

impl AdamW {
    /// Its tensors by their names in checkpoints, in a fixed order.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let named = |name: &str, tensor: &Tensor| (name.to_owned(), tensor.shallow_clone());
        let mut all = vec![
            named("exp_avg", &self.exp_avg),
            named("exp_avg_sq", &self.exp_avg_sq),
        ];
        all.extend(self.master.iter().map(|master| named("master", master)));
        all
    }

    /// Takes the tensors of a checkpoint over: either of what learns alone, or of all parameters
    /// with the frozen ones among them, as checkpoints had it before these lay apart.
    ///
    /// # Errors
    /// A tensor that is not there, or has neither length.
    pub fn restore(
        &mut self,
        mut stored: BTreeMap<String, Tensor>,
        params: &ParamTable,
    ) -> Result<(), String> {
        for (name, own) in self.tensors() {
            let tensor = stored
                .remove(&name)
                .ok_or_else(|| format!("{name} is missing"))?;
            let tensor = match tensor.size() == own.size() {
                true => tensor,
                false => params.trainable_of_joint(&tensor).ok_or_else(|| {
                    format!(
                        "{name} has {:?} numbers, the network {:?} that learn",
                        tensor.size(),
                        own.size()
                    )
                })?,
            };
            tch::no_grad(|| own.shallow_clone().copy_(&tensor));
        }
        Ok(())
    }
}

fn moment_kind(kind: Kind) -> Kind {
    if kind == Kind::Double {
        Kind::Double
    } else {
        Kind::Float
    }
}

/// The learning rate of step `step` (from 1) of `steps`.
pub fn learning_rate(config: &OptimizerConfig, step: u64, steps: u64) -> f64 {
    let warmup = if config.warmup < 1.0 {
        (config.warmup * steps as f64).round()
    } else {
        config.warmup
    };
    let (done, step) = ((step - 1) as f64, step as f64);
    if step <= warmup {
        return config.learning_rate * step / warmup;
    }
    let factor = match config.schedule {
        Schedule::Constant {} => 1.0,
        Schedule::Cosine { floor } => {
            let span = (steps as f64 - warmup).max(1.0);
            let progress = ((step - warmup) / span).clamp(0.0, 1.0);
            floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        }
        Schedule::Step { every, factor } => {
            factor.powi(((done - warmup).max(0.0) as u64 / every.max(1)) as i32)
        }
    };
    config.learning_rate * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_rise_then_fall_as_asked() {
        let config = OptimizerConfig {
            learning_rate: 1.0,
            warmup: 2.0,
            schedule: Schedule::Cosine { floor: 0.1 },
            ..OptimizerConfig::default()
        };
        let rates: Vec<f64> = (1..=6)
            .map(|step| learning_rate(&config, step, 6))
            .collect();
        assert_eq!(rates[..2], [0.5, 1.0]);
        assert!((rates[5] - 0.1).abs() < 1e-12 && rates[2] > rates[3] && rates[3] > rates[4]);
        let config = OptimizerConfig {
            learning_rate: 1.0,
            schedule: Schedule::Step {
                every: 2,
                factor: 0.3,
            },
            ..OptimizerConfig::default()
        };
        let rates: Vec<f64> = (1..=5)
            .map(|step| learning_rate(&config, step, 5))
            .collect();
        assert_eq!(rates, [1.0, 1.0, 0.3, 0.3, 0.09]);
        // RLRF's: 1e-5, times 0.7 after each 100 of 500 steps.
        let rlrf = OptimizerConfig {
            learning_rate: 1e-5,
            schedule: Schedule::Step {
                every: 100,
                factor: 0.7,
            },
            ..OptimizerConfig::default()
        };
        for (step, want) in [
            (1, 1e-5),
            (100, 1e-5),
            (101, 7e-6),
            (200, 7e-6),
            (201, 4.9e-6),
            (301, 3.43e-6),
            (401, 2.401e-6),
            (500, 2.401e-6),
        ] {
            let rate = learning_rate(&rlrf, step, 500);
            assert!((rate / want - 1.0).abs() < 1e-12, "{step}: {rate}");
        }
        let share = OptimizerConfig {
            learning_rate: 1.0,
            warmup: 0.5,
            ..OptimizerConfig::default()
        };
        assert_eq!(learning_rate(&share, 1, 8), 0.25);
    }
}
