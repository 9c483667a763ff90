//! Which two of a prompt's candidates become a pair.

use rewards::Reward;
use rollout::{Completion, FinishReason};

/// Two candidates, by their places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Choice {
    /// The best.
    pub(super) chosen: usize,
    /// The worst.
    pub(super) rejected: usize,
    /// Difference of their totals, > 0.
    pub(super) margin: f64,
}

/// Why a prompt gives no pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NoPair {
    /// Best and worst are equal in score.
    Tie,
    /// They differ by less than the margin.
    Margin,
    /// They are the same text.
    SameText,
    /// No candidate is of the asked form and renders.
    Unrenderable,
    /// Fewer than two candidates could be scored.
    Unscored,
    /// The prompt is too long to be sampled or learnt from.
    LongPrompt,
}

impl NoPair {
    /// The word in the journal.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Tie => "tie",
            Self::Margin => "margin",
            Self::SameText => "same_text",
            Self::Unrenderable => "unrenderable",
            Self::Unscored => "unscored",
            Self::LongPrompt => "long_prompt",
        }
    }
}

/// The best and the worst of a prompt's candidates; of equals the first. The best is one that is valid and
/// ended by itself: neither a drawing that does not render nor one that was cut off is to be imitated. The
/// worst is any that was scored and is not blank.
///
/// # Errors
/// Why there is no pair.
pub(super) fn choose(
    completions: &[Completion],
    rewards: &[Reward],
    min_margin: f64,
) -> Result<Choice, NoPair> {
    if !rewards.iter().any(|reward| reward.valid) {
        return Err(NoPair::Unrenderable);
    }
    let text = |at: usize| completions[at].text.as_deref().unwrap_or_default();
    let whole = |at: usize| completions[at].finish == FinishReason::Stop && rewards[at].valid;
    let totals = rewards.iter().enumerate();
    let scored: Vec<(usize, f64)> = totals
        .filter_map(|(at, reward)| Some((at, reward.total?)))
        .filter(|(at, _)| !text(*at).trim().is_empty())
        .collect();
    // `max_by` gives the last of equals.
    let candidates = scored.iter().rev().filter(|(at, _)| whole(*at));
    let best = candidates.max_by(|a, b| a.1.total_cmp(&b.1));
    let worst = scored.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let (Some(best), Some(worst), true) = (best, worst, scored.len() > 1) else {
        return Err(NoPair::Unscored);
    };
    let margin = best.1 - worst.1;
    match margin {
        _ if margin.is_nan() || margin <= 0.0 => Err(NoPair::Tie),
        _ if margin < min_margin => Err(NoPair::Margin),
        _ if text(best.0) == text(worst.0) => Err(NoPair::SameText),
        _ => Ok(Choice {
            chosen: best.0,
            rejected: worst.0,
            margin,
        }),
    }
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;

    /// Candidates by total, validity and whether they ended by themselves; each with a text of its own.
    fn chosen(candidates: &[(Option<f64>, bool, bool)], margin: f64) -> Result<Choice, NoPair> {
        let completion = |(at, (_, _, whole)): (usize, &(Option<f64>, bool, bool))| Completion {
            ids: vec![1],
            logprobs: vec![0.0],
            drawn_logprobs: vec![0.0],
            text: Some(format!("text {at}")),
            finish: match whole {
                true => FinishReason::Stop,
                false => FinishReason::Length,
            },
            spans: Vec::new(),
        };
        let reward = |(total, valid, _): &(Option<f64>, bool, bool)| Reward {
            total: *total,
            parts: IndexMap::new(),
            valid: *valid,
            reason: None,
            render_ms: 0.0,
            metrics: IndexMap::new(),
            unscored: Vec::new(),
        };
        let completions: Vec<_> = candidates.iter().enumerate().map(completion).collect();
        let rewards: Vec<_> = candidates.iter().map(reward).collect();
        choose(&completions, &rewards, margin)
    }

    #[test]
    fn the_best_that_is_whole_and_the_worst_of_all_become_a_pair() {
        let good = |total| (Some(total), true, true);
        let pair = |chosen, rejected, margin| {
            Ok(Choice {
                chosen,
                rejected,
                margin,
            })
        };
        assert_eq!(
            chosen(&[good(0.25), good(0.75), good(0.5)], 0.0),
            pair(1, 0, 0.5)
        );
        // Of equals the first.
        let equal = [good(0.5), good(1.0), good(1.0), good(0.5)];
        assert_eq!(chosen(&equal, 0.0), pair(1, 0, 0.5));
        // The best total was cut off, the next does not render.
        let cut = [
            (Some(1.0), true, false),
            (Some(0.9), false, true),
            good(0.5),
            good(0.25),
        ];
        assert_eq!(chosen(&cut, 0.0), pair(2, 3, 0.25));
        // What does not render may be rejected; what was not scored may not.
        let failed = [good(0.5), (Some(0.0), false, true), (None, true, true)];
        assert_eq!(chosen(&failed, 0.5), pair(0, 1, 0.5));
        assert_eq!(chosen(&failed, 0.75), Err(NoPair::Margin));
    }

    #[test]
    fn what_gives_no_pair_says_why() {
        let same = (Some(0.5), true, true);
        assert_eq!(chosen(&[same, same], 0.0), Err(NoPair::Tie));
        let bad = (Some(0.0), false, true);
        assert_eq!(chosen(&[bad, bad], 0.0), Err(NoPair::Unrenderable));
        assert_eq!(
            chosen(&[same, (None, true, true)], 0.0),
            Err(NoPair::Unscored)
        );
        // The only whole one is the worst.
        let cut = (Some(0.9), true, false);
        assert_eq!(chosen(&[same, cut], 0.0), Err(NoPair::Tie));
    }
}
