//! A folder of weights that servers read: safetensors, a file for each block, so that no more than a block is ever held
//! twice in this process. The names are the checkpoint's.

use std::path::{Path, PathBuf};

use models::{Decoder, save_folder, write_tensors};
use serde_json::{Map, json};

use super::config::WeightUpdate;
use super::dialect::SharedWeights;
use crate::RolloutError;
use crate::engine::WeightBlocks;

/// Where folders lie unless the config says where.
const MEMORY: &str = "/dev/shm";
/// How folders of this program are called there.
const PREFIX: &str = "svgrl-weights-";

/// The folder in which each version of the weights has a folder of its own; it goes with this value.
#[derive(Debug)]
pub(super) struct WeightsRoom {
    root: PathBuf,
    /// What versions begin with: no other run's do.
    tag: String,
    /// The version that lies there.
    last: Option<PathBuf>,
}

impl WeightsRoom {
    /// A new room in `place`, or in the machine's memory.
    ///
    /// # Errors
    /// A place that cannot be written.
    pub(super) fn open(place: Option<&Path>) -> Result<Self, RolloutError> {
        let place = place.unwrap_or(Path::new(MEMORY));
        remove_left_over(place);
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = nanos.map_or(0, |since| since.as_nanos() as u64);
        let process = u64::from(std::process::id());
        let tag = format!("{process}-{:06x}", crate::mix(nanos, process) & 0x00ff_ffff);
        let root = place.join(format!("{PREFIX}{tag}"));
        std::fs::create_dir_all(&root).map_err(unwritten(&root))?;
        // Servers must find it whatever their working directory is.
        let root = root.canonicalize().map_err(unwritten(&root))?;
        Ok(Self {
            root,
            tag,
            last: None,
        })
    }

    /// What version `number` is called.
    pub(super) fn name(&self, number: u64) -> String {
        format!("svgrl-{}-v{number}", self.tag)
    }

    /// Writes weights as `version`, block by block.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn write(
        &mut self,
        weights: &dyn WeightBlocks,
        (way, version): (WeightUpdate, String),
    ) -> Result<SharedWeights, RolloutError> {
        let folder = self.folder(&version)?;
        let count = weights.blocks();
        let (mut files, mut map, mut bytes) = (Vec::new(), Map::new(), 0);
        for index in 0..count {
            let mut block = Vec::new();
            weights.block(index, &mut |name, values| {
                block.push((name.to_owned(), values.shallow_clone()));
                Ok(())
            })?;
            let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
            map.extend(
                block
                    .iter()
                    .map(|(tensor, _)| (tensor.clone(), json!(name))),
            );
            let file = folder.join(name);
            write_tensors(&file, &block)?;
            bytes += size(&file);
            files.push(file);
        }
        let index = json!({"metadata": {"total_size": bytes}, "weight_map": map});
        let path = folder.join("model.safetensors.index.json");
        std::fs::write(&path, index.to_string()).map_err(unwritten(&path))?;
        Ok(SharedWeights {
            way,
            folder,
            files,
            version,
            bytes,
        })
    }

    /// Writes the adapters of `policy` as `version`, in PEFT's layout.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn write_adapter(
        &mut self,
        policy: &Decoder,
        version: String,
    ) -> Result<SharedWeights, RolloutError> {
        let folder = self.folder(&version)?;
        save_folder(policy, policy.kind(), &folder)?;
        let files =
            ["adapter_config.json", "adapter_model.safetensors"].map(|name| folder.join(name));
        Ok(SharedWeights {
            way: WeightUpdate::Adapter,
            bytes: files.iter().map(|file| size(file)).sum(),
            folder,
            files: files.to_vec(),
            version,
        })
    }

    /// A new folder, in the place of an unfinished one.
    fn folder(&self, version: &str) -> Result<PathBuf, RolloutError> {
        let folder = self.root.join(version);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(unwritten(&folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(unwritten(&folder))?;
        Ok(folder)
    }

    /// The servers have `weights` now: what they had before is not needed any more.
    pub(super) fn keep(&mut self, weights: &SharedWeights) {
        let before = self.last.replace(weights.folder.clone());
        if let Some(before) = before.filter(|before| *before != weights.folder) {
            // What stays goes with the room.
            let _ = std::fs::remove_dir_all(before);
        }
    }
}

impl Drop for WeightsRoom {
    fn drop(&mut self) {
        // The next run removes what stays.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Removes rooms whose process has gone without doing so.
fn remove_left_over(place: &Path) {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let process = process.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        // A folder that several machines see may be another machine's.
        let here = place == Path::new(MEMORY);
        if process
            .is_some_and(|process| here && !Path::new("/proc").join(process.to_string()).exists())
        {
            // It may be another user's.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn size(file: &Path) -> u64 {
    file.metadata().map_or(0, |about| about.len())
}

fn unwritten(path: &Path) -> impl Fn(std::io::Error) -> RolloutError {
    let path = path.to_owned();
    move |error| {
        RolloutError::Input(format!(
            "rollout.servers.weights: {}: {error} (a folder that this process and the servers see under the same path)",
            path.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_processes_that_are_gone_are_removed_and_others_stay() {
        let place = Path::new(MEMORY);
        let gone = place.join(format!("{PREFIX}4194999-abcdef"));
        std::fs::create_dir_all(&gone).unwrap();
        let room = WeightsRoom::open(None).unwrap();
        let root = room.root.clone();
        assert!(!gone.exists());
        assert!(root.exists() && WeightsRoom::open(None).is_ok() && root.exists());
        drop(room);
        assert!(!root.exists());
    }
}
