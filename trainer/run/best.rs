//! The best evaluation of a stage so far, and how many have come since.
//!
//! All of it is read from the rows of metrics.jsonl that a continued run keeps, so that a run that was interrupted
//! knows what the one that was not knows. Only evaluations whose checkpoint is still there count as best; the one
//! before the first step is of the weights that the stage began with and is none.

use std::path::Path;

use super::evaluate::SetScores;
use crate::TrainError;
use crate::best::{NamedBest, forget_lost};
use crate::config::{BestCheckpoint, StageCommon};
use crate::metrics::{self, keys};
use crate::resume::{checkpoint_of, stage_folder};

/// Keeps score of a stage's evaluations, on rank 0.
pub(super) struct BestTracker {
    rule: BestCheckpoint,
    /// Evaluations without improvement that end the stage; 0: none do.
    stop_after: u64,
    best: Option<(u64, f64)>,
    /// Evaluations since the best one.
    since: u64,
}

impl BestTracker {
    /// Of a stage of the run in `run`, with the evaluations that its files hold.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn of(stage: &StageCommon, run: &Path) -> Result<Option<Self>, TrainError> {
        let Some(rule) = stage.checkpoint.best.clone() else {
            return Ok(None);
        };
        let folder = stage_folder(run, &stage.name);
        let mut tracker = Self {
            stop_after: stage.eval.stop_after,
            best: None,
            since: 0,
            rule,
        };
        for (step, value) in metrics::evaluations(run, &stage.name, &tracker.rule.metric)? {
            let kept = checkpoint_of(&folder, step).is_some();
            tracker.add(step, value.filter(|_| kept));
        }
        Ok(Some(tracker))
    }

    /// Whether an evaluation after `step` is better than every one before it; one that is as good is not.
    pub(super) fn observe(&mut self, step: u64, sets: &[SetScores]) -> bool {
        let set = keys::of_held_out(&self.rule.metric).map(|(set, _)| set);
        let Some(scores) = sets.iter().find(|scores| Some(scores.name) == set) else {
            return false;
        };
        let metrics = scores.metrics.iter();
        let mut named = metrics.filter(|(name, _)| *name == self.rule.metric);
        let value = named.next().map(|(_, value)| value);
        self.add(step, value.filter(|value| value.is_finite()))
    }

    fn add(&mut self, step: u64, value: Option<f64>) -> bool {
        if step == 0 {
            return false;
        }
        let better = |value: &f64| match self.best {
            Some((_, best)) => self.rule.mode.is_better(*value, best),
            None => true,
        };
        match value.filter(better) {
            Some(value) => {
                (self.best, self.since) = (Some((step, value)), 0);
                true
            }
            None => {
                self.since += u64::from(self.best.is_some());
                false
            }
        }
    }

    /// The step after which the best evaluation was.
    pub(super) fn step(&self) -> Option<u64> {
        self.best.map(|(step, _)| step)
    }

    /// Whether so many evaluations brought nothing better that the stage ends.
    pub(super) fn stops(&self) -> bool {
        self.stop_after > 0 && self.since >= self.stop_after
    }

    /// Why it ends there.
    pub(super) fn reason(&self) -> String {
        let (step, value) = self.best.unwrap_or_default();
        format!(
            "{} evaluations brought no better {} than {value:.6} after step {step} (eval.stop_after)",
            self.since, self.rule.metric
        )
    }

    /// Names the checkpoint `name`, just written after `step`, as the best one if it is.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn wrote(&self, folder: &Path, name: &str, step: u64) -> Result<(), TrainError> {
        match self.best {
            Some((best, value)) if best == step => NamedBest {
                checkpoint: name.to_owned(),
                step,
                metric: self.rule.metric.clone(),
                mode: self.rule.mode,
                value,
            }
            .write(folder),
            _ => Ok(()),
        }
    }

    /// Brings the file in a stage's `folder` to what the evaluations say, before further ones are made.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn settle(&self, folder: &Path) -> Result<(), TrainError> {
        if let Some((step, _)) = self.best
            && let Some(name) = checkpoint_of(folder, step)
        {
            return self.wrote(folder, &name, step);
        }
        forget_lost(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BestMode;
    use crate::metrics::Metrics;

    fn row(value: Option<f64>) -> Vec<SetScores> {
        let mut metrics = Metrics::new();
        metrics.set(&keys::VALID, 0.5);
        if let Some(value) = value {
            metrics.set(&keys::REWARD_MEAN, value);
        }
        let set = |name: &'static str| SetScores {
            metrics: metrics.clone().held_out(name),
            ..SetScores::none(name)
        };
        vec![set("heldout_greedy"), set("heldout")]
    }

    fn tracker(mode: BestMode, stop_after: u64) -> BestTracker {
        BestTracker {
            rule: BestCheckpoint {
                metric: "eval/heldout/reward/total/mean".into(),
                mode,
            },
            stop_after,
            best: None,
            since: 0,
        }
    }

    #[test]
    fn the_earlier_of_equals_stays_and_evaluations_without_a_value_are_no_better() {
        let mut max = tracker(BestMode::Max, 2);
        assert!(!max.observe(0, &row(Some(9.0))), "before the first step");
        assert!(max.observe(1, &row(Some(0.5))));
        assert!(!max.observe(2, &row(Some(0.5))) && !max.stops());
        assert!(max.observe(3, &row(Some(0.6))));
        assert!(!max.observe(4, &row(None)) && !max.stops());
        assert!(!max.observe(5, &row(Some(f64::NAN))) && max.stops());
        assert_eq!(max.step(), Some(3));
        assert!(max.reason().contains("0.6") && max.reason().contains("step 3"));
        let mut min = tracker(BestMode::Min, 0);
        let better: Vec<bool> = [0.4, 0.5, 0.3]
            .iter()
            .zip(1..)
            .map(|(value, step)| min.observe(step, &row(Some(*value))))
            .collect();
        assert_eq!(better, [true, false, true]);
        assert!(!min.stops());
    }
}
