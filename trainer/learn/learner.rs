//! The policy with its optimizer: gradients are accumulated micro-batch by micro-batch, summed
//! over the ranks, clipped and applied. What a rank holds of them is [`ShardingConfig`]'s choice; the
//! result is the same.
//!
//! Losses come in already divided by the global count, so neither the number of micro-batches
//! nor that of ranks changes the result beyond rounding.

use std::rc::Rc;
use std::sync::Arc;

use models::image::PromptImages;
use models::{
    AdapterMode, Component, Decoder, EncodedImages, Recompute, TOWER_UNIT, Tape, VisionFeatures,
};
use rollout::Prompt;
use rollout::engine::ImageCache;
use tch::{Device, Kind, Tensor};

use super::batch::MicroBatch;
use super::flops;
use super::head::{self, BlockLoss, HeadOptions, WholeLoss};
use super::optim::{AdamW, Laid};
use super::ranks::Ranks;
use super::shares::ShardLayout;
use super::unit_traffic::{UnitTraffic, gather_shares};
use crate::TrainError;
use crate::config::{OptimizerConfig, ShardingConfig};
use crate::memory::TrainingMemory;
use crate::telemetry::Phase;

/// A policy that learns.
pub struct Learner {
    /// The policy; the engine of this process samples with the same tensors.
    pub model: Rc<Decoder>,
    /// Its optimizer.
    pub optimizer: AdamW,
    /// What the engine's tower made of prompts' pictures.
    pub images: Rc<ImageCache>,
    /// Model FLOPs done for learning so far on this rank; see [`flops`].
    pub flops: f64,
    pub(super) ranks: Rc<Ranks>,
    /// Which activations are computed anew.
    recompute: Recompute,
    /// Float32 sum of the gradients of what learns `[N]`, where the network is in a narrower kind and its gradients
    /// are whole.
    main_grad: Option<Tensor>,
    /// From stage 2 of sharding on: what moves gradients, and weights, among the ranks.
    pub(super) traffic: Option<Rc<UnitTraffic>>,
}

/// How a policy learns.
pub struct LearnerOptions<'a> {
    /// The optimizer's section.
    pub optimizer: &'a OptimizerConfig,
    /// Which activations are computed anew in the backward pass.
    pub recompute: Recompute,
    /// The ranks that learn together.
    pub ranks: Rc<Ranks>,
    /// What they share out among them.
    pub sharding: &'a ShardingConfig,
}

/// What one update did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Update {
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Whether it was applied: a gradient that is not finite is refused.
    pub applied: bool,
}

impl Learner {
    /// Makes `model` trainable with a fresh optimizer. Sharded weights are whole until this returns.
    ///
    /// # Errors
    /// No memory for gradients and moments; a lost rank.
    pub fn new(mut model: Decoder, options: LearnerOptions) -> Result<Self, TrainError> {
        let LearnerOptions {
            ranks, sharding, ..
        } = options;
        let trainable = model.params.trainable().shallow_clone();
        let (kind, device) = (trainable.kind(), trainable.device());
        let layout = match sharding.stage {
            0 => ShardLayout::whole(trainable.size()[0]),
            _ => ShardLayout::new(&model.params.units(), (ranks.rank(), ranks.size())),
        };
        let home = match sharding.offload_optimizer {
            true => Device::Cpu,
            false => device,
        };
        let optimizer = AdamW::of_share(&model, options.optimizer, (layout.clone(), home));
        let (mut traffic, mut main_grad) = (None, None);
        if sharding.stage < 2 {
            model.params.train()?;
            main_grad = matches!(kind, Kind::BFloat16 | Kind::Half)
                .then(|| Tensor::zeros(trainable.size(), (Kind::Float, device)));
        } else {
            let weights = sharding.stage == 3;
            let moved = UnitTraffic::learning(&mut model, ranks.clone(), layout, weights)?;
            traffic = Some(moved);
        }
        Ok(Self {
            optimizer,
            model: Rc::new(model),
            images: Rc::default(),
            flops: 0.0,
            ranks,
            recompute: options.recompute,
            main_grad,
            traffic,
        })
    }

