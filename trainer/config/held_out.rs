//! The held-out metrics that a stage's evaluations write, so that a name is checked before hours of training.

use super::bounds::{BoundResult, ensure};
use super::{Config, StageConfig};
use crate::config_check::nearest;
use crate::metrics::keys;

impl Config {
    /// Whether `checkpoint.best` of a stage names a metric that its evaluations write, and `eval.stop_after` has one.
    pub(super) fn check_best(&self, stage: &StageConfig) -> BoundResult {
        let common = &stage.common;
        let Some(best) = &common.checkpoint.best else {
            return ensure(common.eval.stop_after == 0, || {
                format!(
                    "eval.stop_after: must be 0 without checkpoint.best, whose metric says what is better, got {}",
                    common.eval.stop_after
                )
            });
        };
        ensure(common.eval.evaluates(), || {
            "checkpoint.best: nothing is evaluated (eval.prompts is 0)".into()
        })?;
        // What a suite measures is known when its folder is read, before the first step.
        let set = keys::of_held_out(&best.metric).map(|(set, _)| set);
        let suite = common.eval.suite.as_ref();
        if suite.is_some_and(|suite| Some(suite.name.name()) == set) {
            return Ok(());
        }
        let names = self.held_out_metrics(stage);
        ensure(!names.is_empty(), || {
            "checkpoint.best: no source of the stage holds rows out (data.sources.NAME.held_out)"
                .into()
        })?;
        ensure(names.contains(&best.metric), || {
            let known = names.iter().map(String::as_str);
            let near = nearest(&best.metric, known).map_or_else(
                || format!("they are {}", names.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            format!(
                "checkpoint.best.metric: the stage's evaluations write no `{}`; {near}",
                best.metric
            )
        })
    }

    /// Every name that the rows of a stage's evaluations may have.
    fn held_out_metrics(&self, stage: &StageConfig) -> Vec<String> {
        let sources = &stage.common.curriculum.sources;
        let used = self.data.sources.iter().filter(|(name, source)| {
            source.holds_out() && (sources.is_empty() || sources.contains(name))
        });
        let first = self.tasks.keys().next().map(String::as_str);
        let other = stage.common.eval.rubric.as_deref();
        let asked: Vec<&str> = used
            .filter_map(|(_, source)| other.or(source.task()).or(first))
            .collect();
        let mut names: Vec<String> = Vec::new();
        for (name, task) in &self.tasks {
            if !asked.contains(&name.as_str()) {
                continue;
            }
            let task_name = name.as_str();
            names.push(keys::REWARD_TASK.of(&[task_name]));
            for rule in task.rubric.iter().flat_map(|rubric| &rubric.rewards) {
                let part = rule.common().name;
                names.push(keys::REWARD_PART.of(&[part]));
                names.push(keys::REWARD_TASK_PART.of(&[task_name, part]));
            }
            for rule in task.metrics.iter().flatten() {
                let metric = rule.common().name;
                names.push(keys::METRIC.of(&[metric]));
                names.push(keys::METRIC_TASK.of(&[task_name, metric]));
            }
            if task.draws() {
                names.push(keys::VALID.name.to_owned());
                names.push(keys::VALID_TASK.of(&[task_name]));
            }
        }
        if !names.is_empty() {
            let always = [
                &keys::REWARD_MEAN,
                &keys::REWARD_STD,
                &keys::UNSCORED,
                &keys::DEADLINE_HITS,
                &keys::RENDER_MS,
                &keys::TOKENS_MEAN,
                &keys::TOKENS_MAX,
                &keys::TRUNCATED,
            ];
            names.extend(always.map(|metric| metric.name.to_owned()));
        }
        let sets = stage.common.eval.sets().into_iter();
        sets.flat_map(|set| names.iter().map(move |name| keys::held_out(set, name)))
            .collect()
    }
}
