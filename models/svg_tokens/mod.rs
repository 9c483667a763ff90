//! A model folder with SVG tokens added: tokenizer, config and the rows of embedding and head.
//!
//! A new row is the mean of the rows, in the original matrix, of the pieces that the token used to be
//! split into; the head's rows likewise from the original head, where it is a matrix of its own.
//! Reserved rows behind the old vocabulary are overwritten as well. The matrices end up with exactly
//! as many rows as the tokenizer has ids. Everything else in the folder is copied.

mod list;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};
use tch::{Kind as Dtype, Tensor};
use tokenizers::AddedToken;

pub use list::{SvgTokenKind, SvgVocabulary, is_markup, svg_tokens};

use crate::json_section::read_object;
use crate::lora::{is_adapter, text_folder};
use crate::model_folder::{FolderUse, folder_problem};
use crate::shards::{WeightFiles, weight_files};
use crate::tensor_file::{read_tensors, write_tensors};
use crate::{ModelError, added_tokens};

/// What was done, as `extend_report.json` holds it.
#[derive(Debug, Serialize)]
pub struct Extension {
    /// Which list.
    pub vocabulary: SvgVocabulary,
    /// Ids before.
    pub ids_before: usize,
    /// Ids after.
    pub ids_after: usize,
    /// Rows of the embedding before, reserved ones included.
    pub rows_before: i64,
    /// Tokens added, by kind.
    pub added: BTreeMap<String, usize>,
    /// Strings that were tokens already.
    pub skipped: Vec<String>,
    /// The new tokens with their ids.
    pub tokens: Map<String, Value>,
    /// Tensors whose rows were extended.
    pub matrices: Vec<String>,
    /// Weight files that do not count and were not copied.
    pub not_copied: Vec<String>,
}

/// A token that is new, and what it used to be.
struct NewToken {
    id: i64,
    /// Ids of the pieces that it was split into.
    pieces: Vec<i64>,
}

/// Writes the folder `from`, with the tokens of `vocabulary` added, as `to`, which must not exist.
///
/// # Errors
/// A folder without a tokenizer, a config without `vocab_size`, no embedding among the tensors;
/// whatever the file system says.
pub fn extend_folder(
    from: &Path,
    to: &Path,
    vocabulary: SvgVocabulary,
) -> Result<Extension, ModelError> {
    // An empty folder is as good as none: the rename takes its place.
    let empty = fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_none());
    if to.exists() && !empty {
        return Err(ModelError::malformed(
            to,
            "is there already; name a new folder",
        ));
    }
    let path = from.join("tokenizer.json");
    if let Some(problem) = folder_problem(from, from, FolderUse::Policy) {
        return Err(ModelError::Folder(problem));
    }
    if is_adapter(from) {
        let reason = "is a LoRA adapter, which has no embedding to extend: `svgrl merge` writes a plain folder";
        return Err(ModelError::malformed(from, reason));
    }
    let mut tokenizer = tokenizers::Tokenizer::from_file(&path)
        .map_err(|error| ModelError::malformed(&path, error))?;
    added_tokens::complete(&mut tokenizer, from)?;
    let base = tokenizer.clone();
    let before = base.get_vocab_size(true);
    let (mut extension, new) = add(&mut tokenizer, &base, vocabulary)?;
    let config = config(from, extension.ids_after)?;
    // Written aside and renamed: the folder is whole or not there.
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let aside = to.with_file_name(format!(".{name}.partial"));
    let _ = fs::remove_dir_all(&aside);
    fs::create_dir_all(&aside).map_err(ModelError::io(&aside))?;
    let none = || ModelError::malformed(from, "holds no model.safetensors");
    let weights = weight_files(from, "model.safetensors")?.ok_or_else(none)?;
    let tensors = matrices(&weights, &aside, &new, (before, extension.ids_after))?;
    (extension.rows_before, extension.matrices) = tensors;
    if extension.matrices.is_empty() {
        return Err(ModelError::malformed(
            from,
            "no tensor *embed_tokens.weight or *lm_head.weight in its safetensors files",
        ));
    }
    extension.not_copied = copy_rest(from, &aside, &weights)?;
    let out = aside.join("tokenizer.json");
    tokenizer
        .save(&out, true)
        .map_err(|error| ModelError::malformed(&out, error))?;
    write_json(&aside.join("config.json"), &Value::Object(config))?;
    decoder_entries(from, &aside, &extension)?;
    let report =
        serde_json::to_value(&extension).map_err(|error| ModelError::malformed(&aside, error))?;
    write_json(&aside.join("extend_report.json"), &report)?;
    fs::rename(&aside, to).map_err(ModelError::io(to))?;
    Ok(extension)
}

