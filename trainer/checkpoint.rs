//! Checkpoint folders: a plain Hugging Face folder with the trainer's state inside.
//!
//! A folder is written aside, synced and renamed, so that it is whole or not there. A manifest of
//! sizes and checksums tells damage; equal states are equal bytes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use models::{Decoder, Tokenizer, copy_aux_files, read_tensors, save_folder, write_tensors};
use rollout::data::CursorState;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::files::sync_folder;
use crate::learn::AdamW;
use crate::{TrainError, files};

/// What every checkpoint holds besides its weights.
const PARTS: [&str; 3] = [
    "config.json",
    "trainer/optimizer.safetensors",
    "trainer/state.json",
];

/// Where a run stands, besides its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Stage name.
    pub stage: String,
    /// Its place in the config.
    pub stage_index: usize,
    /// Steps of the stage done.
    pub step: u64,
    /// Whether the evaluation that belongs after that step is still to be made: a signal cut it short.
    #[serde(default)]
    pub evaluation_owed: bool,
    /// Updates the optimizer has applied in the stage.
    pub updates: u64,
    /// Place in the data.
    pub cursor: CursorState,
    /// Completion tokens learnt from in the stage.
    pub tokens: u64,
    /// Ranks that ran.
    pub world_size: usize,
    /// libtorch's threads on the CPU, per rank.
    pub threads: usize,
}

/// A checkpoint folder that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// Its state.
    pub state: State,
}

/// What is written.
pub struct Contents<'a> {
    /// Weights and shape.
    pub model: &'a Decoder,
    /// Moments and master weights.
    pub optimizer: &'a AdamW,
    /// Tokenizer files.
    pub tokenizer: &'a Tokenizer,
    /// The folder that the policy came from, if it came from one: what else is in it travels along.
    pub origin: Option<&'a Path>,
}

impl Checkpoint {
    /// Writes `contents` and `state` as `folder`, whole.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(folder: &Path, contents: &Contents, state: &State) -> Result<(), TrainError> {
        let parent = folder.parent().unwrap_or(Path::new("."));
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let aside = parent.join(format!(".{name}.partial"));
        remove(&aside)?;
        let inner = aside.join("trainer");
        fs::create_dir_all(&inner).map_err(TrainError::io(&inner))?;
        // A disk that is full is nobody's input.
        let failed = |error: models::ModelError| TrainError::Other(error.to_string());
        save_folder(contents.model, contents.model.kind(), &aside).map_err(failed)?;
        contents.tokenizer.export(&aside).map_err(failed)?;
        if let Some(origin) = contents.origin {
            copy_aux_files(origin, &aside).map_err(failed)?;
        }
        write_generation_config(&aside, contents.tokenizer)?;
        write_tensors(
            &inner.join("optimizer.safetensors"),
            &contents.optimizer.tensors(),
        )
        .map_err(failed)?;
        let text = serde_json::to_string_pretty(state)
            .map_err(|error| TrainError::Other(error.to_string()))?;
        files::write_whole(&inner.join("state.json"), text.as_bytes())?;
        let manifest = Value::Object(manifest(&aside)?).to_string();
        files::write_whole(&inner.join("manifest.json"), manifest.as_bytes())?;
        for folder in [&inner, &aside] {
            sync_folder(folder).map_err(TrainError::io(folder))?;
        }
        remove(folder)?;
        fs::rename(&aside, folder).map_err(TrainError::io(folder))?;
        sync_folder(parent).map_err(TrainError::io(parent))
    }

    /// Reads and verifies `folder`.
    ///
    /// # Errors
    /// The part that is missing or damaged, named.
    pub fn open(folder: &Path) -> Result<Self, TrainError> {
        let damaged = |part: &str, what: String| {
            TrainError::Input(format!(
                "checkpoint {} is damaged: {part}: {what}",
                folder.display()
            ))
        };
        let read = |part: &str| {
            fs::read(folder.join(part)).map_err(|error| damaged(part, error.to_string()))
        };
        if !folder.is_dir() {
            return Err(TrainError::Input(format!(
                "checkpoint {}: there is no such folder",
                folder.display()
            )));
        }
        let expected: Map<String, Value> = serde_json::from_slice(&read("trainer/manifest.json")?)
            .map_err(|error| damaged("trainer/manifest.json", error.to_string()))?;
        let weights = |part: &String| part.starts_with("model") && part.ends_with(".safetensors");
        let lacks = match expected.keys().any(weights) {
            true => PARTS.into_iter().find(|part| !expected.contains_key(*part)),
            false => Some("model.safetensors"),
        };
        if let Some(part) = lacks {
            let what = format!("does not list {part}");
            return Err(damaged("trainer/manifest.json", what));
        }
        for (part, entry) in &expected {
            let bytes = read(part)?;
            if entry["bytes"] != json!(bytes.len()) {
                return Err(damaged(
                    part,
                    format!("has {} bytes instead of {}", bytes.len(), entry["bytes"]),
                ));
            }
            if entry["crc32"] != json!(crc32fast::hash(&bytes)) {
                return Err(damaged(part, "its checksum does not match".into()));
            }
        }
        let state = serde_json::from_slice(&read("trainer/state.json")?)
            .map_err(|error| damaged("trainer/state.json", error.to_string()))?;
        Ok(Self {
            path: folder.to_owned(),
            state,
        })
    }

    /// Fills `optimizer`, of `model`, from the folder.
    ///
    /// # Errors
    /// Tensors that are not there or do not fit the network.
    pub fn load_optimizer(&self, optimizer: &mut AdamW, model: &Decoder) -> Result<(), TrainError> {
        let path = self.path.join("trainer/optimizer.safetensors");
        optimizer
            .restore(read_tensors(&path)?, &model.params)
            .map_err(|error| TrainError::Input(format!("{}: {error}", path.display())))?;
        optimizer.updates = self.state.updates;
        Ok(())
    }
}