    /// The bytes it holds on this rank, measured; [`TrainingMemory::of_rank`] foretells them.
    pub fn memory(&self) -> TrainingMemory {
        let bytes = |tensors: &[Option<&Tensor>]| -> i64 {
            let held = tensors.iter().flatten();
            held.map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as i64)
                .sum()
        };
        let (params, optimizer) = (&self.model.params, &self.optimizer);
        let traffic = self.traffic.as_ref();
        let share = traffic.and_then(|traffic| traffic.weights());
        let sum = traffic.and_then(|traffic| traffic.gradient_sum());
        TrainingMemory {
            weights: bytes(&[Some(params.trainable()), Some(params.frozen()), share]),
            gradients: bytes(&[params.grad(), self.main_grad.as_ref(), sum]),
            optimizer: bytes(&[
                Some(&optimizer.exp_avg),
                Some(&optimizer.exp_avg_sq),
                optimizer.master.as_ref(),
            ]),
            moving: traffic.map_or(0, |traffic| traffic.peak_bytes()),
        }
    }

    /// The device it computes on.
    pub fn device(&self) -> Device {
        self.model.device()
    }

    /// Forward and backward over one micro-batch; see [`head::backward`] for `loss`.
    ///
    /// # Errors
    /// libtorch ending an operation (out of memory).
    pub fn forward_backward(
        &mut self,
        micro: &MicroBatch,
        options: &HeadOptions,
        loss: &mut BlockLoss,
    ) -> Result<(), TrainError> {
        self.through_network(micro, &mut |model, hidden| {
            head::backward(model, hidden, &micro.targets, options, loss)
        })
    }

    /// The same for a loss of sequences, which sees the log-probabilities of all tokens at once; see
    /// [`head::backward_whole`].
    ///
    /// # Errors
    /// As [`Self::forward_backward`].
    pub fn forward_backward_whole(
        &mut self,
        micro: &MicroBatch,
        options: &HeadOptions,
        loss: &mut WholeLoss,
    ) -> Result<(), TrainError> {
        self.through_network(micro, &mut |model, hidden| {
            head::backward_whole(model, hidden, &micro.targets, options, loss)
        })
    }

    /// Forward and backward around `head`, which is given the rows `[n, H]` that predict tokens and gives
    /// their gradient back.
    fn through_network(
        &mut self,
        micro: &MicroBatch,
        head: &mut dyn FnMut(&Decoder, &Tensor) -> Tensor,
    ) -> Result<(), TrainError> {
        let _span = tracing::trace_span!("micro_batch", rows = micro.computed_rows()).entered();
        let source = self.vision_features();
        self.flops += flops::training(&self.model) * flops::forward(&self.model, micro, source);
        let mode = self.model.learning(self.optimizer.updates);
        guarded(&self.model, || -> Result<(), TrainError> {
            let (model, params) = (&self.model, &self.model.params);
            let features = model.features(&micro.views, source, mode)?;
            let leaf = |tensor: &Tensor| tensor.detach().set_requires_grad(tensor.requires_grad());
            let leaves = features.as_ref().map(|features| features.map(leaf));
            let kept: Vec<Tensor> = leaves
                .iter()
                .flat_map(|leaves| leaves.tensors().map(Tensor::shallow_clone))
                .collect();
            let input = micro.input.with_features(leaves).with_adapters(mode);
            let tape = Tape::forward(model, &input, self.recompute);
            let hidden = tape.hidden().detach();
            let chosen = hidden.index_select(0, &micro.rows);
            let unit = model.config.head_unit();
            params.gradient_room(unit);
            let gradient = params.within(unit, None, || head(model, &chosen));
            if !model.config.tied {
                params.gradient_ready(unit);
            }
            let gradient =
                tch::no_grad(|| hidden.zeros_like().index_add(0, &micro.rows, &gradient));
            tape.backward(&gradient);
            params.gradient_room(TOWER_UNIT);
            if let Some(features) = features {
                features.backward(&kept);
            }
            params.gradient_ready(TOWER_UNIT);
            Ok(())
        })??;
        if let (Some(main_grad), Some(grad)) = (&mut self.main_grad, self.model.params.grad()) {
            tch::no_grad(|| {
                *main_grad += grad.to_kind(Kind::Float);
                let _ = grad.shallow_clone().zero_();
            });
        }
        Ok(())
    }

    /// Which output of the tower the learner is shown, and a policy with the same tower.
    pub fn vision_features(&self) -> VisionFeatures {
        match self.model.params.learns(Component::Vision) {
            true => VisionFeatures::Recompute,
            false => VisionFeatures::Cached,
        }
    }

    /// The prompts' pictures for micro-batches: as the engine's tower encoded them, else encoded here
    /// where the tower stays as it is, once for all micro-batches, else by each forward pass.
    ///
    /// # Errors
    /// Pictures for a policy without a tower; libtorch ending an operation.
    pub fn encode_images<'a>(
        &self,
        prompts: impl IntoIterator<Item = &'a Prompt>,
    ) -> Result<Vec<Option<Rc<EncodedImages>>>, TrainError> {
        let shown: Vec<Option<Arc<PromptImages>>> = prompts
            .into_iter()
            .map(|prompt| prompt.shown.clone())
            .collect();
        let left: Vec<Option<Rc<EncodedImages>>> = shown
            .iter()
            .map(|shown| self.images.take(shown.as_ref()?))
            .collect();
        let missing = shown.iter().zip(&left).filter(|(_, left)| left.is_none());
        let missing: Vec<_> = missing.filter_map(|(shown, _)| shown.clone()).collect();
        let mut encoded = self.encode_pictures(&missing)?.into_iter();
        let pairs = shown.into_iter().zip(left);
        Ok(pairs
            .map(|(shown, left)| shown.and_then(|_| left.or_else(|| encoded.next())))
            .collect())
    }

    /// Pictures for micro-batches: encoded where the tower stays as it is.
    ///
    /// # Errors
    /// Those of [`Self::encode_images`].
    pub fn encode_pictures(
        &self,
        shown: &[Arc<PromptImages>],
    ) -> Result<Vec<Rc<EncodedImages>>, TrainError> {
        let unseen = |images: &Arc<PromptImages>| {
            Rc::new(EncodedImages {
                images: images.clone(),
                hidden: None,
            })
        };
        match self.vision_features() {
            VisionFeatures::Recompute => Ok(shown.iter().map(unseen).collect()),
            VisionFeatures::Cached => Ok(catch_torch(|| self.model.encode_images(shown))??),
        }
    }

    /// Log-probability `[n]` of each completion token of `micro` under `model`, without gradient.
    /// `source` says whether what the rollout's tower made of pictures is `model`'s as well, and `mode` what its
    /// adapters do.
    ///
    /// # Errors
    /// libtorch ending an operation (out of memory).
    pub fn log_probs(
        model: &Decoder,
        micro: &MicroBatch,
        options: &HeadOptions,
        source: VisionFeatures,
        mode: AdapterMode,
    ) -> Result<Tensor, TrainError> {
        guarded(model, || {
            tch::no_grad(|| {
                let features = model.features(&micro.views, source, mode)?;
                let input = micro.input.with_features(features).with_adapters(mode);
                let hidden = model.hidden(&input).index_select(0, &micro.rows);
                Ok(model.params.within(model.config.head_unit(), None, || {
                    head::log_probs(model, &hidden, &micro.targets, options)
                }))
            })
        })?
    }

    /// Sums the gradients over the ranks, clips them to `clip_norm` and applies them at learning
    /// rate `lr`; then the gradients are zero.
    ///
    /// # Errors
    /// A lost rank, or libtorch refusing the tensors.
    pub fn optimizer_step(
        &mut self,
        lr: f64,
        clip_norm: Option<f64>,
    ) -> Result<Update, TrainError> {
        let reduce = Phase::Reduce.enter();
        let (mut grad, grad_norm) = self.sum_gradients()?;
        drop(reduce);
        let _optim = Phase::Optim.enter();
        let applied = grad_norm.is_finite();
        if applied {
            if let Some(limit) = clip_norm.filter(|limit| grad_norm > *limit) {
                tch::no_grad(|| grad *= limit / (grad_norm + 1e-6));
            }
            self.apply(&grad, lr)?;
        }
        let _ = tch::no_grad(|| grad.zero_());
        Ok(Update { grad_norm, applied })
    }

    /// The gradients summed over the ranks, once: whole, or this rank's share in the order of
    /// [`AdamW::layout`]; and the norm of all of them, which is the same number on every rank.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn sum_gradients(&self) -> Result<(Tensor, f64), TrainError> {
        let lacks = || TrainError::Other("the learner has no gradients".into());
        if let Some(traffic) = &self.traffic {
            let share = traffic.gradients()?.ok_or_else(lacks)?;
            let all = self.ranks.all_gather(&[square_sum(share)])?;
            let square: f64 = all.iter().flatten().sum();
            return Ok((share.shallow_clone(), square.sqrt()));
        }
        let whole = self.main_grad.as_ref().or(self.model.params.grad());
        let whole = whole.ok_or_else(lacks)?.shallow_clone();
        self.ranks.sum_gradients(&whole)?;
        let norm = square_sum(&whole).sqrt();
        Ok((whole, norm))
    }

    /// One update with the gradients that [`Self::sum_gradients`] gave.
    fn apply(&mut self, grad: &Tensor, lr: f64) -> Result<(), TrainError> {
        let params = &self.model.params;
        let traffic = self.traffic.as_ref();
        let gradient = match traffic {
            Some(_) => Laid::Share(grad),
            None => Laid::Whole(grad),
        };
        match traffic.and_then(|traffic| Some((traffic, traffic.weights()?))) {
            Some((traffic, share)) => {
                let weights = Laid::Share(share);
                self.optimizer.apply(params, (weights, gradient), lr)?;
                traffic.refresh()?;
            }
            None => {
                let weights = Laid::Whole(params.trainable());
                self.optimizer.apply(params, (weights, gradient), lr)?;
                let layout = self.optimizer.layout();
                if layout.world() > 1 {
                    gather_shares(params.trainable(), layout, &self.ranks)?;
                }
            }
        }
        Ok(())
    }

    /// Forgets the gradients accumulated so far.
    ///
    /// # Errors
    /// A lost rank, named: what is on its way is waited for.
    pub fn zero_grad(&mut self) -> Result<(), TrainError> {
        if let Some(traffic) = &self.traffic {
            traffic.zero_gradients()?;
        }
        for grad in [self.main_grad.as_ref(), self.model.params.grad()]
            .into_iter()
            .flatten()
        {
            let _ = tch::no_grad(|| grad.shallow_clone().zero_());
        }
        Ok(())
    }
}

