//! Checkpoint folders: a plain Hugging Face folder, or PEFT's adapter, with the trainer's state inside.
//!
//! A folder is written aside, synced and renamed, so that it is whole or not there; one that is written anew
//! keeps the old one until the new one has its name. A manifest of sizes and checksums tells damage; equal
//! states are equal bytes.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use models::{Decoder, Tokenizer, copy_aux_files, read_tensors, save_folder, write_tensors};
use rollout::data::CursorState;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::files::{make_folder, sync_folder};
use crate::inputs::Inputs;
use crate::learn::AdamW;
use crate::{TrainError, files};

/// What every checkpoint holds besides its weights.
const PARTS: [&str; 3] = [
    "config.json",
    "trainer/optimizer.safetensors",
    "trainer/state.json",
];

/// The file of a checkpoint's [`Provenance`].
const PROVENANCE: &str = "provenance.json";

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
    /// The `eval.stop_after` that ended the stage at that step; 0: none did.
    #[serde(default)]
    pub stopped_after: u64,
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

/// What a checkpoint's run was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The resolved config without what a continuation may change.
    pub config: Value,
    /// The rows, the first weights, the tokenizer, the encoders, the templates.
    pub inputs: Inputs,
}

/// A checkpoint folder that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// Its state.
    pub state: State,
    /// What its run was made of; checkpoints of before this was kept have none.
    pub provenance: Option<Provenance>,
    /// Checksum of its manifest: equal folders have equal ones.
    pub sum: u32,
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
    /// What the run is made of.
    pub provenance: &'a Provenance,
}

