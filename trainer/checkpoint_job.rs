//! What one rank writes of a checkpoint, by a thread: copies of its own where the policy learns on meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use models::{FolderExport, Tokenizer, copy_aux_files, write_tensors};
use serde_json::{Map, Value, json};
use tch::{Device, Tensor};

use crate::checkpoint_parts::{Contents, State};
use crate::learn::Ranks;
use crate::optimizer_files::{FileSums, INDEX, index_text, share_name};
use crate::queue::AHEAD;
use crate::{TrainError, files};

/// The file of a checkpoint's provenance.
pub(crate) const PROVENANCE: &str = "provenance.json";

/// One rank's part of a checkpoint.
pub(crate) struct CheckpointJob {
    aside: PathBuf,
    /// The optimizer's state on this rank, by the name of its file.
    share: Option<(String, Vec<(String, Tensor)>)>,
    /// All else, on the leader.
    rest: Option<RestOfCheckpoint>,
}

/// What the leader writes besides its share of the optimizer's state.
struct RestOfCheckpoint {
    weights: FolderExport,
    tokenizer: Arc<Tokenizer>,
    origin: Option<PathBuf>,
    /// Texts of the trainer's own files by their names.
    texts: BTreeMap<&'static str, String>,
}

impl CheckpointJob {
    /// What this rank writes into `aside`, with `copies` in memory of its own.
    ///
    /// # Errors
    /// What cannot be said in JSON.
    pub(crate) fn of(
        aside: PathBuf,
        (contents, state): (&Contents, &State),
        (ranks, copies): (&Ranks, bool),
    ) -> Result<Self, TrainError> {
        let (model, optimizer) = (contents.model, contents.optimizer);
        let copied = |(name, tensor): (String, Tensor)| {
            if !copies {
                return (name, tensor);
            }
            let out = Tensor::empty(tensor.size(), (tensor.kind(), Device::Cpu));
            tch::no_grad(|| out.shallow_clone().copy_(&tensor));
            (name, out)
        };
        let share = share_name(optimizer, ranks).map(|name| {
            let tensors = optimizer.tensors().into_iter().map(copied);
            (name, tensors.collect())
        });
        let wrong = |error: serde_json::Error| TrainError::Other(error.to_string());
        let rest = || -> Result<RestOfCheckpoint, TrainError> {
            let mut texts = BTreeMap::from([
                (
                    "state.json",
                    serde_json::to_string_pretty(state).map_err(wrong)?,
                ),
                (
                    PROVENANCE,
                    serde_json::to_string_pretty(contents.provenance).map_err(wrong)?,
                ),
            ]);
            texts.extend(contents.ahead.clone().map(|text| (AHEAD, text)));
            if optimizer.layout().world() > 1 {
                texts.insert(INDEX, index_text(optimizer, model)?);
            }
            let weights = FolderExport::of(model, model.kind());
            Ok(RestOfCheckpoint {
                weights: if copies { weights.copied() } else { weights },
                tokenizer: contents.tokenizer.clone(),
                origin: contents.origin.map(Path::to_owned),
                texts,
            })
        };
        Ok(Self {
            aside,
            share,
            rest: ranks.is_leader().then(rest).transpose()?,
        })
    }

    /// Writes it, each file synced; sizes and checksums.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(crate) fn run(self) -> Result<FileSums, TrainError> {
        let inner = self.aside.join("trainer");
        let mut names = Vec::new();
        if let Some((name, tensors)) = self.share {
            if !inner.is_dir() {
                return Err(TrainError::Input(format!(
                    "{}, which rank 0 made, is not there: the run folder must be one folder that all machines share",
                    inner.display()
                )));
            }
            write_tensors(&inner.join(&name), &tensors).map_err(failed)?;
            names.push(format!("trainer/{name}"));
        }
        if let Some(rest) = self.rest {
            names.extend(rest.write(&self.aside)?);
        }
        let mut sums = Map::new();
        for name in names {
            let path = self.aside.join(&name);
            let sum = files::checksum(&path).map_err(TrainError::io(&path))?;
            sums.insert(name, sum);
        }
        Ok(sums)
    }
}

/// A disk that is full is nobody's input.
fn failed(error: models::ModelError) -> TrainError {
    TrainError::Other(error.to_string())
}

impl RestOfCheckpoint {
    /// Writes it; the names of its files.
    fn write(self, aside: &Path) -> Result<Vec<String>, TrainError> {
        self.weights.write(aside).map_err(failed)?;
        self.tokenizer.export(aside).map_err(failed)?;
        if let Some(origin) = &self.origin {
            copy_aux_files(origin, aside).map_err(failed)?;
        }
        write_generation_config(aside, &self.tokenizer)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(aside).map_err(TrainError::io(aside))? {
            let path = entry.map_err(TrainError::io(aside))?.path();
            if path.is_file() {
                File::open(&path)
                    .and_then(|file| file.sync_all())
                    .map_err(TrainError::io(&path))?;
                let name = path.file_name().unwrap_or_default();
                names.push(name.to_string_lossy().into_owned());
            }
        }
        for (name, text) in &self.texts {
            files::write_whole(&aside.join("trainer").join(name), text.as_bytes())?;
            names.push(format!("trainer/{name}"));
        }
        Ok(names)
    }
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
