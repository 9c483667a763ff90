//! Paths of a config are relative to its folder; here they are made independent of it.

use std::path::{Path, PathBuf};

use models::{FolderUse, folder_problem};

use super::{Config, metrics};

impl Config {
    /// Joins every relative path with `folder`, the config file's. `output_dir` stays: it is
    /// relative to the working directory.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let join = |path: &mut PathBuf| *path = folder.join(&*path);
        self.model.path.iter_mut().for_each(join);
        self.model.tokenizer.iter_mut().for_each(join);
        self.rewards.remote.token_file.iter_mut().for_each(join);
        self.rewards.service.images.values_mut().for_each(join);
        for encoder in self.encoders.values_mut() {
            if encoder.init.is_none() {
                join(&mut encoder.path);
            }
        }
        for task in self.tasks.values_mut() {
            task.templates_file.iter_mut().for_each(join);
            let rewards = task
                .rubric
                .iter_mut()
                .flat_map(|rubric| &mut rubric.rewards);
            let rules = rewards.chain(task.metrics.iter_mut().flatten());
            rules.for_each(|rule| rule.resolve_paths(&folder));
        }
        for source in self.data.sources.values_mut() {
            if let Some(file) = source.file_mut() {
                join(&mut file.path);
                file.media_root.iter_mut().for_each(join);
            }
        }
    }

    /// Whether the folders of policy and tokenizer are there and look like what they are wanted for;
    /// asked before [`Self::resolve_paths`], so that the answer says what the config says.
    ///
    /// # Errors
    /// `key: problem`, with what to do.
    pub fn check_policy(&self, folder: &Path) -> Result<(), String> {
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
                && let Some(problem) = folder_problem(path, &folder.join(path), wanted)
            {
                return Err(format!("{key}: {problem}"));
            }
        }
        if let (Some(path), None) = (&self.model.path, &self.model.tokenizer)
            && let Some(problem) = folder_problem(path, &folder.join(path), FolderUse::Tokenizer)
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
    pub fn check_encoders(&self, folder: &Path) -> Result<(), String> {
        for (name, encoder) in &self.encoders {
            let path = &encoder.path;
            if encoder.init.is_none()
                && let Some(problem) = folder_problem(path, &folder.join(path), FolderUse::Encoder)
            {
                return Err(format!("encoders.{name}.path: {problem}"));
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
