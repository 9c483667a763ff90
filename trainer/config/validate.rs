//! What types cannot say of a config: bounds, and names that must fit together.

use std::collections::HashSet;

use super::{Config, EvalConfig, GrpoStage, OptimizerConfig, Schedule, SftStage, StageConfig};

/// A violated bound: `key: rule, got value`.
type Check = Result<(), String>;

fn ensure(holds: bool, text: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(text()) }
}

fn at_least<T: PartialOrd + std::fmt::Display>(key: &str, value: T, bound: T) -> Check {
    ensure(value >= bound, || {
        format!("{key}: must be >= {bound}, got {value}")
    })
}

fn positive(key: &str, value: f64) -> Check {
    ensure(value.is_finite() && value > 0.0, || {
        format!("{key}: must be > 0, got {value}")
    })
}

fn not_negative(key: &str, value: f64) -> Check {
    ensure(value.is_finite() && value >= 0.0, || {
        format!("{key}: must be >= 0, got {value}")
    })
}

fn within(key: &str, value: f64, (low, high): (f64, f64)) -> Check {
    ensure((low..=high).contains(&value), || {
        format!("{key}: must be in [{low}, {high}], got {value}")
    })
}

impl Config {
    /// Checks every bound; the first violation as `key: rule, got value`.
    ///
    /// # Errors
    /// That sentence.
    pub fn validate(&self) -> Result<(), String> {
        let plain = |name: &str| {
            !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
        };
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
        self.rewards
            .validate()
            .map_err(|error| format!("rewards.{error}"))?;
        for (name, encoder) in &self.encoders {
            encoder
                .validate()
                .map_err(|error| format!("encoders.{name}.{error}"))?;
        }
        for (name, task) in crate::scoring(&self.tasks) {
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

    fn model(&self) -> Check {
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

    fn stage(&self, stage: &StageConfig) -> Check {
        at_least("steps", stage.steps(), 1)?;
        at_least("batch.size", stage.batch().size, 1)?;
        at_least("batch.micro_tokens", stage.batch().micro_tokens, 1)?;
        at_least("checkpoint.keep_last", stage.checkpoint().keep_last, 1)?;
        optimizer(stage.optimizer()).map_err(|error| format!("optimizer.{error}"))?;
        eval(stage.eval()).map_err(|error| format!("eval.{error}"))?;
        stage
            .curriculum()
            .check()
            .map_err(|error| format!("curriculum.{error}"))?;
        let mut drawn = HashSet::new();
        for source in &stage.curriculum().sources {
            let known: Vec<&String> = self.data.sources.keys().collect();
            ensure(self.data.sources.contains_key(source), || {
                format!("curriculum.sources: `{source}` is not in data.sources {known:?}")
            })?;
            ensure(drawn.insert(source), || {
                format!("curriculum.sources: `{source}` stands twice")
            })?;
        }
        match stage {
            StageConfig::Sft(stage) => sft(stage),
            StageConfig::Grpo(stage) => grpo(stage),
        }
    }
}

fn sft(stage: &SftStage) -> Check {
    ensure(!stage.curriculum.observes(), || {
        "curriculum.order: `observed` is for stages that score completions (algorithm: grpo); imitation has no rewards, `staged` fits here".into()
    })?;
    at_least("max_tokens", stage.max_tokens, 2)
}

fn grpo(stage: &GrpoStage) -> Check {
    let rollout = &stage.rollout;
    ensure(rollout.group_size >= 2, || {
        format!(
            "rollout.group_size: must be >= 2, got {} (advantages need siblings)",
            rollout.group_size
        )
    })?;
    at_least("rollout.max_prompt_tokens", rollout.max_prompt_tokens, 1)?;
    positive("rollout.temperature", rollout.temperature)?;
    rollout
        .sampling()
        .check()
        .map_err(|error| format!("rollout.{error}"))?;
    not_negative("advantage.epsilon", stage.advantage.epsilon)?;
    let loss = &stage.loss;
    for (key, value) in [
        ("loss.clip_low", loss.clip_low),
        ("loss.clip_high", loss.clip_high),
    ] {
        value.map_or(Ok(()), |value| not_negative(key, value))?;
    }
    loss.clip_low
        .map_or(Ok(()), |value| within("loss.clip_low", value, (0.0, 1.0)))?;
    loss.dual_clip.map_or(Ok(()), |value| {
        ensure(value > 1.0, || {
            format!("loss.dual_clip: must be > 1, got {value}")
        })
    })?;
    not_negative("loss.entropy", loss.entropy)?;
    at_least("loss.updates", loss.updates, 1)?;
    ensure(loss.updates <= stage.batch.size, || {
        format!(
            "loss.updates: must be <= batch.size {}, got {} (whole groups go to each update)",
            stage.batch.size, loss.updates
        )
    })?;
    at_least("loss.epochs", loss.epochs, 1)?;
    loss.importance_cap
        .map_or(Ok(()), |value| positive("loss.importance_cap", value))?;
    not_negative("kl.coefficient", stage.kl.coefficient)?;
    Ok(())
}

fn optimizer(config: &OptimizerConfig) -> Check {
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

fn eval(config: &EvalConfig) -> Check {
    at_least("samples", config.samples, 1)?;
    positive("temperature", config.temperature)
}
