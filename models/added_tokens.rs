//! Tokens that a folder lists beside tokenizer.json, as transformers 5 adds them: tokenizer_config.json's
//! `added_tokens_decoder`, in its absence added_tokens.json, and tokens named as special ones. And which tokens
//! are no part of a completion's text.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::ModelError;
use crate::json_section::read_object;
use crate::svg_tokens::is_markup;

/// Keys of tokenizer_config.json and special_tokens_map.json that name one token each.
const NAMES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// Keys that name several.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// Adds to `inner`, read from the folder's tokenizer.json, what the files beside it list.
///
/// # Errors
/// A malformed file; a token that two files give different ids.
pub(crate) fn complete(inner: &mut tokenizers::Tokenizer, folder: &Path) -> Result<(), ModelError> {
    let special = special_names(folder)?;
    let (file, listed) = listed(folder, &special)?;
    for (id, token) in listed {
        let known = inner.get_added_tokens_decoder();
        if !known.values().any(|other| other.content == token.content) {
            add(inner, &folder.join(file), token.clone())?;
        }
        let own = inner.token_to_id(&token.content);
        if own != Some(id) {
            let own = own.map_or("no id".to_owned(), |own| format!("the id {own}"));
            return Err(ModelError::unsupported(
                folder.join(file),
                format!("{:?}", token.content),
                format!(
                    "has the id {id} here and {own} by tokenizer.json: one of the two files is not this tokenizer's"
                ),
            ));
        }
    }
    for name in special {
        let known = inner.get_added_tokens_decoder();
        let is_word = inner.token_to_id(&name).is_some();
        if is_word && !known.values().any(|other| other.content == name) {
            let token = AddedToken::from(name, true);
            add(inner, &folder.join("tokenizer_config.json"), token)?;
        }
    }
    Ok(())
}

fn add(
    inner: &mut tokenizers::Tokenizer,
    file: &Path,
    token: AddedToken,
) -> Result<(), ModelError> {
    let refused = |error: tokenizers::Error| ModelError::malformed(file, error);
    match token.special {
        true => inner.add_special_tokens([token]).map_err(refused)?,
        false => inner.add_tokens([token]).map_err(refused)?,
    };
    Ok(())
}

/// What the files beside tokenizer.json list, by id, and the file that does.
fn listed(
    folder: &Path,
    special: &[String],
) -> Result<(&'static str, BTreeMap<u32, AddedToken>), ModelError> {
    let file = "tokenizer_config.json";
    if let Some(Value::Object(decoder)) = object(folder, file)?.get("added_tokens_decoder") {
        let read = |(id, token): (&String, &Value)| {
            let wrong = || {
                let key = format!("added_tokens_decoder.{id}");
                ModelError::unsupported(folder.join(file), key, "must be an id and its token")
            };
            let id = id.parse().map_err(|_| wrong())?;
            let token = token_of(token).ok_or_else(wrong)?;
            Ok((id, token))
        };
        let tokens: Result<_, ModelError> = decoder.iter().map(read).collect();
        return Ok((file, tokens?));
    }
    let file = "added_tokens.json";
    let read = |(text, id): (&String, &Value)| {
        let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let id = id.ok_or_else(|| {
            ModelError::unsupported(folder.join(file), text, "must be a token's id")
        })?;
        Ok((id, AddedToken::from(text.clone(), special.contains(text))))
    };
    let tokens: Result<_, ModelError> = object(folder, file)?.iter().map(read).collect();
    Ok((file, tokens?))
}

/// A token as tokenizer_config.json writes it; its defaults are those of `AddedToken`.
fn token_of(value: &Value) -> Option<AddedToken> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    let token = AddedToken::from(value.get("content")?.as_str()?, special)
        .single_word(flag("single_word").unwrap_or(false))
        .lstrip(flag("lstrip").unwrap_or(false))
        .rstrip(flag("rstrip").unwrap_or(false));
    Some(token.normalized(flag("normalized").unwrap_or(!special)))
}

/// The tokens that the folder's files name as special ones.
fn special_names(folder: &Path) -> Result<Vec<String>, ModelError> {
    let mut names = Vec::new();
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        let map = object(folder, file)?;
        names.extend(NAMES.iter().filter_map(|key| content(map.get(*key)?)));
        for key in LISTS {
            if let Some(Value::Array(tokens)) = map.get(key) {
                names.extend(tokens.iter().filter_map(content));
            }
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The text of a token that is written as a string or as an object.
pub(crate) fn content(token: &Value) -> Option<String> {
    let text = token.as_str().or_else(|| token.get("content")?.as_str());
    text.map(str::to_owned)
}

/// The file's object; an empty one where the file is not there.
fn object(folder: &Path, file: &str) -> Result<Map<String, Value>, ModelError> {
    let path = folder.join(file);
    match path.exists() {
        true => read_object(&path),
        false => Ok(Map::new()),
    }
}

/// Ids that a completion's text leaves out: the `ends` and what pads or begins a sequence, and special tokens
/// that the chat template writes. Markup is text, whatever it is flagged as: `<think>`, `</svg>`.
///
/// # Errors
/// A malformed file.
pub(crate) fn markers(
    inner: &tokenizers::Tokenizer,
    folder: &Path,
    ends: &[i64],
) -> Result<HashSet<u32>, ModelError> {
    let config = object(folder, "tokenizer_config.json")?;
    let map = object(folder, "special_tokens_map.json")?;
    let named = ["bos_token", "eos_token", "pad_token"].map(|key| {
        let token = config.get(key).or_else(|| map.get(key));
        inner.token_to_id(&content(token?)?)
    });
    let ends = ends.iter().filter_map(|id| u32::try_from(*id).ok());
    let mut ids: HashSet<u32> = ends.chain(named.into_iter().flatten()).collect();
    let template = template(folder, &config)?;
    for (id, token) in inner.get_added_tokens_decoder() {
        if token.special && template.contains(&token.content) {
            ids.insert(id);
        }
    }
    ids.retain(|id| inner.id_to_token(*id).is_none_or(|text| !is_markup(&text)));
    Ok(ids)
}

/// The text of the folder's chat templates, all of them.
fn template(folder: &Path, config: &Map<String, Value>) -> Result<String, ModelError> {
    let mut text = std::fs::read_to_string(folder.join("chat_template.jinja")).unwrap_or_default();
    let beside = object(folder, "chat_template.json")?;
    let values = [config.get("chat_template"), beside.get("chat_template")];
    text.extend(values.into_iter().flatten().map(Value::to_string));
    Ok(text)
}
