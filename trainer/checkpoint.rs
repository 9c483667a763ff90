//! Checkpoint folders: a plain Hugging Face folder, or PEFT's adapter, with the trainer's state inside.
//!
//! A folder is written aside, synced and renamed, so that it is whole or not there; one that is written anew
//! keeps the old one until the new one has its name. A manifest of sizes and checksums tells damage; equal
//! states are equal bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use models::Decoder;
use serde_json::{Map, Value};

use crate::agreement::decide;
use crate::checkpoint_job::{CheckpointJob, PROVENANCE};
pub use crate::checkpoint_parts::{Contents, Provenance, State};
use crate::files::{make_folder, sync_folder};
use crate::learn::{AdamW, Ranks};
use crate::optimizer_files::{FileSums, gather_sums};
use crate::{TrainError, files, optimizer_files};

/// What every checkpoint holds besides its weights and the optimizer's state.
const PARTS: [&str; 2] = ["config.json", "trainer/state.json"];

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

/// A checkpoint that is being written, by a thread on every rank that has a part in it.
pub(crate) struct WritingCheckpoint {
    folder: PathBuf,
    thread: JoinHandle<Result<FileSums, TrainError>>,
}

impl WritingCheckpoint {
    /// Begins to write `contents` and `state` as `folder`. All ranks call it: each writes its share of the
    /// optimizer's state, rank 0 all else. With `copies` threads write copies, so that learning may go on; otherwise
    /// nothing may change before [`Self::finish`].
    ///
    /// # Errors
    /// Whatever the file system says; a lost rank.
    pub(crate) fn begin(
        folder: &Path,
        (contents, state): (&Contents, &State),
        (ranks, copies): (&Ranks, bool),
    ) -> Result<Self, TrainError> {
        let aside = hidden(folder, PARTIAL);
        decide(ranks, || {
            make_folder(files::parent(folder))?;
            remove(&aside)?;
            let inner = aside.join("trainer");
            fs::create_dir_all(&inner).map_err(TrainError::io(&inner))
        })?;
        let job = CheckpointJob::of(aside, (contents, state), (ranks, copies))?;
        let thread = std::thread::Builder::new()
            .name("checkpoint".into())
            .spawn(move || job.run())
            .map_err(|error| TrainError::Other(format!("writing a checkpoint: {error}")))?;
        Ok(Self {
            folder: folder.to_owned(),
            thread,
        })
    }

    /// Whether this rank has written its part.
    pub(crate) fn is_done(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for all ranks' parts and gives the folder its name.
    ///
    /// # Errors
    /// Whatever the file system said to any rank; a lost rank.
    pub(crate) fn finish(self, ranks: &Ranks) -> Result<(), TrainError> {
        let broken = |_| Err(TrainError::Other("writing a checkpoint panicked".into()));
        let own = self.thread.join().unwrap_or_else(broken);
        let all = gather_sums(&own, ranks)?;
        decide(ranks, || {
            own?;
            let aside = hidden(&self.folder, PARTIAL);
            write_manifest(&aside, all?)?;
            replace(&aside, &self.folder)
        })
    }
}

impl Checkpoint {
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
        let state = [optimizer_files::SINGLE, optimizer_files::INDEX];
        let state = state.map(|name| format!("trainer/{name}"));
        let lacks = match expected.keys().any(weights) {
            false => Some("model.safetensors"),
            true if !state.iter().any(|name| expected.contains_key(name)) => {
                Some("trainer/optimizer.safetensors")
            }
            true => PARTS.into_iter().find(|part| !expected.contains_key(*part)),
        };
        if let Some(part) = lacks {
            let what = format!("does not list {part}");
            return Err(damaged("trainer/manifest.json", what));
        }
        for (part, entry) in &expected {
            let found = files::checksum(&folder.join(part));
            let found = found.map_err(|error| damaged(part, error.to_string()))?;
            if entry["bytes"] != found["bytes"] {
                return Err(damaged(
                    part,
                    format!("has {} bytes instead of {}", found["bytes"], entry["bytes"]),
                ));
            }
            if entry["crc32"] != found["crc32"] {
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

    /// Fills `optimizer`, of `model`, from the folder: this rank's share of it, whatever ranks wrote it.
    ///
    /// # Errors
    /// Tensors that are not there or do not fit the network.
    pub fn load_optimizer(&self, optimizer: &mut AdamW, model: &Decoder) -> Result<(), TrainError> {
        optimizer_files::restore(&self.path.join("trainer"), optimizer, model)?;
        optimizer.updates = self.state.updates;
        Ok(())
    }
}

/// Writes the manifest of the files whose `sums` are given into `folder`, and makes it durable.
fn write_manifest(folder: &Path, mut sums: FileSums) -> Result<(), TrainError> {
    if let Some(name) = sums.keys().find(|name| !folder.join(name).is_file()) {
        return Err(TrainError::Input(format!(
            "{name} is not in {}, though a rank wrote it: the run folder must be one folder that all machines share",
            folder.display()
        )));
    }
    sums.sort_keys();
    let inner = folder.join("trainer");
    let manifest = Value::Object(sums).to_string();
    files::write_whole(&inner.join("manifest.json"), manifest.as_bytes())?;
    for folder in [&inner, folder] {
        sync_folder(folder).map_err(TrainError::io(folder))?;
    }
    Ok(())
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
    use rollout::data::CursorState;

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
                pending: Vec::new(),
            },
            tokens: 0,
            world_size: 1,
            threads: 1,
            sharding: 0,
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
        let files = [
            "model.safetensors",
            "config.json",
            "trainer/optimizer.safetensors",
            "trainer/state.json",
        ];
        let sum = |name: &str| files::checksum(&folder.join(name)).unwrap();
        let sums = files.map(|name| (name.to_owned(), sum(name)));
        write_manifest(folder, FileSums::from_iter(sums)).unwrap();
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
