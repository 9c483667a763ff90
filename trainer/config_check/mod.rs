//! From a YAML file to a config type, with every mistake named by file, line and key.
//!
//! The keys, types and tags are checked against the type's JSON Schema before serde sees
//! the file: serde forgets positions inside tagged enums and knows no nearest key. Bounds
//! that involve several values are the config's own business; [`Document::problem`] gives
//! them the same form. The reference of all keys comes from the same schema.

mod check;
mod nearest;
mod overrides;
mod reference;
mod schema;
mod yaml;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use reference::reference_markdown;
pub use schema::schema;

use yaml::{Node, Origin};

/// A config that cannot be used. Always the user's input: exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// One sentence per mistake, each with file and line (or the `--set` it came from) and key.
    #[error("{}", problems.join("\n"))]
    Invalid {
        /// The sentences.
        problems: Vec<String>,
    },
}

/// A config file after its overrides, with the places of its keys.
#[derive(Debug)]
pub struct Document {
    file: String,
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

/// Reads `path`, applies `overrides` (`KEY=VALUE`, dotted keys, YAML values; a list element
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
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(&text, &path.display().to_string(), overrides)
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
    let invalid = |problem| ConfigError::Invalid {
        problems: vec![problem],
    };
    let mut root = yaml::parse(text, Origin::Line)
        .map_err(|(line, problem)| invalid(format!("{file}:{line}: {problem}")))?;
    for (index, set) in overrides.iter().enumerate() {
        overrides::apply(&mut root, set, index).map_err(invalid)?;
    }
    let document = Document {
        file: file.to_owned(),
        sets: overrides.to_vec(),
        root,
    };
    let problems = check::check(&schema::schema::<T>(), &document.root);
    if !problems.is_empty() {
        return Err(ConfigError::Invalid {
            problems: problems
                .into_iter()
                .map(|found| document.sentence(found.origin, &found.path, &found.problem))
                .collect(),
        });
    }
    let given = document.root.value();
    let config = serde_json::from_value(given.clone())
        .map_err(|error| invalid(format!("{file}: {error}")))?;
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
        let mut node = &self.root;
        for part in key.split('.') {
            match node.child(part) {
                Some(child) => node = child,
                None => break,
            }
        }
        ConfigError::Invalid {
            problems: vec![self.sentence(node.origin, key, problem)],
        }
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
        let place = match origin {
            Origin::Line(line) => format!("{}:{line}", self.file),
            Origin::Set(index) => format!("--set {}", self.sets[index]),
        };
        if path.is_empty() {
            format!("{place}: {problem}")
        } else {
            format!("{place}: {path}: {problem}")
        }
    }
}

#[cfg(test)]
mod tests;
