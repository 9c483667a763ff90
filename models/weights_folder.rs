//! A policy out of a Hugging Face folder: config.json and weights, single or sharded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind};

use crate::folder_export::save_folder;
use crate::model_folder::{FolderUse, folder_problem};
use crate::params::Component;
use crate::shards::locate;
use crate::tensor_file::{SafeTensorsFile, to_tensor};
use crate::vision::WeightNaming;
use crate::{Decoder, DecoderConfig, ModelError, ParamSpec, ParamTable};

/// How the names of a tied pair end.
const HEAD: &str = "lm_head.weight";
const EMBEDDING: &str = "embed_tokens.weight";

/// How a folder is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoadOptions<'a> {
    /// Parts whose weights lie apart from those that can learn.
    pub frozen: &'a [Component],
    /// Patterns (`*` stands for anything) of tensors that are left out where the network has none of that name.
    pub ignore: &'a [String],
}

/// The tensors of `folder` that one of `patterns` means.
///
/// # Errors
/// Weights that cannot be read.
pub fn matching_tensors(folder: &Path, patterns: &[String]) -> Result<Vec<String>, ModelError> {
    let names = locate(folder)?.into_keys();
    Ok(names.filter(|name| is_any(patterns, name)).collect())
}

fn is_any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| matches(pattern, name))
}

/// Whether `name` is what `pattern` describes, in which `*` stands for any letters or none.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(name) = name.strip_prefix(first) else {
        return false;
    };
    let mut ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    ends.any(|at| matches(rest, &name[at..]))
}

/// `config.json` of `folder`, its tensors' names as the weights beside it have them.
///
/// # Errors
/// Whatever [`DecoderConfig::read`] refuses; weights that are not there.
pub(crate) fn read_config(folder: &Path) -> Result<DecoderConfig, ModelError> {
    if let Some(problem) = folder_problem(folder, folder, FolderUse::Policy) {
        return Err(ModelError::Folder(problem));
    }
    let mut config = DecoderConfig::read(folder)?;
    if let Some(setup) = &config.vision {
        let places = locate(folder)?;
        config.names =
            WeightNaming::detect(&setup.tower.network, places.keys().map(String::as_str));
    }
    Ok(config)
}

/// A decoder of `config` with the weights of `folder`.
///
/// # Errors
/// Missing, unknown or misshapen tensors, all by name.
pub(crate) fn load_weights(
    config: DecoderConfig,
    folder: &Path,
    options: LoadOptions,
    (kind, device): (Kind, Device),
) -> Result<Decoder, ModelError> {
    let model = Decoder::with_frozen(config, options.frozen, kind, device);
    fill(&model.params, folder, model.config.tied, options.ignore)?;
    Ok(model)
}

