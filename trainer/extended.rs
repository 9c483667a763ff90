//! `model.extend_tokens`: the policy's folder with SVG tokens, written once into the run folder.
//!
//! A file beside it says what it was made of, so that a folder of another model or vocabulary is never taken for it.
//! The checkpoints hold the extended vocabulary themselves; a run that goes on from one reads tokenizer and reference
//! policy here.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use models::ModelConfig;
use models::svg_tokens::{SvgVocabulary, extend_folder, lacking_tokens};
use serde::{Deserialize, Serialize};

use crate::agreement::{decide, see_the_same};
use crate::inputs::policy_digests;
use crate::learn::Ranks;
use crate::resume::holds_run;
use crate::{TrainError, files};

/// The extended folder within a run folder.
const FOLDER: &str = "model_extended";

/// What the folder was made of.
const ORIGIN: &str = "model_extended.json";

/// What an extended folder was made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ExtendedOrigin {
    vocabulary: SvgVocabulary,
    model: String,
    tokenizer: String,
}

/// What rank 0 did.
#[derive(Debug, Serialize, Deserialize)]
struct Extended {
    /// Whether the folder is the run's own.
    own: bool,
    notices: Vec<String>,
}

/// The policy that a run in `run` starts from, and what people should know: `model` itself, or with the folder that
/// holds its SVG tokens.
///
/// # Errors
/// A folder that cannot be extended; one in the run folder that was made of something else; a run folder that not all
/// ranks see.
pub(crate) fn policy(
    model: &ModelConfig,
    run: &Path,
    ranks: &Ranks,
) -> Result<(ModelConfig, Vec<String>), TrainError> {
    let mut policy = model.clone();
    let (Some(vocabulary), Some(path)) = (model.extend_tokens, &model.path) else {
        return Ok((policy, Vec::new()));
    };
    let made = decide(ranks, || extended(path, vocabulary, run))?;
    if made.own {
        let folder = run.join(FOLDER);
        if ranks.size() > 1 {
            let seen = fs::read(run.join(ORIGIN)).ok();
            let seen = seen.map(|bytes| crc32fast::hash(&bytes));
            see_the_same(ranks, &folder, seen)?;
        }
        policy.path = Some(folder);
    }
    Ok((policy, made.notices))
}

fn extended(path: &Path, vocabulary: SvgVocabulary, run: &Path) -> Result<Extended, TrainError> {
    if lacking_tokens(path, vocabulary)? == 0 {
        let notice = format!(
            "model.extend_tokens: {} has all of these tokens already and is used as it is",
            path.display()
        );
        return Ok(Extended {
            own: false,
            notices: vec![notice],
        });
    }
    let (folder, origin) = (run.join(FOLDER), run.join(ORIGIN));
    let [model, tokenizer] = policy_digests(path)?;
    let now = ExtendedOrigin {
        vocabulary,
        model,
        tokenizer,
    };
    let before = fs::read(&origin).ok();
    let before = before.and_then(|bytes| serde_json::from_slice::<ExtendedOrigin>(&bytes).ok());
    let there = before.filter(|_| folder.is_dir());
    if there.as_ref() == Some(&now) {
        return Ok(Extended {
            own: true,
            notices: Vec::new(),
        });
    }
    if there.is_some() && holds_run(run) {
        return Err(TrainError::Input(format!(
            "model.extend_tokens: {} was made from other weights, another tokenizer or other tokens than the config names now: change it back, or start over with --resume never",
            folder.display()
        )));
    }
    files::make_folder(run)?;
    for gone in [&origin, &folder] {
        remove(gone)?;
    }
    let extension = extend_folder(path, &folder, vocabulary)?;
    sync_all(&folder)?;
    let text =
        serde_json::to_vec_pretty(&now).map_err(|error| TrainError::Other(error.to_string()))?;
    files::write_whole(&origin, &text)?;
    let mut notices = vec![format!(
        "model.extend_tokens: {} tokens added, {} were there already: {} ids in {}",
        extension.tokens.len(),
        extension.skipped.len(),
        extension.ids_after,
        folder.display()
    )];
    if !extension.not_copied.is_empty() {
        notices.push(format!(
            "model.extend_tokens: not copied, because other files hold the weights that count: {}",
            extension.not_copied.join(", ")
        ));
    }
    Ok(Extended { own: true, notices })
}

fn remove(path: &PathBuf) -> Result<(), TrainError> {
    let gone = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false if path.exists() => fs::remove_file(path),
        false => Ok(()),
    };
    gone.map_err(TrainError::io(path))
}

/// Makes the files of a folder durable.
fn sync_all(folder: &Path) -> Result<(), TrainError> {
    let entries = fs::read_dir(folder).map_err(TrainError::io(folder))?;
    for entry in entries {
        let path = entry.map_err(TrainError::io(folder))?.path();
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(TrainError::io(&path))?;
    }
    files::sync_folder(folder)
        .and_then(|()| files::sync_folder(files::parent(folder)))
        .map_err(TrainError::io(folder))
}
