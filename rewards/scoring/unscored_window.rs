//! When too many completions of the last steps could not be scored for a run to go on.

use crate::config::RewardsConfig;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The last steps' counts.
pub(crate) struct UnscoredWindow {
    /// Steps that are looked back on; 0: none.
    steps: usize,
    /// The share of their completions that is too many.
    share: f64,
    /// Completions that could not be scored, and all, of each.
    seen: Mutex<VecDeque<(usize, usize)>>,
}

impl UnscoredWindow {
    /// As the config has it.
    pub fn new(config: &RewardsConfig) -> Self {
        UnscoredWindow {
            steps: config.unscored_steps,
            share: config.unscored_share,
            seen: Mutex::default(),
        }
    }

    /// Takes a step's counts in. `Some` of those of the last steps where they are too many.
    pub fn step(&self, unscored: usize, all: usize) -> Option<(usize, usize)> {
        if self.steps == 0 {
            return None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push_back((unscored, all));
        if seen.len() > self.steps {
            seen.pop_front();
        }
        let sum = |pick: fn(&(usize, usize)) -> usize| seen.iter().map(pick).sum::<usize>();
        let (unscored, all) = (sum(|step| step.0), sum(|step| step.1));
        let full = seen.len() == self.steps;
        let many = unscored > 0 && unscored as f64 >= self.share * all as f64;
        (full && many).then_some((unscored, all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(steps: usize) -> UnscoredWindow {
        UnscoredWindow::new(&RewardsConfig {
            unscored_steps: steps,
            ..RewardsConfig::default()
        })
    }

    #[test]
    fn half_of_the_last_steps_completions_is_too_many() {
        let window = window(3);
        let steps = [8, 8, 0, 0, 3, 8, 1, 8].map(|unscored| window.step(unscored, 8));
        assert_eq!(steps[..2], [None, None], "too early to tell");
        assert_eq!(steps[2], Some((16, 24)));
        assert_eq!(steps[3..6], [None, None, None]);
        assert_eq!(steps[6..], [Some((12, 24)), Some((17, 24))]);
    }

    #[test]
    fn none_is_never_too_many_and_zero_steps_never_stop() {
        assert_eq!(window(1).step(0, 0), None);
        assert_eq!((0..9).find_map(|_| window(0).step(8, 8)), None);
    }
}