/// How many tokens of `vocabulary` a folder's tokenizer does not have.
///
/// # Errors
/// A folder without a tokenizer.
pub fn lacking_tokens(folder: &Path, vocabulary: SvgVocabulary) -> Result<usize, ModelError> {
    let folder = &text_folder(folder);
    let path = folder.join("tokenizer.json");
    if let Some(problem) = folder_problem(folder, folder, FolderUse::Tokenizer) {
        return Err(ModelError::Folder(problem));
    }
    let mut tokenizer = tokenizers::Tokenizer::from_file(&path)
        .map_err(|error| ModelError::malformed(&path, error))?;
    added_tokens::complete(&mut tokenizer, folder)?;
    let lacks = |text: &String| tokenizer.token_to_id(text).is_none();
    let texts = svg_tokens(vocabulary).into_iter().map(|(_, text)| text);
    Ok(texts.filter(lacks).count())
}

/// Adds the tokens of `vocabulary` that `tokenizer` does not have, as [`extend_folder`] does.
///
/// # Errors
/// A token that it does not take.
pub(crate) fn extend_tokenizer(
    tokenizer: &mut tokenizers::Tokenizer,
    vocabulary: SvgVocabulary,
) -> Result<(), ModelError> {
    let base = tokenizer.clone();
    add(tokenizer, &base, vocabulary).map(drop)
}

/// Adds the strings that are no tokens yet.
fn add(
    tokenizer: &mut tokenizers::Tokenizer,
    base: &tokenizers::Tokenizer,
    vocabulary: SvgVocabulary,
) -> Result<(Extension, Vec<NewToken>), ModelError> {
    let mut extension = Extension {
        vocabulary,
        ids_before: base.get_vocab_size(true),
        ids_after: 0,
        rows_before: 0,
        added: BTreeMap::new(),
        skipped: Vec::new(),
        tokens: Map::new(),
        matrices: Vec::new(),
        not_copied: Vec::new(),
    };
    let mut new = Vec::new();
    for (kind, text) in svg_tokens(vocabulary) {
        if tokenizer.token_to_id(&text).is_some() {
            extension.skipped.push(text);
            continue;
        }
        let refused = |error: tokenizers::Error| {
            ModelError::malformed("tokenizer.json", format!("{text:?}: {error}"))
        };
        let pieces = base.encode_fast(text.as_str(), false).map_err(refused)?;
        tokenizer
            .add_tokens([AddedToken::from(text.clone(), false).normalized(false)])
            .map_err(refused)?;
        let id = tokenizer.token_to_id(&text).map(i64::from).ok_or_else(|| {
            ModelError::malformed("tokenizer.json", format!("{text:?} was not added"))
        })?;
        let name = serde_json::to_value(kind).ok();
        let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
        *extension.added.entry(name.to_owned()).or_default() += 1;
        extension.tokens.insert(text, json!(id));
        new.push(NewToken {
            id,
            pieces: pieces.get_ids().iter().map(|&id| i64::from(id)).collect(),
        });
    }
    extension.ids_after = tokenizer.get_vocab_size(true);
    Ok((extension, new))
}

/// The folder's config with its new vocabulary size, in every section that has one.
fn config(from: &Path, rows: usize) -> Result<Map<String, Value>, ModelError> {
    let path = from.join("config.json");
    let mut config = read_object(&path)?;
    let mut found = false;
    if let Some(size) = config.get_mut("vocab_size") {
        (*size, found) = (json!(rows), true);
    }
    for section in ["text_config", "llm_config"] {
        let section = config.get_mut(section).and_then(Value::as_object_mut);
        if let Some(size) = section.and_then(|section| section.get_mut("vocab_size")) {
            (*size, found) = (json!(rows), true);
        }
    }
    match found {
        true => Ok(config),
        false => Err(ModelError::unsupported(path, "vocab_size", "is missing")),
    }
}

