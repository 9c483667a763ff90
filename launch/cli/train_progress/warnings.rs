//! What a run's numbers warn of, each said once: nothing that is drawn, nothing to learn from. A judge or a service that
//! fails is told of where it is asked.

use std::collections::{HashMap, HashSet};

use trainer::metrics::{Metrics, keys};

/// Steps in a row after which something is worth a word.
const STEPS: usize = 10;

/// Looks at every step's metrics.
#[derive(Debug, Default)]
pub(super) struct RunWarnings {
    said: HashSet<String>,
    /// Steps in a row of what is counted, by its name.
    streaks: HashMap<String, usize>,
}

impl RunWarnings {
    /// What is to be said after a step of `stage`.
    pub(super) fn after_step(&mut self, stage: &str, metrics: &Metrics) -> Vec<String> {
        let mut told = Vec::new();
        let none_valid = metrics.get(&keys::VALID).map(|valid| valid == 0.0);
        if self.lasts(&format!("{stage}/valid"), none_valid) {
            self.say(&format!("{stage}/valid"), &mut told, || {
                format!(
                    "no completion of the last {STEPS} steps was a valid SVG: nothing is drawn that could be rewarded (fine-tune first, allow more tokens in rollout.max_new_tokens, or look at svgrl samples)"
                )
            });
        }
        let flat = metrics.get(&keys::ZERO_SPREAD).map(|share| share == 1.0);
        if self.lasts(&format!("{stage}/spread"), flat) {
            self.say(&format!("{stage}/spread"), &mut told, || {
                format!(
                    "the completions of every group of the last {STEPS} steps have equal rewards: there is nothing to learn from (a higher temperature, larger groups, or a reward that tells completions apart)"
                )
            });
            return told;
        }
        for (name, value) in metrics.iter() {
            if keys::declared(name) != Some(&keys::REWARD_TASK_STD) {
                continue;
            }
            let task = keys::REWARD_TASK_STD.names(name).next().unwrap_or(name);
            let key = format!("{stage}/{task}");
            if self.lasts(&key, Some(value == 0.0)) {
                let mean = metrics.get_of(&keys::REWARD_TASK, &[task]);
                self.say(&key, &mut told, || {
                    format!(
                        "task {task} is dead: all rewards of the last {STEPS} steps that drew it are equal ({:.3}), and nothing is learnt from it",
                        mean.unwrap_or_default()
                    )
                });
            }
        }
        told
    }

    /// Whether it holds for the [`STEPS`]th step in a row; a step that does not tell is no step.
    fn lasts(&mut self, what: &str, holds: Option<bool>) -> bool {
        let Some(holds) = holds else {
            return false;
        };
        let streak = self.streaks.entry(what.to_owned()).or_default();
        *streak = if holds { *streak + 1 } else { 0 };
        *streak >= STEPS
    }

    fn say(&mut self, what: &str, told: &mut Vec<String>, line: impl FnOnce() -> String) {
        if self.said.insert(what.to_owned()) {
            told.push(line());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(valid: f64, flat: f64) -> Metrics {
        let mut metrics = Metrics::new();
        metrics.set(&keys::VALID, valid);
        metrics.set(&keys::ZERO_SPREAD, flat);
        metrics
    }

    #[test]
    fn each_is_said_once_and_when_it_lasts() {
        let mut warnings = RunWarnings::default();
        let mut after = |metrics: &Metrics| warnings.after_step("rl", metrics);
        // Nine steps, one that is well, nine more.
        for round in 0..2 {
            for _ in 1..STEPS {
                assert_eq!(after(&step(0.0, 1.0)), [""; 0]);
            }
            if round == 0 {
                assert_eq!(after(&step(0.5, 0.0)), [""; 0]);
            }
        }
        let told = after(&step(0.0, 1.0));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("valid SVG") && told[1].contains("equal rewards"),
            "{told:?}"
        );
        assert_eq!(after(&step(0.0, 1.0)), [""; 0]);
    }

    #[test]
    fn a_task_without_spread_is_dead_however_seldom_it_is_drawn() {
        let mut warnings = RunWarnings::default();
        let mut told = Vec::new();
        for at in 0..2 * STEPS {
            let mut metrics = step(0.5, 0.5);
            metrics.set_of(&keys::REWARD_TASK_STD, &["draw"], 0.1);
            if at % 2 == 0 {
                metrics.set_of(&keys::REWARD_TASK, &["edit"], -1.0);
                metrics.set_of(&keys::REWARD_TASK_STD, &["edit"], 0.0);
            }
            told.extend(warnings.after_step("rl", &metrics));
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("task edit is dead") && told[0].contains("-1.000"),
            "{told:?}"
        );
    }
}
