//! The optimizer's state in a checkpoint: one file, or one of every rank's share with an index that says where its
//! numbers belong, so that it continues under any number of ranks and any stage of sharding.

use std::fs;
use std::path::{Path, PathBuf};

use models::{Decoder, SafeTensorsFile};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::Tensor;

use crate::TrainError;
use crate::learn::shares::Stretch;
use crate::learn::{AdamW, Ranks};

/// The state of all that learns.
pub(crate) const SINGLE: &str = "optimizer.safetensors";

/// Names the shares' files.
pub(crate) const INDEX: &str = "optimizer.index.json";

/// What [`INDEX`] holds.
#[derive(Debug, Serialize, Deserialize)]
struct OptimizerIndex {
    /// Elements of what learns.
    elements: i64,
    shards: Vec<OptimizerShard>,
}

/// One share's file.
#[derive(Debug, Serialize, Deserialize)]
struct OptimizerShard {
    file: String,
    /// For each stretch of what learns that it holds: its first element there, its length, its first element in the
    /// file's tensors.
    ranges: Vec<[i64; 3]>,
}

/// The name of the share's file of rank `rank` of `world`.
fn shard_name(rank: usize, world: usize) -> String {
    format!("optimizer-{:05}-of-{world:05}.safetensors", rank + 1)
}

/// Sizes and checksums of files by their names in a checkpoint.
pub(crate) type FileSums = Map<String, Value>;

/// The file of the state of `optimizer` that this rank writes; none where rank 0 writes all of it.
pub(crate) fn share_name(optimizer: &AdamW, ranks: &Ranks) -> Option<String> {
    match (optimizer.layout().world(), ranks.is_leader()) {
        (1, false) => None,
        (1, true) => Some(SINGLE.to_owned()),
        (world, _) => Some(shard_name(ranks.rank(), world)),
    }
}

/// What all ranks wrote, on the leader; any rank's failure is the leader's.
///
/// # Errors
/// Those failures; a lost rank.
pub(crate) fn gather_sums(
    own: &Result<FileSums, TrainError>,
    ranks: &Ranks,
) -> Result<Result<FileSums, TrainError>, TrainError> {
    let wrong = |error: serde_json::Error| TrainError::Other(error.to_string());
    let told = match own {
        Ok(written) => json!({"written": written}),
        Err(error) => json!({"error": error.to_string()}),
    };
    let all = ranks.gather_to_leader(&serde_json::to_vec(&told).map_err(wrong)?)?;
    let heard = |bytes: Vec<u8>| -> Result<FileSums, TrainError> {
        let told: Value = serde_json::from_slice(&bytes).map_err(wrong)?;
        match (&told["error"], &told["written"]) {
            (Value::String(error), _) => Err(TrainError::Other(error.clone())),
            (_, Value::Object(written)) => Ok(written.clone()),
            _ => Err(TrainError::Other("a rank told nothing of its share".into())),
        }
    };
    let sums: Result<Vec<FileSums>, TrainError> = all.into_iter().map(heard).collect();
    Ok(sums.map(|sums| sums.into_iter().flatten().collect()))
}

/// The text of the index of the shares of `optimizer`, of `model`.
///
/// # Errors
/// What cannot be said in JSON.
pub(crate) fn index_text(optimizer: &AdamW, model: &Decoder) -> Result<String, TrainError> {
    let layout = optimizer.layout();
    let shard = |rank: usize| OptimizerShard {
        file: shard_name(rank, layout.world()),
        ranges: layout
            .stretches_of(rank)
            .map(|it| [it.start, it.len, it.local])
            .collect(),
    };
    let index = OptimizerIndex {
        elements: model.params.trainable_len(),
        shards: (0..layout.world()).map(shard).collect(),
    };
    serde_json::to_string(&index).map_err(|error| TrainError::Other(error.to_string()))
}

/// A file of state and where its numbers belong; all of what learns where there is one file.
struct StateFile {
    path: PathBuf,
    stretches: Option<Vec<Stretch>>,
}

/// Fills this rank's share of `optimizer`, of `model`, from the files of a checkpoint's `folder`.
///
/// # Errors
/// Files that are not there, or do not fit the network, by name.
pub(crate) fn restore(
    folder: &Path,
    optimizer: &mut AdamW,
    model: &Decoder,
) -> Result<(), TrainError> {
    let files = state_files(folder, model)?;
    let wanted: i64 = optimizer.layout().stretches().map(|own| own.len).sum();
    for (name, own) in optimizer.tensors() {
        let mut filled = 0;
        for file in &files {
            filled += fill((&name, &own), file, (optimizer, model))?;
        }
        if filled != wanted {
            return Err(TrainError::Input(format!(
                "{}: {name} has {filled} of {wanted} numbers",
                folder.join(INDEX).display()
            )));
        }
    }
    Ok(())
}

/// The files of `folder`, single or by shares.
fn state_files(folder: &Path, model: &Decoder) -> Result<Vec<StateFile>, TrainError> {
    let index = folder.join(INDEX);
    if !index.exists() {
        return Ok(vec![StateFile {
            path: folder.join(SINGLE),
            stretches: None,
        }]);
    }
    let said = |what: String| TrainError::Input(format!("{}: {what}", index.display()));
    let bytes = fs::read(&index).map_err(|error| said(error.to_string()))?;
    let read: OptimizerIndex =
        serde_json::from_slice(&bytes).map_err(|error| said(error.to_string()))?;
    let learn = model.params.trainable_len();
    if read.elements != learn {
        return Err(said(format!(
            "is of {} numbers, the network has {learn} that learn",
            read.elements
        )));
    }
    let stretch = |[start, len, local]: [i64; 3]| Stretch { start, local, len };
    Ok(read
        .shards
        .into_iter()
        .map(|shard| StateFile {
            path: folder.join(shard.file),
            stretches: Some(shard.ranges.into_iter().map(stretch).collect()),
        })
        .collect())
}

/// Copies what `file` holds of a share's tensor `own`; how many numbers that were.
fn fill(
    (name, own): (&str, &Tensor),
    file: &StateFile,
    (optimizer, model): (&AdamW, &Decoder),
) -> Result<i64, TrainError> {
    let said = |what: String| TrainError::Input(format!("{}: {what}", file.path.display()));
    let mapped = SafeTensorsFile::open(&file.path)?;
    let (stored, learn) = (mapped.shape(name)?, model.params.trainable_len());
    let whole = [Stretch {
        start: 0,
        local: 0,
        len: learn,
    }];
    let mut joint = None;
    if file.stretches.is_none() && stored != [learn] {
        // Of all parameters, with the frozen ones in their places.
        let all = mapped.part(name, 0, stored.iter().product())?;
        joint = Some(model.params.trainable_of_joint(&all).ok_or_else(|| {
            said(format!(
                "{name} has {stored:?} numbers, the network [{learn}] that learn"
            ))
        })?);
    }
    let mut filled = 0;
    for held in file.stretches.as_deref().unwrap_or(&whole) {
        let range = held.start..held.start + held.len;
        for own_part in optimizer.layout().stretches() {
            let Some(cut) = own_part.within(&range) else {
                continue;
            };
            let from = match &joint {
                Some(joint) => joint.narrow(0, cut.start, cut.len),
                None => mapped.part(name, held.local + cut.start - held.start, cut.len)?,
            };
            tch::no_grad(|| own.narrow(0, cut.local, cut.len).copy_(&from));
            filled += cut.len;
        }
    }
    Ok(filled)
}
