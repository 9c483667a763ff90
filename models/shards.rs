//! Which file of a folder each tensor lies in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ModelError;
use crate::json_section::read_object;
use crate::tensor_file::SafeTensorsFile;

/// Where each tensor of a folder lies.
pub(crate) fn locate(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        let path = folder.join("model.safetensors");
        let file = SafeTensorsFile::open(&path)?;
        let names: Vec<String> = file
            .tensors()?
            .names()
            .into_iter()
            .map(|name| name.to_owned())
            .collect();
        return Ok(names.into_iter().map(|name| (name, path.clone())).collect());
    }
    indexed(&index)
}

/// Where an index of shards says that each tensor lies: beside the index.
pub(crate) fn indexed(index: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let map = read_object(index)?;
    let Some(Value::Object(weights)) = map.get("weight_map") else {
        return Err(ModelError::malformed(index, "has no object `weight_map`"));
    };
    weights
        .iter()
        .map(|(name, file)| match file.as_str() {
            Some(file) if !file.contains(['/', '\\']) => {
                Ok((name.clone(), index.with_file_name(file)))
            }
            _ => Err(ModelError::malformed(
                index,
                format!("weight_map.{name} must name a file of the folder"),
            )),
        })
        .collect()
}
