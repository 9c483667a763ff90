//! `generation_config.json` of a Hugging Face folder: only what ends a completion. How to sample is
//! the command's and the config's to say.

use std::path::Path;

use serde_json::Value;

use crate::ModelError;
use crate::json_section::read_object;
use crate::lora::{adapter_base, is_adapter};

/// What `generation_config.json` says: only the ids that end a completion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GenerationConfig {
    /// Ids after which a completion has ended.
    pub eos: Vec<i64>,
}

impl GenerationConfig {
    /// Reads the end-of-sequence ids of `folder`: generation_config.json's if it names any, else
    /// config.json's, and of an adapter the same of its base.
    ///
    /// # Errors
    /// A malformed file or an id that is no integer.
    pub fn read(folder: &Path) -> Result<Self, ModelError> {
        // An adapter that has neither goes with its base's.
        let base = is_adapter(folder)
            .then(|| adapter_base(folder).ok())
            .flatten();
        let folders = std::iter::once(folder.to_owned()).chain(base);
        let files = ["generation_config.json", "config.json"];
        let files = folders.flat_map(|folder| files.map(|name| folder.join(name)));
        for path in files {
            if !path.exists() {
                continue;
            }
            let map = read_object(&path)?;
            let ids = match map.get("eos_token_id") {
                None | Some(Value::Null) => continue,
                Some(Value::Array(ids)) => ids.iter().map(Value::as_i64).collect(),
                Some(id) => id.as_i64().map(|id| vec![id]),
            };
            let eos = ids.ok_or_else(|| {
                ModelError::unsupported(&path, "eos_token_id", "must be an id or a list of ids")
            })?;
            return Ok(Self { eos });
        }
        Ok(Self::default())
    }
}