/// Writes every weight file with its embedding and head extended; the old rows and the names. `ids` are the
/// tokenizer's numbers of ids before and after.
fn matrices(
    weights: &WeightFiles,
    to: &Path,
    new: &[NewToken],
    (ids_before, rows): (usize, usize),
) -> Result<(i64, Vec<String>), ModelError> {
    let (mut rows_before, mut extended) = (0, Vec::new());
    let mut grown = 0;
    for path in &weights.files {
        let out = to.join(path.file_name().unwrap_or_default());
        let mut tensors = read_tensors(path)?;
        let names: Vec<String> = tensors
            .keys()
            .filter(|name| {
                name.ends_with("embed_tokens.weight") || name.ends_with("lm_head.weight")
            })
            .cloned()
            .collect();
        if names.is_empty() {
            fs::copy(path, &out).map_err(ModelError::io(&out))?;
            continue;
        }
        for name in names {
            let old = &tensors[&name];
            if (old.size()[0] as usize) < ids_before {
                return Err(ModelError::malformed(
                    path,
                    format!(
                        "{name}: {} rows for a tokenizer of {ids_before} ids",
                        old.size()[0]
                    ),
                ));
            }
            rows_before = old.size()[0];
            let matrix = extend(old, new, rows as i64);
            grown += (matrix.numel() as i64 - old.numel() as i64) * width(old);
            tensors.insert(name.clone(), matrix);
            extended.push(name);
        }
        let tensors: Vec<(String, Tensor)> = tensors.into_iter().collect();
        write_tensors(&out, &tensors)?;
    }
    if let Some(index) = &weights.index {
        let mut map = read_object(index)?;
        let total = map
            .get_mut("metadata")
            .and_then(|metadata| metadata.get_mut("total_size"));
        if let Some(total) = total
            && let Some(before) = total.as_i64()
        {
            *total = json!(before + grown);
        }
        write_json(
            &to.join("model.safetensors.index.json"),
            &Value::Object(map),
        )?;
    }
    Ok((rows_before, extended))
}

/// `old [R, H]` with `rows` rows, the new tokens' being means of old ones, taken in float32.
fn extend(old: &Tensor, new: &[NewToken], rows: i64) -> Tensor {
    let wide = old.to_kind(Dtype::Float);
    let out = Tensor::zeros([rows, old.size()[1]], (Dtype::Float, old.device()));
    let kept = rows.min(old.size()[0]);
    out.narrow(0, 0, kept).copy_(&wide.narrow(0, 0, kept));
    let everything = wide.mean_dim([0i64].as_slice(), false, Dtype::Float);
    for token in new {
        let known: Vec<i64> = token
            .pieces
            .iter()
            .copied()
            .filter(|id| *id < old.size()[0])
            .collect();
        let row = match known.is_empty() {
            true => everything.shallow_clone(),
            false => wide.index_select(0, &Tensor::from_slice(&known)).mean_dim(
                [0i64].as_slice(),
                false,
                Dtype::Float,
            ),
        };
        out.get(token.id).copy_(&row);
    }
    out.to_kind(old.kind())
}

fn width(tensor: &Tensor) -> i64 {
    tensor.kind().elt_size_in_bytes() as i64
}

/// Copies what is neither weights nor rewritten; the names of weight files that do not count.
fn copy_rest(from: &Path, to: &Path, weights: &WeightFiles) -> Result<Vec<String>, ModelError> {
    let rewritten: HashSet<&str> = ["tokenizer.json", "config.json"].into();
    let mut not_copied = Vec::new();
    for path in entries(from)? {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let ends = |ending: &str| name.ends_with(ending);
        let holds_weights = [
            ".safetensors",
            ".bin",
            ".safetensors.index.json",
            ".bin.index.json",
        ];
        if holds_weights.iter().any(|ending| ends(ending)) {
            let counts = weights.files.contains(&path) || weights.index.as_ref() == Some(&path);
            not_copied.extend((!counts).then_some(name));
        } else if path.is_file() && !rewritten.contains(name.as_str()) {
            fs::copy(&path, to.join(&name)).map_err(ModelError::io(&path))?;
        }
    }
    Ok(not_copied)
}

/// Older folders list added tokens beside tokenizer.json too; there the new ones are entered.
fn decoder_entries(from: &Path, to: &Path, extension: &Extension) -> Result<(), ModelError> {
    let path = from.join("tokenizer_config.json");
    if path.exists() {
        let mut map = read_object(&path)?;
        if let Some(Value::Object(decoder)) = map.get_mut("added_tokens_decoder") {
            for (text, id) in &extension.tokens {
                let entry = json!({"content": text, "lstrip": false, "normalized": false,
                    "rstrip": false, "single_word": false, "special": false});
                decoder.insert(id.to_string(), entry);
            }
            write_json(&to.join("tokenizer_config.json"), &Value::Object(map))?;
        }
    }
    let path = from.join("added_tokens.json");
    if path.exists() {
        let mut map = read_object(&path)?;
        map.extend(extension.tokens.clone());
        write_json(&to.join("added_tokens.json"), &Value::Object(map))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|read| read.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(ModelError::io(folder))?;
    paths.sort();
    Ok(paths)
}

fn write_json(path: &Path, value: &Value) -> Result<(), ModelError> {
    fs::write(path, format!("{value:#}\n")).map_err(ModelError::io(path))
}
