//! From a YAML file, and the files that it names as `base`, to a config type, with every mistake named by file, line
//! and key.
//!
//! The keys, types and tags are checked against the type's JSON Schema before serde sees
//! the file: serde forgets positions inside tagged enums and knows no nearest key. Bounds
//! that involve several values are the config's own business; [`Document::problem`] gives
//! them the same form. The reference of all keys comes from the same schema.

mod check;
mod error;
mod layers;
mod merge;
mod nearest;
mod overrides;
mod reference;
mod schema;
mod yaml;

use std::path::Path;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use error::ConfigError;
pub use layers::GivenFile;
pub(crate) use nearest::nearest;
pub use reference::reference_markdown;
pub use schema::{editor_schema, schema};

use layers::Layers;
use yaml::{Node, Origin};

/// A config file over its bases, after its overrides, with the places of its keys.
#[derive(Debug)]
pub struct Document {
    files: Vec<GivenFile>,
    sets: Vec<String>,
    root: Node,
}

/// A checked config.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The config, defaults filled in.
    pub config: T,
    /// What was given: the file with its overrides, without defaults.
    pub given: Value,
    /// Places of the keys, for checks that come later.
    pub document: Document,
}

/// Reads `path` and its bases, applies `overrides` (`KEY=VALUE`, dotted keys, YAML values; a list element
/// is addressed by index or by its `name`) and checks the whole against `T`. The second
/// value is what was given, without defaults.
///
/// # Errors
/// [`ConfigError`], with every mistake that the check finds.
pub fn load<T: JsonSchema + DeserializeOwned>(
    path: &Path,
    overrides: &[String],
) -> Result<(T, Value), ConfigError> {
    load_located(path, overrides).map(|loaded| (loaded.config, loaded.given))
}

/// [`load`], keeping the places of the keys.
///
/// # Errors
/// As [`load`].
pub fn load_located<T: JsonSchema + DeserializeOwned>(
    path: &Path,
    overrides: &[String],
) -> Result<Loaded<T>, ConfigError> {
    let file = GivenFile::read(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse_file(file, overrides)
}

/// [`load_located`] of a text; `file` is the name that messages use.
///
/// # Errors
/// As [`load`].
pub fn parse<T: JsonSchema + DeserializeOwned>(
    text: &str,
    file: &str,
    overrides: &[String],
) -> Result<Loaded<T>, ConfigError> {
    let file = GivenFile {
        path: file.into(),
        text: text.to_owned(),
    };
    parse_file(file, overrides)
}

fn parse_file<T: JsonSchema + DeserializeOwned>(
    file: GivenFile,
    overrides: &[String],
) -> Result<Loaded<T>, ConfigError> {
    let schema = schema::schema::<T>();
    let Layers { files, mut root } = Layers::of(file, &schema)?;
    for (index, set) in overrides.iter().enumerate() {
        overrides::apply(&mut root, set, index).map_err(ConfigError::one)?;
    }
    let document = Document {
        files,
        sets: overrides.to_vec(),
        root,
    };
    let problems = check::check(&schema, &document.root);
    if !problems.is_empty() {
        return Err(ConfigError::Invalid {
            problems: problems
                .into_iter()
                .map(|found| document.sentence(found.origin, &found.path, &found.problem))
                .collect(),
        });
    }
    let given = document.root.value();
    let config = serde_json::from_value(given.clone()).map_err(|error| {
        ConfigError::one(format!("{}: {error}", document.files[0].path.display()))
    })?;
    Ok(Loaded {
        config,
        given,
        document,
    })
}

impl Document {
    /// The error about one dotted key (`stages.1.rollout.group_size`), with the place of the
    /// key or of the nearest section above it.
    pub fn problem(&self, key: &str, problem: &str) -> ConfigError {
        ConfigError::one(self.sentence(self.nearest_to(key).origin, key, problem))
    }

    /// The files that it was read from: the one given first, then its base, the base's base and so on.
    pub fn files(&self) -> &[GivenFile] {
        &self.files
    }

    /// The folder that the path at a dotted key is relative to: that of the file that holds it. What an override
    /// says is relative to the folder of the file that was given.
    pub fn folder_of(&self, key: &str) -> &Path {
        let file = match self.nearest_to(key).origin {
            Origin::Line { file, .. } => file,
            Origin::Set(_) => 0,
        };
        self.files[file].folder()
    }

    /// What stands at a dotted key, or the nearest section above it.
    fn nearest_to(&self, key: &str) -> &Node {
        let mut node = &self.root;
        let mut rest = key;
        while let Some((child, behind)) = next_part(node, rest) {
            (node, rest) = (child, behind);
        }
        node
    }

    /// An error of a later check, told with its place if it begins with a key of this file.
    pub fn locate(&self, error: &str) -> Option<ConfigError> {
        let (key, problem) = error.split_once(": ")?;
        let mut parts = key.split('.');
        let section = self.root.child(parts.next()?)?;
        // A file may be called as a section is: `data.svg` is no key.
        match parts.next() {
            Some(part) if section.child(part).is_none() => None,
            _ => Some(self.problem(key, problem)),
        }
    }

    fn sentence(&self, origin: Origin, path: &str, problem: &str) -> String {
        let place = layers::place(&self.files, &self.sets, origin);
        if path.is_empty() {
            format!("{place}: {problem}")
        } else {
            format!("{place}: {path}: {problem}")
        }
    }
}

/// What the beginning of a dotted key addresses in a node, and the key behind it; names of the user's own may have dots
/// themselves.
fn next_part<'a, 'k>(node: &'a Node, key: &'k str) -> Option<(&'a Node, &'k str)> {
    let dots = key.match_indices('.').map(|(at, _)| at);
    let mut ends = dots.chain([key.len()]);
    ends.find_map(|end| {
        let behind = key[end..].strip_prefix('.').unwrap_or_default();
        Some((node.child(&key[..end])?, behind))
    })
}

#[cfg(test)]
mod tests;