impl Checkpoint {
    /// Writes `contents` and `state` as `folder`, whole.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(folder: &Path, contents: &Contents, state: &State) -> Result<(), TrainError> {
        let parent = folder.parent().unwrap_or(Path::new("."));
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        make_folder(parent)?;
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
        let wrong = |error: serde_json::Error| TrainError::Other(error.to_string());
        let text = serde_json::to_string_pretty(state).map_err(wrong)?;
        files::write_whole(&inner.join("state.json"), text.as_bytes())?;
        let text = serde_json::to_string_pretty(contents.provenance).map_err(wrong)?;
        files::write_whole(&inner.join(PROVENANCE), text.as_bytes())?;
        let manifest = Value::Object(manifest(&aside)?).to_string();
        files::write_whole(&inner.join("manifest.json"), manifest.as_bytes())?;
        for folder in [&inner, &aside] {
            sync_folder(folder).map_err(TrainError::io(folder))?;
        }
        replace(&aside, folder)
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
        let manifest = read("trainer/manifest.json")?;
        let expected: Map<String, Value> = serde_json::from_slice(&manifest)
            .map_err(|error| damaged("trainer/manifest.json", error.to_string()))?;
        let weights = |part: &String| {
            let own = part.starts_with("model") || part.starts_with("adapter_model");
            own && part.ends_with(".safetensors")
        };
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
        let part = format!("trainer/{PROVENANCE}");
        let provenance = match expected.contains_key(&part) {
            true => serde_json::from_slice(&read(&part)?)
                .map_err(|error| damaged(&part, error.to_string()))?,
            false => None,
        };
        Ok(Self {
            path: folder.to_owned(),
            state,
            provenance,
            sum: crc32fast::hash(&manifest),
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

/// Gives `aside` the name of `folder`, which is removed after it, if it is there.
fn replace(aside: &Path, folder: &Path) -> Result<(), TrainError> {
    let old = hidden(folder, REPLACED);
    discard(&old)?;
    if folder.exists() {
        fs::rename(folder, &old).map_err(TrainError::io(folder))?;
    }
    fs::rename(aside, folder).map_err(TrainError::io(folder))?;
    let parent = files::parent(folder);
    sync_folder(parent).map_err(TrainError::io(parent))?;
    discard(&old)
}

/// What the hidden folders beside checkpoints end with: one being written, one whose place the next one takes,
/// one being removed.
const PARTIAL: &str = "partial";
const REPLACED: &str = "replaced";
const REMOVED: &str = "removed";

fn hidden(folder: &Path, end: &str) -> PathBuf {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    folder.with_file_name(format!(".{name}.{end}"))
}

/// The checkpoint's name in that of a hidden folder, and how it ends.
fn unhidden(name: &str) -> Option<(&str, &str)> {
    let (name, end) = name.strip_prefix('.')?.rsplit_once('.')?;
    [PARTIAL, REPLACED, REMOVED]
        .contains(&end)
        .then_some((name, end))
}

/// Gives checkpoints their names that a kill kept from them: those written whole, and those that a new one was
/// about to replace.
///
/// # Errors
/// Whatever the file system says.
pub fn recover(folder: &Path) -> Result<(), TrainError> {
    for end in [PARTIAL, REPLACED] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let hidden = entry.file_name().to_string_lossy().into_owned();
            let Some((name, _)) = unhidden(&hidden).filter(|(_, found)| *found == end) else {
                continue;
            };
            let named = folder.join(name);
            if !named.exists() && Checkpoint::open(&entry.path()).is_ok() {
                fs::rename(entry.path(), &named).map_err(TrainError::io(&named))?;
                sync_folder(folder).map_err(TrainError::io(folder))?;
            }
        }
    }
    Ok(())
}

/// Removes what a kill left in a stage's `folder`: checkpoints half written and half removed.
///
/// # Errors
/// Whatever the file system says.
pub fn sweep(folder: &Path) -> Result<(), TrainError> {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if unhidden(&entry.file_name().to_string_lossy()).is_some() {
            discard(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a folder, or a file that a kill left beside one.
fn discard(path: &Path) -> Result<(), TrainError> {
    let gone = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false if path.exists() => fs::remove_file(path),
        false => Ok(()),
    };
    gone.map_err(TrainError::io(path))
}

/// Removes a folder if it is there.
///
/// # Errors
/// Whatever the file system says.
pub fn remove(folder: &Path) -> Result<(), TrainError> {
    let gone = hidden(folder, REMOVED);
    discard(&gone)?;
    if folder.exists() {
        // Out of sight first, so that a kill never leaves half a folder under a checkpoint's name.
        fs::rename(folder, &gone).map_err(TrainError::io(folder))?;
        discard(&gone)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that opens as a checkpoint of `step`.
    fn write(folder: &Path, step: u64) {
        fs::create_dir_all(folder.join("trainer")).unwrap();
        let state = State {
            stage: "rl".into(),
            stage_index: 0,
            step,
            evaluation_owed: false,
            stopped_after: 0,
            updates: step,
            cursor: CursorState {
                draws: 0,
                streams: Default::default(),
            },
            tokens: 0,
            world_size: 1,
            threads: 1,
        };
        for part in [
            "model.safetensors",
            "config.json",
            "trainer/optimizer.safetensors",
        ] {
            fs::write(folder.join(part), "x").unwrap();
        }
        let text = serde_json::to_string(&state).unwrap();
        fs::write(folder.join("trainer/state.json"), text).unwrap();
        let manifest = Value::Object(manifest(folder).unwrap()).to_string();
        fs::write(folder.join("trainer/manifest.json"), manifest).unwrap();
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_kill_kept_from_its_name_gets_it() {
        let stage = tempfile::tempdir().unwrap();
        let at = |name: &str| stage.path().join(name);
        // Killed before the rename; between the two renames; while the old one was removed; half written.
        write(&at(".step_000002.partial"), 2);
        write(&at(".step_000004.replaced"), 3);
        write(&at(".step_000004.partial"), 4);
        write(&at("step_000006"), 6);
        write(&at(".step_000006.replaced"), 5);
        write(&at(".step_000008.partial"), 8);
        fs::remove_file(at(".step_000008.partial/config.json")).unwrap();
        write(&at(".step_000001.removed"), 1);
        // A file beside them that was being written.
        fs::write(at(".best.json.partial"), "{").unwrap();
        recover(stage.path()).unwrap();
        sweep(stage.path()).unwrap();
        let expected = ["step_000002", "step_000004", "step_000006"];
        assert_eq!(names(stage.path()), expected);
        for (name, step) in expected.into_iter().zip([2, 4, 6]) {
            assert_eq!(Checkpoint::open(&at(name)).unwrap().state.step, step);
        }
    }

    #[test]
    fn a_checkpoint_written_anew_takes_the_old_ones_place() {
        let stage = tempfile::tempdir().unwrap();
        let (old, new) = (
            stage.path().join("final"),
            stage.path().join(".final.partial"),
        );
        for step in [1, 2] {
            write(&new, step);
            replace(&new, &old).unwrap();
            assert_eq!(Checkpoint::open(&old).unwrap().state.step, step);
            assert_eq!(names(stage.path()), ["final"]);
        }
        // A kill between the renames, with nothing whole beside the old one.
        fs::rename(&old, hidden(&old, REPLACED)).unwrap();
        recover(stage.path()).unwrap();
        assert_eq!(Checkpoint::open(&old).unwrap().state.step, 2);
    }
}