/// Elements that are squared at a time.
const SQUARED: i64 = 4 << 20;

/// The sum of the squares of `flat [N]`, in float64: in float32 millions of small ones are lost to rounding, and how
/// many would depend on how ranks share them.
fn square_sum(flat: &Tensor) -> f64 {
    let total = flat.size()[0];
    let squares: Vec<Tensor> = (0..total)
        .step_by(SQUARED as usize)
        .map(|start| {
            let part = flat.narrow(0, start, SQUARED.min(total - start));
            let wide = part.to_kind(Kind::Double);
            wide.dot(&wide)
        })
        .collect();
    match squares.is_empty() {
        true => 0.0,
        false => Tensor::stack(&squares, 0)
            .sum(Kind::Double)
            .double_value(&[]),
    }
}

/// `work` over `model` with libtorch's panics as errors, and a rank that was lost meanwhile by its name.
pub(super) fn guarded<T>(model: &Decoder, work: impl FnOnce() -> T) -> Result<T, TrainError> {
    let done = catch_torch(work);
    match model.params.take_failure() {
        Some(lost) => Err(lost.into()),
        None => done,
    }
}

/// Turns libtorch's panics into an error.
fn catch_torch<T>(work: impl FnOnce() -> T) -> Result<T, TrainError> {
    torch_ext::catch_torch(work).map_err(TrainError::Learner)
}
