//! Which weight files of a folder count, and which of them each tensor lies in.
//!
//! The order is that of transformers' `from_pretrained`: the single file before an index of shards. What an index says of
//! names is not trusted, its shards' own headers are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ModelError;
use crate::json_section::read_object;
use crate::model_folder::{FolderUse, folder_problem};
use crate::tensor_file::SafeTensorsFile;

/// The files that hold a folder's weights.
pub(crate) struct WeightFiles {
    /// The single file, or the shards in the order of their names.
    pub(crate) files: Vec<PathBuf>,
    /// The index that names the shards.
    pub(crate) index: Option<PathBuf>,
}

/// The files of `folder` called `stem` (`model.safetensors`), or its shards; none where neither is there.
///
/// # Errors
/// An index that does not name files of the folder.
pub(crate) fn weight_files(folder: &Path, stem: &str) -> Result<Option<WeightFiles>, ModelError> {
    let single = folder.join(stem);
    let index = folder.join(format!("{stem}.index.json"));
    if single.exists() {
        return Ok(Some(WeightFiles {
            files: vec![single],
            index: None,
        }));
    }
    if !index.exists() {
        return Ok(None);
    }
    Ok(Some(WeightFiles {
        files: shards(&index)?,
        index: Some(index),
    }))
}

/// Where each tensor of a policy's folder lies.
pub(crate) fn locate(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let Some(weights) = weight_files(folder, "model.safetensors")? else {
        let problem = folder_problem(folder, folder, FolderUse::Policy);
        return Err(ModelError::Folder(problem.unwrap_or_default()));
    };
    let mut places = BTreeMap::new();
    for path in weights.files {
        let file = SafeTensorsFile::open(&path)?;
        for name in file.tensors()?.names() {
            places.insert(name.to_owned(), path.clone());
        }
    }
    Ok(places)
}

/// The files that an index names, beside it.
fn shards(index: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let map = read_object(index)?;
    let Some(Value::Object(weights)) = map.get("weight_map") else {
        return Err(ModelError::malformed(index, "has no object `weight_map`"));
    };
    let files: Result<BTreeSet<PathBuf>, ModelError> = weights
        .iter()
        .map(|(name, file)| match file.as_str() {
            Some(file) if !file.contains(['/', '\\']) => Ok(index.with_file_name(file)),
            _ => Err(ModelError::malformed(
                index,
                format!("weight_map.{name} must name a file of the folder"),
            )),
        })
        .collect();
    Ok(files?.into_iter().collect())
}
