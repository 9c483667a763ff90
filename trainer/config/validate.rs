//! What types cannot say of a config: bounds, and names that must fit together.

use std::collections::HashSet;

use models::{Component, LoraConfig};
use rewards::RewardConfig;

use super::bounds::{BoundResult, at_least, ensure, not_negative, positive, within};
use super::{Config, EvalConfig, OptimizerConfig, PairsConfig, Schedule, StageConfig, scoring};

impl Config {
    /// Checks every bound; the first violation as `key: rule, got value`.
    ///
    /// # Errors
    /// That sentence.
    pub fn validate(&self) -> Result<(), String> {
        let plain = |name: &str| {
            !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
        };
        ensure(self.base.is_none(), || {
            "base: is taken in where a file is read".into()
        })?;
        ensure(plain(&self.name), || {
            format!("name: must be a folder's name, got `{}`", self.name)
        })?;
        ensure(!self.stages.is_empty(), || {
            "stages: at least one stage is needed".into()
        })?;
        ensure(!self.data.sources.is_empty(), || {
            "data.sources: at least one source is needed".into()
        })?;
        ensure(!self.tasks.is_empty(), || {
            "tasks: at least one task is needed".into()
        })?;
        self.device.check()?;
        self.model()?;
        not_negative("peak_tflops", self.peak_tflops)?;
        not_negative("grace_s", self.grace_s)?;
        at_least("ranks.timeout_s", self.ranks.timeout_s as usize, 1)?;
        let stage = self.sharding.stage;
        ensure(stage <= 3, || {
            format!("sharding.stage: must be 0, 1, 2 or 3, got {stage}")
        })?;
        self.rewards
            .validate()
            .map_err(|error| format!("rewards.{error}"))?;
        for (name, encoder) in &self.encoders {
            encoder
                .validate()
                .map_err(|error| format!("encoders.{name}.{error}"))?;
        }
        for (name, task) in scoring(&self.tasks) {
            ensure(name != "total", || {
                "tasks.total: the name is reserved for metrics".into()
            })?;
            task.validate()
                .map_err(|error| format!("tasks.{name}.{error}"))?;
            for (key, rule) in task.rules() {
                let Some(encoder) = rule.encoder_name() else {
                    continue;
                };
                let known: Vec<&String> = self.encoders.keys().collect();
                ensure(self.encoders.contains_key(encoder), || {
                    format!("tasks.{name}.{key}.encoder: `{encoder}` is not in encoders {known:?}")
                })?;
            }
        }
        for (name, source) in &self.data.sources {
            if let Some(task) = source.task() {
                let known: Vec<&String> = self.tasks.keys().collect();
                ensure(self.tasks.contains_key(task), || {
                    format!("data.sources.{name}.task: `{task}` is not in tasks {known:?}")
                })?;
            }
        }
        let mut names = HashSet::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let name = stage.name();
            ensure(plain(name), || {
                format!("stages.{index}.name: must be a folder's name, got `{name}`")
            })?;
            ensure(names.insert(name), || {
                format!("stages.{index}.name: `{name}` is used twice")
            })?;
            self.stage(stage)
                .map_err(|error| format!("stages.{index}.{error}"))?;
        }
        Ok(())
    }

    fn model(&self) -> BoundResult {
        if self.model.extend_tokens.is_some() {
            ensure(self.model.path.is_some(), || {
                "model.extend_tokens: adds tokens to the folder `path`; a fresh network (`init`) has no rows to make theirs from: train it with a tokenizer that has them".into()
            })?;
            ensure(self.model.tokenizer.is_none(), || {
                "model.extend_tokens: extends the tokenizer within `path`; leave `tokenizer` out, or copy its files there".into()
            })?;
        }
        match (&self.model.path, &self.model.init) {
            (None, None) => Err(
                "model: either `path` (a Hugging Face folder) or `init` (a shape) is needed".into(),
            ),
            (Some(_), Some(_)) => Err("model: `path` and `init` exclude each other".into()),
            (None, Some(_)) if self.model.tokenizer.is_none() => {
                Err("model.tokenizer: a fresh network (`init`) needs a tokenizer folder".into())
            }
            (None, Some(init)) => init.check().map_err(|error| format!("model.init.{error}")),
            (Some(_), None) => Ok(()),
        }
    }

    fn stage(&self, stage: &StageConfig) -> BoundResult {
        let common = &stage.common;
        match common.epochs {
            Some(epochs) => positive("epochs", epochs)?,
            None => at_least("steps", common.steps, 1)?,
        }
        at_least("batch.size", common.batch.size, 1)?;
        at_least("batch.micro_tokens", common.batch.micro_tokens, 1)?;
        at_least("checkpoint.keep_last", common.checkpoint.keep_last, 1)?;
        optimizer(&common.optimizer).map_err(|error| format!("optimizer.{error}"))?;
        self.eval(&common.eval)
            .map_err(|error| format!("eval.{error}"))?;
        common
            .lora
            .as_ref()
            .map_or(Ok(()), |lora| self.lora(lora))?;
        common
            .curriculum
            .check()
            .map_err(|error| format!("curriculum.{error}"))?;
        let mut drawn = HashSet::new();
        for source in &common.curriculum.sources {
            let known: Vec<&String> = self.data.sources.keys().collect();
            ensure(self.data.sources.contains_key(source), || {
                format!("curriculum.sources: `{source}` is not in data.sources {known:?}")
            })?;
            ensure(drawn.insert(source), || {
                format!("curriculum.sources: `{source}` stands twice")
            })?;
        }
        self.check_best(stage)?;
        stage.algorithm.options().check(common)?;
        self.pairs(stage).map_err(|error| format!("pairs.{error}"))
    }

    fn eval(&self, config: &EvalConfig) -> BoundResult {
        at_least("samples", config.samples, 1)?;
        positive("temperature", config.temperature)?;
        let known: Vec<&String> = self.tasks.keys().collect();
        if let Some(task) = &config.rubric {
            ensure(self.tasks.contains_key(task), || {
                format!("rubric: `{task}` is not in tasks {known:?}")
            })?;
        }
        match &config.suite {
            Some(suite) => suite
                .check(&known)
                .map_err(|error| format!("suite.{error}")),
            None => Ok(()),
        }
    }

    /// Bounds of adapters, and parts that are to stay as they are and to get adapters.
    fn lora(&self, lora: &LoraConfig) -> BoundResult {
        lora.check().map_err(|error| format!("lora.{error}"))?;
        let frozen = |part: Component| self.model.freeze.contains(&part);
        ensure(!frozen(Component::Decoder), || {
            "lora: the decoder's adapters learn, and model.freeze says that the decoder stays as it is: take `decoder` out of model.freeze (the weights beside adapters never learn)".into()
        })?;
        let seeing = frozen(Component::Vision) || frozen(Component::Projector);
        ensure(!(lora.vision && seeing), || {
            "lora.vision: tower and projector get adapters, and model.freeze says that they stay as they are: take `vision` and `projector` out of model.freeze (the weights beside adapters never learn), or set lora.vision to false".into()
        })
    }

    /// Checks the bounds of a making of pairs, and the name of what scores it.
    ///
    /// # Errors
    /// `key: rule, got value`.
    pub fn check_pairs(&self, pairs: &PairsConfig) -> Result<(), String> {
        pairs.check()?;
        let Some(task) = &pairs.rubric else {
            return Ok(());
        };
        let known: Vec<&String> = self.tasks.keys().collect();
        ensure(self.tasks.contains_key(task), || {
            format!("rubric: `{task}` is not in tasks {known:?}")
        })
    }

    /// What scores the pairs that a stage makes.
    fn pairs(&self, stage: &StageConfig) -> BoundResult {
        let Some(pairs) = stage.algorithm.options().pairs() else {
            return Ok(());
        };
        self.check_pairs(pairs)?;
        if pairs.judge.is_some() {
            ensure(self.rewards.services().is_empty(), || {
                "judge: with rewards.endpoint the service scores by its own tasks; name one of them as rubric".into()
            })?;
            // By the judge's own rules, whether it is asked as a reward or not.
            for mut scoring in self.judged_pairs(stage).into_values() {
                scoring.rubric.rewards = pairs
                    .judge
                    .clone()
                    .map(RewardConfig::Judge)
                    .into_iter()
                    .collect();
                scoring.validate().map_err(|error| {
                    match error.strip_prefix("rubric.rewards.0.") {
                        Some(own) => format!("judge.{own}"),
                        None => error,
                    }
                })?;
            }
        }
        Ok(())
    }
}

fn optimizer(config: &OptimizerConfig) -> BoundResult {
    positive("learning_rate", config.learning_rate)?;
    for (key, beta) in [("beta1", config.beta1), ("beta2", config.beta2)] {
        ensure((0.0..1.0).contains(&beta), || {
            format!("{key}: must be in [0, 1), got {beta}")
        })?;
    }
    positive("epsilon", config.epsilon)?;
    not_negative("weight_decay", config.weight_decay)?;
    config
        .clip_norm
        .map_or(Ok(()), |value| positive("clip_norm", value))?;
    not_negative("warmup", config.warmup)?;
    match config.schedule {
        Schedule::Constant {} => Ok(()),
        Schedule::Cosine { floor } => within("schedule.floor", floor, (0.0, 1.0)),
        Schedule::Step { every, factor } => {
            at_least("schedule.every", every, 1)?;
            ensure(factor > 0.0 && factor <= 1.0, || {
                format!("schedule.factor: must be in (0, 1], got {factor}")
            })
        }
    }
}
