//! The policy that a stage begins or goes on with: from a folder, with adapters where the stage asks for them.
//!
//! Adapters stand beside the weights of a plain folder, which their checkpoints name. Where a stage with adapters begins
//! from none (a fresh network, or an adapter that is merged first), that folder is written once as RUN/lora_base/STAGE.

use std::fs;
use std::path::{Path, PathBuf};

use models::{Decoder, LoraConfig, copy_aux_files, is_adapter, save_weights};

use super::Run;
use crate::agreement::decide;
use crate::files::{make_folder, sync_folder};
use crate::resume::lora_base;
use crate::{TrainError, files};

/// Tells the seed of adapters from a stage's other seeds.
const ADAPTERS: u64 = 0x6c6f_7261;

impl Run<'_> {
    /// The policy that stage `index` trains: as `weights`, a checkpoint, left it, or the run's first one. `here` says
    /// that the checkpoint is of the stage itself.
    pub(super) fn policy(
        &self,
        index: usize,
        weights: Option<&Path>,
        here: bool,
    ) -> Result<Decoder, TrainError> {
        let stage = &self.config.stages[index];
        let Some(lora) = &stage.common.lora else {
            return self.model(weights);
        };
        let folder = match weights.filter(|_| here) {
            Some(checkpoint) => checkpoint.to_owned(),
            None => self.base(index, weights)?,
        };
        let stage_seed = rollout::mix(self.config.seed, index as u64 + 1);
        let adapters: (&LoraConfig, u64) = (lora, rollout::mix(stage_seed, ADAPTERS));
        let place = (self.config.dtype.kind(), self.options.device);
        let model = self.config.model.adapted(&folder, adapters, place);
        let model = model.map_err(|error| {
            let error = TrainError::from(error);
            match error.is_input() {
                true => TrainError::Input(format!("stages.{}: {error}", stage.name())),
                false => error,
            }
        })?;
        self.checked(model)
    }

    /// The policy from a checkpoint, or the run's first one; adapters are merged.
    pub(super) fn model(&self, weights: Option<&Path>) -> Result<Decoder, TrainError> {
        let place = (self.config.dtype.kind(), self.options.device);
        let tokenizer = self.builder.tokenizer();
        self.checked(match weights {
            Some(folder) => self.config.model.reload(folder, place)?,
            None => self.config.model.load(self.config.seed, tokenizer, place)?,
        })
    }

    fn checked(&self, model: Decoder) -> Result<Decoder, TrainError> {
        let tokenizer = self.builder.tokenizer();
        let rows = model.config.vocab_size;
        if rows < tokenizer.len() as i64 {
            return Err(TrainError::Input(format!(
                "model: {} embedding rows for a tokenizer of {} ids",
                model.config.vocab_size,
                tokenizer.len()
            )));
        }
        if let Some(id) = tokenizer.eos().iter().find(|id| **id >= rows) {
            return Err(TrainError::Input(format!(
                "model: eos_token_id {id} (generation_config.json, config.json) is none of the {rows} embedding rows"
            )));
        }
        Ok(model)
    }

    /// The plain folder that the adapters of stage `index` stand beside.
    fn base(&self, index: usize, weights: Option<&Path>) -> Result<PathBuf, TrainError> {
        let from = weights.or(self.config.model.path.as_deref());
        if let Some(plain) = from.filter(|folder| !is_adapter(folder)) {
            return Ok(plain.to_owned());
        }
        let name = self.config.stages[index].name();
        let folder = lora_base(self.options.folder, name);
        decide(&self.ranks, || self.write_base(&folder, weights))?;
        Ok(folder)
    }

    /// Writes the policy as a plain folder, whole, in place of one that is there.
    fn write_base(&self, folder: &Path, weights: Option<&Path>) -> Result<(), TrainError> {
        let parent = files::parent(folder);
        make_folder(parent)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let aside = parent.join(format!(".{name}.partial"));
        let gone = |path: &Path| match path.exists() {
            true => fs::remove_dir_all(path).map_err(TrainError::io(path)),
            false => Ok(()),
        };
        gone(&aside)?;
        // A disk that is full is nobody's input.
        let failed = |error: models::ModelError| TrainError::Other(error.to_string());
        let model = self.model(weights)?;
        save_weights(&model, model.kind(), &aside).map_err(failed)?;
        self.builder.tokenizer().export(&aside).map_err(failed)?;
        let origins = [weights, self.config.model.path.as_deref()];
        for origin in origins.into_iter().flatten() {
            copy_aux_files(origin, &aside).map_err(failed)?;
        }
        sync_folder(&aside).map_err(TrainError::io(&aside))?;
        gone(folder)?;
        fs::rename(&aside, folder).map_err(TrainError::io(folder))?;
        sync_folder(parent).map_err(TrainError::io(parent))
    }
}