/// Fills `params` from the weights of `folder`.
///
/// # Errors
/// Missing, unknown or misshapen tensors, all by name.
pub(crate) fn fill(
    params: &ParamTable,
    folder: &Path,
    tied: bool,
    ignore: &[String],
) -> Result<(), ModelError> {
    let places = locate(folder)?;
    let head = tied.then(|| places.keys().find(|name| name.ends_with(HEAD)));
    let head = head.flatten().map(String::as_str);
    let specs = params.specs().iter();
    let wanted: BTreeMap<&str, &ParamSpec> = specs
        .map(|spec| {
            // Of a tied pair the head alone may be stored: the first name of the alphabet.
            let absent = spec.name.ends_with(EMBEDDING) && !places.contains_key(&spec.name);
            let stored = head.filter(|_| absent).unwrap_or(spec.name.as_str());
            (stored, spec)
        })
        .collect();
    // A tied head may be stored all the same, and old checkpoints carry rotary buffers.
    let ignorable = |name: &str| {
        (tied && name.ends_with(HEAD))
            || name.ends_with("rotary_emb.inv_freq")
            || is_any(ignore, name)
    };
    let missing: Vec<&str> = wanted
        .keys()
        .filter(|name| !places.contains_key(**name))
        .copied()
        .collect();
    let unknown: Vec<&str> = places
        .keys()
        .map(String::as_str)
        .filter(|name| !wanted.contains_key(name) && !ignorable(name))
        .collect();
    let mut faults = Vec::new();
    if !missing.is_empty() {
        faults.push(format!("missing tensors: {}", missing.join(", ")));
    }
    if !unknown.is_empty() {
        faults.push(format!(
            "unknown tensors: {} (model.ignore leaves out those that a pattern such as \"v_head.*\" means)",
            unknown.join(", ")
        ));
    }
    let mut files: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for (name, path) in &places {
        if wanted.contains_key(name.as_str()) {
            files.entry(path).or_default().push(name);
        }
    }
    for (path, names) in files {
        let file = SafeTensorsFile::open(path)?;
        let tensors = file.tensors()?;
        for name in names {
            let spec = wanted[name];
            let view = tensors.tensor(name).map_err(|_| not_there(path, name))?;
            let tensor = to_tensor(path, name, &view)?;
            if tensor.size() != spec.shape {
                faults.push(format!(
                    "{name} has shape {:?}, config.json asks for {:?}",
                    tensor.size(),
                    spec.shape
                ));
            } else {
                tch::no_grad(|| params.view(spec).copy_(&tensor));
            }
        }
    }
    let both = head.is_some_and(|head| !wanted.contains_key(head));
    if both && faults.is_empty() {
        faults.extend(other_head(params, &places)?);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(ModelError::Tensors {
            path: folder.to_owned(),
            reason: faults.join("; "),
        })
    }
}

/// What is wrong with a head that is stored beside the matrix it is tied to: transformers uses one
/// with numbers of its own, so that it cannot be left out silently.
fn other_head(
    params: &ParamTable,
    places: &BTreeMap<String, PathBuf>,
) -> Result<Option<String>, ModelError> {
    let head = places.iter().find(|(name, _)| name.ends_with(HEAD));
    let embedding = params
        .specs()
        .iter()
        .find(|spec| spec.name.ends_with(EMBEDDING));
    let (Some((name, path)), Some(embedding)) = (head, embedding) else {
        return Ok(None);
    };
    let file = SafeTensorsFile::open(path)?;
    let tensors = file.tensors()?;
    let view = tensors.tensor(name).map_err(|_| not_there(path, name))?;
    let stored = to_tensor(path, name, &view)?;
    let matrix = params.view(embedding).to_device(Device::Cpu);
    let same = stored.size() == matrix.size() && stored.to_kind(matrix.kind()) == matrix;
    Ok((!same).then(|| {
        format!(
            "{name} differs from {} although tie_word_embeddings is true; set that to false in \
             config.json to use the head, or leave the head out",
            embedding.name
        )
    }))
}

fn not_there(path: &Path, name: &str) -> ModelError {
    ModelError::malformed(path, format!("{name} is no longer in the file"))
}

/// Fresh weights for the policy that `config.json` of `folder` describes, beside it; the same for the same `seed`.
/// What else the network reads (its processor's file, the tokenizer) must be there.
///
/// # Errors
/// Whatever [`DecoderConfig::read`] refuses, and the file system.
pub fn write_fresh_policy(folder: &Path, seed: u64) -> Result<(), ModelError> {
    let config = DecoderConfig::read(folder)?;
    let model = Decoder::new(config, Kind::Float, Device::Cpu);
    model.randomise(seed);
    save_folder(&model, Kind::Float, folder)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name) in [
            ("v_head.*", "v_head.summary.weight"),
            ("*.inv_freq", "model.layers.0.inv_freq"),
            ("score.weight", "score.weight"),
            ("*", "anything"),
            ("a*c*e", "abcde"),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("v_head.*", "model.v_head.weight"),
            ("score", "score.weight"),
            ("a*c", "abcd"),
            ("", "a"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
