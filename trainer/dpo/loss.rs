//! The losses of a pair of answers, chosen and rejected: log-probabilities in, loss and its statistics
//! out.
//!
//! With `d` the difference of the two log-ratios to the reference policy: DPO `-log s(beta d)` (Rafailov
//! et al. 2023, arXiv 2305.18290), with smoothed labels (Mitchell 2023) or unbiased for flipped ones
//! (`robust`, Chowdhury et al. 2024, arXiv 2403.00409); hinge `max(0, 1 - beta d)` (SLiC, Zhao et al.
//! 2023); IPO `(d - 1 / (2 beta))^2` with means over tokens in `d` (Azar et al. 2023, arXiv 2310.12036).
//! As TRL has them (`DPOTrainer._compute_loss`, 1.16). The normaliser of the whole update stands in
//! [`PairNorm`], so sums over micro-batches and ranks are the loss.

use tch::{Kind, Tensor};

use crate::config::{DpoConfig, DpoLoss};
use crate::metrics::{Metric, keys};

/// What the loss needs to know of `P` pairs, all `[P]` float64: sums over an answer's tokens.
pub struct PairTerms<'a> {
    /// Log-probabilities of the chosen answers under the policy, with gradient.
    pub chosen: &'a Tensor,
    /// Of the rejected ones, with gradient.
    pub rejected: &'a Tensor,
    /// Under the reference policy.
    pub reference_chosen: &'a Tensor,
    /// Under the reference policy.
    pub reference_rejected: &'a Tensor,
    /// Tokens of the chosen answers.
    pub chosen_tokens: &'a Tensor,
    /// Tokens of the rejected ones.
    pub rejected_tokens: &'a Tensor,
}

/// The options of the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairLossOptions {
    /// Weight of the log-ratios; IPO's tau.
    pub beta: f64,
    /// The loss of a pair.
    pub loss: DpoLoss,
    /// Probability that a pair is the wrong way round.
    pub label_smoothing: f64,
    /// Whether log-ratios are means over tokens instead of sums.
    pub average_logprobs: bool,
    /// Weight of the negative log-probability of chosen tokens.
    pub sft_weight: f64,
}

impl From<&DpoConfig> for PairLossOptions {
    fn from(config: &DpoConfig) -> Self {
        Self {
            beta: config.beta,
            loss: config.loss,
            label_smoothing: config.label_smoothing,
            average_logprobs: config.average_logprobs,
            sft_weight: config.sft_weight,
        }
    }
}

/// What the loss of one update is divided by, over all its micro-batches and ranks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairNorm {
    /// Pairs.
    pub pairs: f64,
    /// Tokens of chosen answers, for the SFT term.
    pub chosen_tokens: f64,
}

/// The metrics that [`PairLossOutput::sums`] add up to, in order.
pub const SUMS: [&Metric; 6] = [
    &keys::DPO_LOSS,
    &keys::DPO_ACCURACY,
    &keys::DPO_MARGIN,
    &keys::DPO_CHOSEN_LOGP,
    &keys::DPO_REJECTED_LOGP,
    &keys::SFT_LOSS,
];

/// The loss of some pairs.
pub struct PairLossOutput {
    /// Scalar, attached to the graph.
    pub loss: Tensor,
    /// `[6]` float64, detached, named by [`SUMS`]: this part's share of each.
    pub sums: Tensor,
    /// `[2, P]` float64, detached: the loss of each pair without the SFT term, and its margin.
    pub each: Tensor,
}

/// The loss of the pairs in `terms`.
pub fn dpo_loss(terms: &PairTerms, options: &PairLossOptions, norm: &PairNorm) -> PairLossOutput {
    let chosen_ratio = terms.chosen - terms.reference_chosen;
    let rejected_ratio = terms.rejected - terms.reference_rejected;
    let means = options.average_logprobs || options.loss == DpoLoss::Ipo;
    let difference = match means {
        true => {
            &chosen_ratio / terms.chosen_tokens.clamp_min(1.0)
                - &rejected_ratio / terms.rejected_tokens.clamp_min(1.0)
        }
        false => &chosen_ratio - &rejected_ratio,
    };
    let pair = pair_losses(&difference, options);
    let imitation = terms.chosen.sum(Kind::Double) * (-1.0 / norm.chosen_tokens.max(1.0));
    let pairs = norm.pairs.max(1.0);
    let mut loss = pair.sum(Kind::Double) / pairs;
    if options.sft_weight != 0.0 {
        loss = &loss + &imitation * options.sft_weight;
    }
    let share = |tensor: &Tensor| tensor.detach().sum(Kind::Double) / pairs;
    let rewards = (&chosen_ratio.detach() - &rejected_ratio.detach()) * options.beta;
    let sums = Tensor::stack(
        &[
            loss.detach(),
            share(&rewards.gt(0.0).to_kind(Kind::Double)),
            share(&rewards),
            share(terms.chosen),
            share(terms.rejected),
            imitation.detach(),
        ],
        0,
    );
    PairLossOutput {
        loss,
        sums,
        each: Tensor::stack(&[pair.detach(), rewards], 0),
    }
}

/// The loss of each pair `[P]`, from the difference of log-ratios `[P]`.
fn pair_losses(difference: &Tensor, options: &PairLossOptions) -> Tensor {
    let scaled = difference * options.beta;
    let (right, wrong) = (|| scaled.log_sigmoid(), || scaled.neg().log_sigmoid());
    let flipped = options.label_smoothing;
    match options.loss {
        DpoLoss::Sigmoid if flipped == 0.0 => right().neg(),
        DpoLoss::Sigmoid => right() * (flipped - 1.0) - wrong() * flipped,
        DpoLoss::Robust => (right() * (flipped - 1.0) + wrong() * flipped) / (1.0 - 2.0 * flipped),
        DpoLoss::Hinge => (scaled.neg() + 1.0).relu(),
        DpoLoss::Ipo => (difference - 1.0 / (2.0 * options.beta)).square(),
    }
}

/// Sums `[S]` float64 of `logprobs [n]` over consecutive sequences of `lengths` tokens, whose total is n.
pub fn sequence_sums(logprobs: &Tensor, lengths: &[usize]) -> Tensor {
    let lengths: Vec<i64> = lengths.iter().map(|len| *len as i64).collect();
    let parts = logprobs
        .to_kind(Kind::Double)
        .split_with_sizes(lengths, 0)
        .into_iter()
        .map(|part| part.sum(Kind::Double));
    Tensor::stack(&parts.collect::<Vec<_>>(), 0)
}

/// The first and the second of each pair in `sums [2P]` or `[P, 2]`, `[P]` each.
pub fn of_pairs(sums: &Tensor) -> [Tensor; 2] {
    let pairs = sums.reshape([-1, 2]);
    [0, 1].map(|side| pairs.select(1, side))
}
