//! What is evaluated at a stage's times: its held-out prompts, and its benchmark.

use rollout::data::Example;

use super::Run;
use super::evaluate::{Evaluation, SetScores, sampling};
use super::output::RunOutput;
use super::suite_eval::SuiteEvaluation;
use super::workers::StageWorkers;
use crate::TrainError;
use crate::config::{StageConfig, StageSuite};
use crate::learn::PhaseKind;
use crate::metrics::keys;
use crate::samples::StepId;

impl Run<'_> {
    /// Evaluates and writes the rows; `None` when a signal cut it short and nothing is written.
    pub(super) fn evaluate(
        &self,
        output: &mut RunOutput,
        stage: &StageConfig,
        workers: &mut StageWorkers,
        examples: &[Example],
        step: u64,
    ) -> Result<Option<Vec<SetScores>>, TrainError> {
        let id = StepId {
            stage: stage.name().to_owned(),
            step,
            policy_version: workers.learner.optimizer.updates,
        };
        let mut sets = Vec::new();
        let settled = workers.settle(&self.scorer, &self.options.interrupt)?;
        if self.ranks.any(!settled)? {
            return Ok(None);
        }
        if !examples.is_empty() {
            let evaluation = Evaluation {
                config: &stage.common.eval,
                sampling: sampling(stage),
                examples,
                builder: &self.builder,
                tasks: &self.config.tasks,
                scorer: &self.scorer,
                seed: self.config.seed,
                ranks: &self.ranks,
                interrupt: &self.options.interrupt,
            };
            self.ranks.enter_phase(
                PhaseKind::Evaluation,
                &format!("{} evaluation", stage.name()),
            )?;
            let shares = workers.engine.capabilities().shares_weights;
            let whole = shares.then(|| workers.learner.whole()).transpose()?;
            let made = evaluation.run(workers.engine.as_mut(), &id)?;
            drop(whole);
            // Nobody learns from what was encoded for it.
            workers.learner.images.clear();
            let Some(made) = made else {
                return Ok(None);
            };
            sets.extend(made);
        }
        if let Some(suite) = &stage.common.eval.suite {
            let Some(made) = self.suite(output, (stage, suite), workers, &id)? else {
                return Ok(None);
            };
            sets.push(made);
        }
        if !sets.is_empty() {
            output.evaluation(&stage.common, step, &sets)?;
        }
        Ok(Some(sets))
    }

    /// The stage's benchmark; `None` when a signal cut it short.
    fn suite(
        &self,
        output: &mut RunOutput,
        (stage, suite): (&StageConfig, &StageSuite),
        workers: &mut StageWorkers,
        id: &StepId,
    ) -> Result<Option<SetScores>, TrainError> {
        // How long networks and a judge take is not known from the evaluation before.
        let name = suite.name.name();
        self.ranks
            .enter_phase(PhaseKind::Once, &format!("{} {name}", stage.name()))?;
        let stage_sampling = sampling(stage);
        let evaluation = SuiteEvaluation {
            suite,
            builder: &self.builder,
            stops: (stage_sampling.stop, stage_sampling.include_stop),
            seed: self.config.seed,
            world: (&self.ranks, &self.options.interrupt),
            pictures: stage.common.eval.pictures,
        };
        let shares = workers.engine.capabilities().shares_weights;
        let whole = shares.then(|| workers.learner.whole()).transpose()?;
        let made = evaluation.run(workers.engine.as_mut(), id)?;
        drop(whole);
        workers.learner.images.clear();
        let Some(made) = made else {
            return Ok(None);
        };
        if !std::mem::replace(&mut workers.suite_told, true) {
            for note in &made.notes {
                output.observer.notice(&format!("{name}: {note}"));
            }
        }
        let wanted = stage.common.checkpoint.best.as_ref();
        let wanted =
            wanted.filter(|best| keys::of_held_out(&best.metric).map(|(set, _)| set) == Some(name));
        if let (Some(best), true) = (wanted, self.ranks.is_leader())
            && !made.set.metrics.iter().any(|(own, _)| own == best.metric)
        {
            let known: Vec<&str> = made.set.metrics.iter().map(|(own, _)| own).collect();
            return Err(TrainError::Input(format!(
                "stages.{}.checkpoint.best.metric: {name} writes no `{}`; it writes {}",
                stage.name(),
                best.metric,
                known.join(", ")
            )));
        }
        Ok(Some(made.set))
    }
}
