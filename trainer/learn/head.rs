//! Log-probabilities and their gradients through the vocabulary head, some rows at a time, so
//! that logits `[T, V]` never exist whole.
//!
//! The head's backward pass is written out: with `p = softmax(h W^T / t)`, a loss with derivatives
//! `g` by the token's log-probability and `e` by the entropy `H` has
//! `dloss/dlogits = (g (onehot - p) - e p (log p + H)) / t`.

use models::Decoder;
use tch::{Kind, Tensor};

/// Numbers in one block of logits when the config leaves the choice open.
const BLOCK: i64 = 64 << 20;

/// How the head is applied.
#[derive(Debug, Clone, Copy)]
pub struct HeadOptions {
    /// The sampling temperature that divides the logits, > 0.
    pub temperature: f64,
    /// Rows at a time; 0: as many as fit in 64 million numbers.
    pub rows: usize,
}

impl HeadOptions {
    fn block(&self, vocab: i64) -> i64 {
        if self.rows > 0 {
            self.rows as i64
        } else {
            (BLOCK / vocab).max(1)
        }
    }
}

/// The loss of a block: its first row, log-probabilities `[n]` and entropies `[n]` in, a scalar out.
pub type BlockLoss<'a> = dyn FnMut(i64, &Tensor, &Tensor) -> Tensor + 'a;

/// One block of rows through the head.
struct Block {
    hidden: Tensor,
    targets: Tensor,
    /// `[n, V]`
    log_probs: Tensor,
    /// `[n]`
    chosen: Tensor,
}

/// Float32, or float64 where the network runs in it.
fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double {
        kind
    } else {
        Kind::Float
    }
}

fn block(model: &Decoder, hidden: &Tensor, targets: &Tensor, temperature: f64) -> Block {
    let logits = model.logits(hidden);
    let mut logits = logits.to_kind(wide(logits.kind()));
    if temperature != 1.0 {
        logits /= temperature;
    }
    let log_probs = logits.log_softmax(-1, None);
    let chosen = log_probs
        .gather(-1, &targets.unsqueeze(-1), false)
        .squeeze_dim(-1);
    Block {
        hidden: hidden.shallow_clone(),
        targets: targets.shallow_clone(),
        log_probs,
        chosen,
    }
}

fn blocks<'a>(
    model: &'a Decoder,
    hidden: &'a Tensor,
    targets: &'a Tensor,
    options: &'a HeadOptions,
) -> impl Iterator<Item = (i64, Block)> + 'a {
    let total = targets.size()[0];
    let step = options.block(model.config.vocab_size);
    (0..total).step_by(step as usize).map(move |start| {
        let len = step.min(total - start);
        (
            start,
            block(
                model,
                &hidden.narrow(0, start, len),
                &targets.narrow(0, start, len),
                options.temperature,
            ),
        )
    })
}

/// Log-probability `[n]` of each target under the policy, without gradient; `hidden [n, H]`.
pub fn log_probs(
    model: &Decoder,
    hidden: &Tensor,
    targets: &Tensor,
    options: &HeadOptions,
) -> Tensor {
    let chosen: Vec<Tensor> = tch::no_grad(|| {
        blocks(model, hidden, targets, options)
            .map(|(_, block)| block.chosen)
            .collect()
    });
    if chosen.is_empty() {
        Tensor::zeros([0], (Kind::Float, hidden.device()))
    } else {
        Tensor::cat(&chosen, 0)
    }
}

/// Runs `loss(start, log_probs, entropy)` on blocks of rows `[start, start + n)`, both arguments
/// `[n]` leaves, and back-propagates the scalar it returns: the head's gradient is accumulated
/// and that of `hidden [n, H]` returned.
pub fn backward(
    model: &Decoder,
    hidden: &Tensor,
    targets: &Tensor,
    options: &HeadOptions,
    loss: &mut BlockLoss,
) -> Tensor {
    let mut gradients = Vec::new();
    let iterate = blocks(model, hidden, targets, options);
    let _guard = tch::no_grad_guard();
    for (start, block) in iterate {
        let probs = block.log_probs.exp();
        let entropy = (&probs * &block.log_probs)
            .sum_dim_intlist(-1, false, None)
            .neg();
        let chosen = block.chosen.detach().set_requires_grad(true);
        let bonus = entropy.detach().set_requires_grad(true);
        tch::with_grad(|| loss(start, &chosen, &bonus).backward());
        let mut logits = probs * chosen.grad().neg().unsqueeze(-1);
        if bonus.grad().defined() {
            let push = (&block.log_probs + entropy.unsqueeze(-1)) * block.log_probs.exp();
            logits -= push * bonus.grad().unsqueeze(-1);
        }
        let _ = logits.scatter_add_(
            -1,
            &block.targets.unsqueeze(-1),
            &chosen.grad().unsqueeze(-1),
        );
        if options.temperature != 1.0 {
            logits /= options.temperature;
        }
        let logits = logits.to_kind(block.hidden.kind());
        gradients.push(logits.matmul(model.head()));
        let mut head = model.head().grad();
        if head.defined() {
            let _ = head.addmm_(&logits.transpose(0, 1), &block.hidden);
        }
    }
    if gradients.is_empty() {
        hidden.zeros_like()
    } else {
        Tensor::cat(&gradients, 0)
    }
}
