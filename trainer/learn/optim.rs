//! AdamW over the parameters that learn, with its state our own, and the learning-rate schedules.
//!
//! Moments are float32; a network in bfloat16 has float32 master weights. Weight decay spares
//! norms and biases. All state is laid out as the trainable buffer, or as a rank's share of it: what is frozen has
//! none.

use models::{Decoder, ModelError, ParamTable};
use tch::{Device, Kind, Tensor};
use torch_ext::{AdamwArgs, AdamwScalars, fused_adamw_};

use super::shares::{ShardLayout, Stretch};
use crate::config::{OptimizerConfig, Schedule};

/// Numbers laid out as what learns, or as a rank's share of it.
#[derive(Debug, Clone, Copy)]
pub enum Laid<'a> {
    /// `[N]` as the trainable buffer.
    Whole(&'a Tensor),
    /// `[S]` as a share of a [`ShardLayout`].
    Share(&'a Tensor),
}

impl Laid<'_> {
    fn part(&self, stretch: &Stretch) -> Tensor {
        match self {
            Self::Whole(flat) => flat.narrow(0, stretch.start, stretch.len),
            Self::Share(share) => share.narrow(0, stretch.local, stretch.len),
        }
    }
}

/// The optimizer's state of this rank's share, `[S]`; without sharding that is all of what learns.
pub struct AdamW {
    config: OptimizerConfig,
    layout: ShardLayout,
    /// First moments `[S]`.
    pub exp_avg: Tensor,
    /// Second moments `[S]`.
    pub exp_avg_sq: Tensor,
    /// Master weights `[S]` float32, where the network is in another kind or another place.
    pub master: Option<Tensor>,
    /// Whether the network is in a narrower kind than the moments.
    narrow: bool,
    /// Updates applied.
    pub updates: u64,
}

impl AdamW {
    /// Fresh state for all of `model`.
    pub fn new(model: &Decoder, config: &OptimizerConfig) -> Self {
        let layout = ShardLayout::whole(model.params.trainable().size()[0]);
        Self::of_share(model, config, (layout, model.device()))
    }

    /// Fresh state for this rank's share of `model`, kept at `home`.
    pub fn of_share(
        model: &Decoder,
        config: &OptimizerConfig,
        (layout, home): (ShardLayout, Device),
    ) -> Self {
        let trainable = model.params.trainable();
        let kind = moment_kind(trainable.kind());
        let zeros = || Tensor::zeros([layout.share()], (kind, home));
        let narrow = trainable.kind() != kind;
        let apart = narrow || trainable.device() != home;
        let optimizer = Self {
            config: config.clone(),
            exp_avg: zeros(),
            exp_avg_sq: zeros(),
            master: apart.then(zeros),
            layout,
            narrow,
            updates: 0,
        };
        optimizer.copy_weights(Laid::Whole(trainable));
        optimizer
    }

    /// Takes the network's weights for the master weights.
    fn copy_weights(&self, weights: Laid) {
        let Some(master) = &self.master else {
            return;
        };
        tch::no_grad(|| {
            for own in self.layout.stretches() {
                let to = master.narrow(0, own.local, own.len);
                to.shallow_clone().copy_(&weights.part(&own));
            }
        });
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
        let weights = Laid::Whole(params.trainable());
        self.apply(params, (weights, Laid::Whole(gradient)), lr)
    }

    /// One update of this rank's share of `weights`, of `params`, with its share of `gradient`.
    ///
    /// # Errors
    /// libtorch refusing the tensors.
    pub fn apply(
        &mut self,
        params: &ParamTable,
        (weights, gradient): (Laid, Laid),
        lr: f64,
    ) -> Result<(), ModelError> {
        self.updates += 1;
        let parts = self.layout.leaf_parts(params);
        let updated = self.master.as_ref().map_or(weights, Laid::Share);
        let (kind, home) = (self.exp_avg.kind(), self.exp_avg.device());
        let step = Tensor::from(self.updates as f32).to_device(home);
        for decay in [true, false] {
            let group: Vec<Stretch> = parts
                .iter()
                .filter(|(_, decays)| *decays == decay)
                .map(|(part, _)| *part)
                .collect();
            if group.is_empty() {
                continue;
            }
            let of = |laid: Laid| -> Vec<Tensor> { group.iter().map(|it| laid.part(it)).collect() };
            let grads = of(gradient);
            let grads = grads.iter().map(|part| part.to_kind(kind).to_device(home));
            let steps: Vec<Tensor> = group.iter().map(|_| step.shallow_clone()).collect();
            tch::no_grad(|| {
                fused_adamw_(AdamwArgs {
                    params: &of(updated),
                    grads: &grads.collect::<Vec<_>>(),
                    exp_avg: &of(Laid::Share(&self.exp_avg)),
                    exp_avg_sq: &of(Laid::Share(&self.exp_avg_sq)),
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
            tch::no_grad(|| {
                for own in self.layout.stretches() {
                    let from = master.narrow(0, own.local, own.len);
                    weights.part(&own).copy_(&from);
                }
            });
        }
        Ok(())
    }

    /// Which part of what learns the state is of.
    pub fn layout(&self) -> &ShardLayout {
        &self.layout
    }

    /// Its tensors by their names in checkpoints, in a fixed order: master weights where the network is in another
    /// kind, so that equal states are equal bytes wherever they lie.
    pub fn tensors(&self) -> Vec<(String, Tensor)> {
        let len = match self.layout.world() {
            1 => self.layout.used(),
            _ => self.layout.share(),
        };
        let named = |name: &str, tensor: &Tensor| (name.to_owned(), tensor.narrow(0, 0, len));
        let mut all = vec![
            named("exp_avg", &self.exp_avg),
            named("exp_avg_sq", &self.exp_avg_sq),
        ];
        let master = self.master.iter().filter(|_| self.narrow);
        all.extend(master.map(|master| named("master", master)));
        all
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