/// Sizes and checksums of every file below `folder`, the manifest itself apart.
fn manifest(folder: &Path) -> Result<Map<String, Value>, TrainError> {
    let mut entries = Map::new();
    for part in ["", "trainer"] {
        let inner = folder.join(part);
        let mut names: Vec<PathBuf> = fs::read_dir(&inner)
            .and_then(|read| read.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(TrainError::io(&inner))?;
        names.retain(|path| path.is_file());
        names.sort();
        for path in names {
            let bytes = fs::read(&path).map_err(TrainError::io(&path))?;
            File::open(&path)
                .and_then(|file| file.sync_all())
                .map_err(TrainError::io(&path))?;
            let name = path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .to_string_lossy()
                .into_owned();
            entries.insert(
                name,
                json!({"bytes": bytes.len(), "crc32": crc32fast::hash(&bytes)}),
            );
        }
    }
    Ok(entries)
}

/// transformers stops generating at the ids of generation_config.json.
fn write_generation_config(folder: &Path, tokenizer: &Tokenizer) -> Result<(), TrainError> {
    let path = folder.join("generation_config.json");
    if path.exists() {
        return Ok(());
    }
    let mut map = Map::new();
    match tokenizer.eos() {
        [] => {}
        [id] => drop(map.insert("eos_token_id".into(), json!(id))),
        ids => drop(map.insert("eos_token_id".into(), json!(ids))),
    }
    map.extend(
        tokenizer
            .pad()
            .map(|pad| ("pad_token_id".to_owned(), json!(pad))),
    );
    files::write_whole(&path, Value::Object(map).to_string().as_bytes())
}

/// Removes what a kill left in a stage's `folder`: checkpoints half written and half removed.
///
/// # Errors
/// Whatever the file system says.
pub fn sweep(folder: &Path) -> Result<(), TrainError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && (name.ends_with(".partial") || name.ends_with(".removed")) {
            fs::remove_dir_all(entry.path()).map_err(TrainError::io(entry.path()))?;
        }
    }
    Ok(())
}

/// Removes a folder if it is there.
///
/// # Errors
/// Whatever the file system says.
pub fn remove(folder: &Path) -> Result<(), TrainError> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let gone = folder.with_file_name(format!(".{name}.removed"));
    if gone.exists() {
        fs::remove_dir_all(&gone).map_err(TrainError::io(&gone))?;
    }
    if folder.exists() {
        // Out of sight first, so that a kill never leaves half a folder under a checkpoint's name.
        fs::rename(folder, &gone).map_err(TrainError::io(folder))?;
        fs::remove_dir_all(&gone).map_err(TrainError::io(&gone))?;
    }
    Ok(())
}
