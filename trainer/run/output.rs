//! What a run writes as it goes: metrics, samples, held-out evaluations, checkpoints.

use rollout::Sampling;
use rollout::data::{Cursor, Example};
use tch::Device;

use crate::TrainError;
use crate::checkpoint::{Checkpoint, Contents, State, remove};
use crate::config::StageConfig;
use crate::eval::Evaluation;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::run::{Progress, Run};
use crate::samples::{self, Place, SampleRow};

impl Run<'_> {
    pub(crate) fn record(
        &mut self,
        stage: &StageConfig,
        learner: &Learner,
        progress: &Progress,
        mut metrics: Metrics,
        rows: &[SampleRow],
    ) -> Result<(), TrainError> {
        metrics.insert(
            "perf/peak_memory_gib".into(),
            peak_memory_gib(learner.device()),
        );
        metrics.insert("progress/step".into(), progress.step as f64);
        metrics.insert("progress/prompts".into(), progress.prompts as f64);
        metrics.insert("progress/tokens".into(), progress.tokens as f64);
        if metrics
            .get("optim/skipped")
            .is_some_and(|skipped| *skipped > 0.0)
        {
            self.observer.notice(&format!(
                "{} step {}: an update was refused: loss or gradient is not finite",
                stage.name(),
                progress.step
            ));
        }
        let Some(file) = &mut self.metrics else {
            return Ok(());
        };
        if let StageConfig::Grpo(grpo) = stage
            && due(progress.step, grpo.samples.every)
        {
            samples::write(self.options.folder, stage.name(), progress.step, rows)?;
        }
        file.write(stage.name(), progress.step, &metrics)?;
        self.observer.row(stage, progress.step, &metrics);
        Ok(())
    }

    /// Evaluates and writes the rows; false when a signal cut it short and nothing is written.
    pub(crate) fn evaluate(
        &mut self,
        stage: &StageConfig,
        learner: &Learner,
        examples: &[Example],
        progress: &Progress,
    ) -> Result<bool, TrainError> {
        if examples.is_empty() {
            return Ok(true);
        }
        let (sampling, slots) = match stage {
            StageConfig::Grpo(grpo) => (grpo.rollout.sampling(), grpo.rollout.slots),
            StageConfig::Sft(_) => (Sampling::default(), 0),
        };
        let config = stage.eval();
        let longest = if config.max_new_tokens > 0 {
            config.max_new_tokens
        } else {
            sampling.max_new_tokens
        };
        let evaluation = Evaluation {
            config,
            sampling: Sampling {
                max_new_tokens: longest,
                ..sampling
            },
            examples,
            prompts: &self.prompts,
            scorer: &self.scorer,
            seed: (self.config.seed, slots),
            interrupt: &self.interrupt,
        };
        let place = Place {
            stage: stage.name(),
            step: progress.step,
            policy_version: learner.optimizer.updates,
        };
        learner
            .group
            .enter_phase(&format!("{} evaluation", stage.name()));
        let Some(sets) = evaluation.run(learner, &place)? else {
            return Ok(false);
        };
        let Some(file) = &mut self.metrics else {
            return Ok(true);
        };
        for metrics in sets {
            file.write(stage.name(), progress.step, &metrics)?;
            self.observer.row(stage, progress.step, &metrics);
        }
        Ok(true)
    }

    pub(crate) fn checkpoint(
        &mut self,
        stage: &StageConfig,
        learner: &Learner,
        cursor: &Cursor,
        progress: &Progress,
        name: &str,
    ) -> Result<(), TrainError> {
        learner
            .group
            .enter_phase(&format!("{} checkpoint", stage.name()));
        if learner.group.rank() == 0 {
            let state = State {
                stage: stage.name().to_owned(),
                stage_index: progress.index,
                step: progress.step,
                evaluation_owed: progress.evaluation_owed,
                updates: learner.optimizer.updates,
                cursor: cursor.state(),
                tokens: progress.tokens,
                world_size: learner.group.size(),
                threads: self.options.threads,
            };
            let contents = Contents {
                model: &learner.model,
                optimizer: &learner.optimizer,
                tokenizer: self.prompts.tokenizer(),
                origin: self.config.model.path.as_deref(),
            };
            Checkpoint::write(&self.folder(stage).join(name), &contents, &state)?;
            self.prune(stage)?;
            self.observer.checkpoint(self.options.folder);
        }
        Ok(learner.group.barrier()?)
    }

    /// Removes the stage's older checkpoints beyond those that are to be kept.
    fn prune(&self, stage: &StageConfig) -> Result<(), TrainError> {
        let folder = self.folder(stage);
        let entries = std::fs::read_dir(&folder).map_err(TrainError::io(&folder))?;
        let mut steps: Vec<u64> = entries
            .flatten()
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_string_lossy()
                    .strip_prefix("step_")?
                    .parse()
                    .ok()
            })
            .collect();
        steps.sort_unstable();
        let keep = stage.checkpoint();
        let old = steps.len().saturating_sub(keep.keep_last);
        for step in steps
            .into_iter()
            .take(old)
            .filter(|step| !due(*step, keep.keep_every))
        {
            remove(&folder.join(format!("step_{step:06}")))?;
        }
        Ok(())
    }
}

pub(crate) fn due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}

/// The largest memory so far: the GPU allocator's, or this process's resident set.
pub fn peak_memory_gib(device: Device) -> f64 {
    const GIB: f64 = (1u64 << 30) as f64;
    if let Ok(Some(stats)) = torch_ext::memory_stats(device) {
        return stats.peak_allocated as f64 / GIB;
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0.0) * 1024.0 / GIB
}
