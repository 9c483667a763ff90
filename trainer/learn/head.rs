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
    /// How many rows of `vocab` logits there are at a time.
    pub fn rows_of(&self, vocab: i64) -> i64 {
        if self.rows > 0 {
            self.rows as i64
        } else {
            (BLOCK / vocab).max(1)
        }
    }
}

/// The loss of a block: its first row, log-probabilities `[n]` and entropies `[n]` in, a scalar out.
pub type BlockLoss<'a> = dyn FnMut(i64, &Tensor, &Tensor) -> Tensor + 'a;

/// The loss of all rows: log-probabilities `[n]` in, a scalar out.
pub type WholeLoss<'a> = dyn FnMut(&Tensor) -> Tensor + 'a;

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
    let step = options.rows_of(model.config.vocab_size);
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
        gradients.push(through_head(model, &block, logits, &chosen.grad(), options));
    }
    whole_gradient(gradients, hidden)
}

/// Runs `loss(log_probs)` on the log-probabilities `[n]` of all rows, a leaf, and back-propagates the
/// scalar it returns, as [`backward`] does: for losses that compare sequences. Where one block holds all
/// rows, its logits are kept for the way back; otherwise they are computed once more.
pub fn backward_whole(
    model: &Decoder,
    hidden: &Tensor,
    targets: &Tensor,
    options: &HeadOptions,
    loss: &mut WholeLoss,
) -> Tensor {
    let _guard = tch::no_grad_guard();
    let fits = targets.size()[0] <= options.rows_of(model.config.vocab_size);
    let kept: Vec<(i64, Block)> = match fits {
        true => blocks(model, hidden, targets, options).collect(),
        false => Vec::new(),
    };
    let chosen = match kept.first() {
        Some((_, block)) => block.chosen.shallow_clone(),
        None => log_probs(model, hidden, targets, options),
    };
    let chosen = chosen.detach().set_requires_grad(true);
    tch::with_grad(|| loss(&chosen).backward());
    let push = chosen.grad();
    let back = |(start, block): (i64, Block)| {
        let push = push.narrow(0, start, block.targets.size()[0]);
        let logits = block.log_probs.exp() * push.neg().unsqueeze(-1);
        through_head(model, &block, logits, &push, options)
    };
    let gradients = match fits {
        true => kept.into_iter().map(back).collect(),
        false => blocks(model, hidden, targets, options).map(back).collect(),
    };
    whole_gradient(gradients, hidden)
}

/// Ends a block's way back: `logits [n, V]` lack the chosen tokens' own `push [n]` yet. Accumulates the
/// head's gradient and gives that of the block's hidden rows.
fn through_head(
    model: &Decoder,
    block: &Block,
    mut logits: Tensor,
    push: &Tensor,
    options: &HeadOptions,
) -> Tensor {
    let _ = logits.scatter_add_(-1, &block.targets.unsqueeze(-1), &push.unsqueeze(-1));
    if options.temperature != 1.0 {
        logits /= options.temperature;
    }
    let logits = logits.to_kind(block.hidden.kind());
    let mut head = model.head().grad();
    if head.defined() {
        let _ = head.addmm_(&logits.transpose(0, 1), &block.hidden);
    }
    logits.matmul(model.head())
}

fn whole_gradient(gradients: Vec<Tensor>, hidden: &Tensor) -> Tensor {
    match gradients.is_empty() {
        true => hidden.zeros_like(),
        false => Tensor::cat(&gradients, 0),
    }
}
