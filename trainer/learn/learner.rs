//! The policy with its optimizer: gradients are accumulated micro-batch by micro-batch, summed
//! over the ranks, clipped and applied.
//!
//! Losses come in already divided by the global count, so neither the number of micro-batches
//! nor that of ranks changes the result beyond rounding.

use std::rc::Rc;
use std::sync::Arc;

use models::image::PromptImages;
use models::{AdapterMode, Component, Decoder, EncodedImages, Recompute, Tape, VisionFeatures};
use rollout::Prompt;
use rollout::engine::ImageCache;
use tch::{Device, Kind, Tensor};

use super::batch::MicroBatch;
use super::flops;
use super::head::{self, BlockLoss, HeadOptions, WholeLoss};
use super::optim::AdamW;
use super::ranks::Ranks;
use crate::TrainError;
use crate::config::OptimizerConfig;
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
    ranks: Rc<Ranks>,
    /// Which activations are computed anew.
    recompute: Recompute,
    /// Float32 sum of the gradients of what learns `[N]`, where the network is in a narrower kind.
    main_grad: Option<Tensor>,
}

/// How a policy learns.
pub struct LearnerOptions<'a> {
    /// The optimizer's section.
    pub optimizer: &'a OptimizerConfig,
    /// Which activations are computed anew in the backward pass.
    pub recompute: Recompute,
    /// The ranks that learn together.
    pub ranks: Rc<Ranks>,
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
    /// Makes `model` trainable with a fresh optimizer.
    ///
    /// # Errors
    /// No memory for gradients and moments.
    pub fn new(mut model: Decoder, options: LearnerOptions) -> Result<Self, TrainError> {
        model.params.train()?;
        let trainable = model.params.trainable();
        let main_grad = matches!(trainable.kind(), Kind::BFloat16 | Kind::Half)
            .then(|| Tensor::zeros(trainable.size(), (Kind::Float, trainable.device())));
        Ok(Self {
            optimizer: AdamW::new(&model, options.optimizer),
            model: Rc::new(model),
            images: Rc::default(),
            flops: 0.0,
            ranks: options.ranks,
            recompute: options.recompute,
            main_grad,
        })
    }

    /// The bytes it holds, measured; [`TrainingMemory::of`] foretells them.
    pub fn memory(&self) -> TrainingMemory {
        let bytes = |tensors: &[Option<&Tensor>]| -> i64 {
            let held = tensors.iter().flatten();
            held.map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as i64)
                .sum()
        };
        let (params, optimizer) = (&self.model.params, &self.optimizer);
        TrainingMemory {
            weights: bytes(&[Some(params.trainable()), Some(params.frozen())]),
            gradients: bytes(&[params.grad(), self.main_grad.as_ref()]),
            optimizer: bytes(&[
                Some(&optimizer.exp_avg),
                Some(&optimizer.exp_avg_sq),
                optimizer.master.as_ref(),
            ]),
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
        catch_torch(|| -> Result<(), TrainError> {
            let features = self.model.features(&micro.views, source, mode)?;
            let leaf = |tensor: &Tensor| tensor.detach().set_requires_grad(tensor.requires_grad());
            let leaves = features.as_ref().map(|features| features.map(leaf));
            let kept: Vec<Tensor> = leaves
                .iter()
                .flat_map(|leaves| leaves.tensors().map(Tensor::shallow_clone))
                .collect();
            let input = micro.input.with_features(leaves).with_adapters(mode);
            let tape = Tape::forward(&self.model, &input, self.recompute);
            let hidden = tape.hidden().detach();
            let chosen = hidden.index_select(0, &micro.rows);
            let gradient = head(&self.model, &chosen);
            let gradient =
                tch::no_grad(|| hidden.zeros_like().index_add(0, &micro.rows, &gradient));
            tape.backward(&gradient);
            if let Some(features) = features {
                features.backward(&kept);
            }
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
        let mut encoded = match self.vision_features() {
            VisionFeatures::Recompute => Vec::new(),
            VisionFeatures::Cached => {
                let missing = shown.iter().zip(&left).filter(|(_, left)| left.is_none());
                let missing: Vec<_> = missing.filter_map(|(shown, _)| shown.clone()).collect();
                catch_torch(|| self.model.encode_images(&missing))??
            }
        }
        .into_iter();
        let pairs = shown.into_iter().zip(left);
        Ok(pairs
            .map(|(shown, left)| {
                let shown = shown?;
                let unseen = || {
                    Rc::new(EncodedImages {
                        images: shown,
                        hidden: None,
                    })
                };
                left.or_else(|| encoded.next()).or_else(|| Some(unseen()))
            })
            .collect())
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
        catch_torch(|| {
            tch::no_grad(|| {
                let features = model.features(&micro.views, source, mode)?;
                let input = micro.input.with_features(features).with_adapters(mode);
                let hidden = model.hidden(&input).index_select(0, &micro.rows);
                Ok(head::log_probs(model, &hidden, &micro.targets, options))
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
        let grad = self
            .main_grad
            .as_ref()
            .or(self.model.params.grad())
            .map(Tensor::shallow_clone);
        let mut grad =
            grad.ok_or_else(|| TrainError::Other("the learner has no gradients".into()))?;
        Phase::Reduce.time(|| self.ranks.sum_gradients(&grad))?;
        let _optim = Phase::Optim.enter();
        let grad_norm = grad.norm().double_value(&[]);
        let applied = grad_norm.is_finite();
        if applied {
            if let Some(limit) = clip_norm.filter(|limit| grad_norm > *limit) {
                tch::no_grad(|| grad *= limit / (grad_norm + 1e-6));
            }
            self.optimizer.step(&self.model.params, &grad, lr)?;
        }
        let _ = tch::no_grad(|| grad.zero_());
        Ok(Update { grad_norm, applied })
    }

    /// Forgets the gradients accumulated so far.
    pub fn zero_grad(&mut self) {
        for grad in [self.main_grad.as_ref(), self.model.params.grad()]
            .into_iter()
            .flatten()
        {
            let _ = tch::no_grad(|| grad.shallow_clone().zero_());
        }
    }
}

/// Turns libtorch's panics into an error.
fn catch_torch<T>(work: impl FnOnce() -> T) -> Result<T, TrainError> {
    torch_ext::catch_torch(work).map_err(TrainError::Learner)
}
