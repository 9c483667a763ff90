//! Paths of a config are relative to its folder; here they are made independent of it.

use std::path::{Path, PathBuf};

use models::{FolderUse, folder_problem};

use super::{AlgorithmConfig, Config, metrics};

/// The folder that the path at a dotted key is relative to.
pub type FolderOf<'a> = dyn Fn(&str) -> &'a Path + 'a;

impl Config {
    /// Joins every relative path with `folder`, the config file's. `output_dir` stays: it is
    /// relative to the working directory.
    pub fn resolve_paths(&mut self, folder: &Path) {
        self.resolve_paths_by(&|_| folder);
    }

    /// [`Self::resolve_paths`] of a config whose keys come from files of several folders.
    pub fn resolve_paths_by(&mut self, folder_of: &FolderOf) {
        let folder = |key: &str| {
            let folder = folder_of(key);
            std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
        };
        let join = |key: &str, path: &mut PathBuf| *path = folder(key).join(&*path);
        let optional = |key: &str, path: &mut Option<PathBuf>| {
            path.iter_mut().for_each(|path| join(key, path));
        };
        optional("model.path", &mut self.model.path);
        optional("model.tokenizer", &mut self.model.tokenizer);
        let remote = &mut self.rewards.remote;
        optional("rewards.remote.token_file", &mut remote.token_file);
        for (name, path) in &mut self.rewards.service.images {
            join(&format!("rewards.service.images.{name}"), path);
        }
        for (name, encoder) in &mut self.encoders {
            if encoder.init.is_none() {
                join(&format!("encoders.{name}.path"), &mut encoder.path);
            }
        }
        for (name, task) in &mut self.tasks {
            let key = format!("tasks.{name}");
            optional(&format!("{key}.templates_file"), &mut task.templates_file);
            let rubric = task.rubric.iter_mut();
            let rewards = rubric.flat_map(|rubric| &mut rubric.rewards).enumerate();
            let rewards = rewards.map(|(at, rule)| (format!("{key}.rubric.rewards.{at}"), rule));
            let metrics = task.metrics.iter_mut().flatten().enumerate();
            let metrics = metrics.map(|(at, rule)| (format!("{key}.metrics.{at}"), rule));
            for (key, rule) in rewards.chain(metrics) {
                rule.resolve_paths(&folder(&format!("{key}.path")));
            }
        }
        for (at, stage) in self.stages.iter_mut().enumerate() {
            let (key, rollout) = match &mut stage.algorithm {
                AlgorithmConfig::Sft(_) => ("", None),
                AlgorithmConfig::Grpo(options) => ("rollout", Some(&mut options.rollout)),
                AlgorithmConfig::Dpo(options) => {
                    let pairs = options.pairs.as_mut();
                    ("pairs.rollout", pairs.map(|pairs| &mut pairs.rollout))
                }
            };
            if let Some(rollout) = rollout {
                let key = format!("stages.{at}.{key}.servers");
                let servers = &mut rollout.servers;
                optional(&format!("{key}.token_file"), &mut servers.token_file);
                optional(&format!("{key}.weights"), &mut servers.weights);
            }
            let suite = stage.common.eval.suite.iter_mut();
            for (key, path) in suite.flat_map(|suite| suite.with.paths()) {
                join(&format!("stages.{at}.eval.suite.with.{key}"), path);
            }
        }
        for (name, source) in &mut self.data.sources {
            if let Some(file) = source.file_mut() {
                join(&format!("data.sources.{name}.path"), &mut file.path);
                let key = format!("data.sources.{name}.media_root");
                optional(&key, &mut file.media_root);
            }
        }
    }

    /// [`Self::check_policy`] of the folders of suites.
    ///
    /// # Errors
    /// `key: problem`.
    pub fn check_suites(&self, folder_of: &FolderOf) -> Result<(), String> {
        for (at, stage) in self.stages.iter().enumerate() {
            let Some(suite) = &stage.common.eval.suite else {
                continue;
            };
            let key = format!("stages.{at}.eval.suite.with.data");
            let data = &suite.with.data;
            if !folder_of(&key).join(data).exists() {
                return Err(format!("{key}: {}: no such folder", data.display()));
            }
        }
        Ok(())
    }

    /// Whether the folders of policy and tokenizer are there and look like what they are wanted for;
    /// asked before [`Self::resolve_paths`], so that the answer says what the config says.
    ///
    /// # Errors
    /// `key: problem`, with what to do.
    pub fn check_policy(&self, folder_of: &FolderOf) -> Result<(), String> {
        let model = [
            ("model.path", &self.model.path, FolderUse::Policy),
            (
                "model.tokenizer",
                &self.model.tokenizer,
                FolderUse::Tokenizer,
            ),
        ];
        for (key, path, wanted) in model {
            if let Some(path) = path
                && let Some(problem) = folder_problem(path, &folder_of(key).join(path), wanted)
            {
                return Err(format!("{key}: {problem}"));
            }
        }
        if let (Some(path), None) = (&self.model.path, &self.model.tokenizer)
            && let Some(problem) = folder_problem(
                path,
                &folder_of("model.path").join(path),
                FolderUse::Tokenizer,
            )
        {
            return Err(format!(
                "model.path: {problem}, or name a folder as model.tokenizer"
            ));
        }
        Ok(())
    }

    /// [`Self::check_policy`] of the encoders' folders.
    ///
    /// # Errors
    /// `key: problem`, with what to do.
    pub fn check_encoders(&self, folder_of: &FolderOf) -> Result<(), String> {
        for (name, encoder) in &self.encoders {
            let (key, path) = (format!("encoders.{name}.path"), &encoder.path);
            if encoder.init.is_none()
                && let Some(problem) =
                    folder_problem(path, &folder_of(&key).join(path), FolderUse::Encoder)
            {
                return Err(format!("{key}: {problem}"));
            }
        }
        Ok(())
    }

    /// Fills in what task types bring and the tasks do not say.
    ///
    /// # Errors
    /// `key: problem` of a template file.
    pub fn settle(&mut self) -> Result<(), String> {
        for (name, task) in &mut self.tasks {
            task.settle()
                .map_err(|error| format!("tasks.{name}.{error}"))?;
        }
        metrics::settle(&mut self.tasks);
        Ok(())
    }
}
