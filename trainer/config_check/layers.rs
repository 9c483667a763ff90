//! A config file and what stands under it: the file that its key `base` names, and so on. Each keeps its lines, so
//! that a mistake is told in the file that holds it, and its folder, which its paths are relative to.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::ConfigError;
use super::merge::merge;
use super::schema::properties;
use super::yaml::{self, Node, NodeKind, Origin};

/// The key that names the file below.
const BASE: &str = "base";

/// A config file as it was read.
#[derive(Debug, Clone)]
pub struct GivenFile {
    /// Where it lies.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
}

impl GivenFile {
    /// Reads it.
    pub(super) fn read(path: &Path) -> Result<Self, std::io::Error> {
        Ok(Self {
            path: path.to_owned(),
            text: std::fs::read_to_string(path)?,
        })
    }

    /// The folder that it lies in.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// The files, the one that was given first, and what they come to.
pub(super) struct Layers {
    pub(super) files: Vec<GivenFile>,
    pub(super) root: Node,
}

/// Where something stands, for people.
pub(super) fn place(files: &[GivenFile], sets: &[String], origin: Origin) -> String {
    match origin {
        Origin::Line { file, line } => format!("{}:{line}", files[file].path.display()),
        Origin::Set(index) => format!("--set {}", sets[index]),
    }
}

impl Layers {
    /// Reads the files under `first` and puts them together by `schema`; a schema without the key `base` has none.
    ///
    /// # Errors
    /// A base that cannot be read or is among the files above it; what is not YAML; a stage that the base lacks.
    pub(super) fn of(first: GivenFile, schema: &Value) -> Result<Self, ConfigError> {
        let has_base = properties(schema).is_some_and(|keys| keys.contains_key(BASE));
        let mut files = vec![first];
        let mut roots = Vec::new();
        loop {
            let at = files.len() - 1;
            let file = &files[at];
            let mut root = yaml::parse(&file.text, at).map_err(|(line, problem)| {
                ConfigError::one(format!("{}:{line}: {problem}", file.path.display()))
            })?;
            let below = match has_base {
                true => take_base(&mut root, &files)?,
                false => None,
            };
            roots.push(root);
            match below {
                Some(below) => files.push(below),
                None => break,
            }
        }
        let mut merged: Option<Node> = None;
        for own in roots.into_iter().rev() {
            merged = Some(match merged {
                None => own,
                Some(base) => merge(schema, base, own).map_err(|wrong| {
                    let place = place(&files, &[], wrong.origin);
                    ConfigError::one(format!("{place}: {}: {}", wrong.path, wrong.problem))
                })?,
            });
        }
        let root = merged.unwrap_or_else(|| Node::empty(Origin::Line { file: 0, line: 1 }));
        Ok(Self { files, root })
    }
}

/// Takes the key `base` out of the last file's `root` and reads the file that it names.
fn take_base(root: &mut Node, files: &[GivenFile]) -> Result<Option<GivenFile>, ConfigError> {
    let NodeKind::Map(map) = &mut root.kind else {
        return Ok(None);
    };
    let Some((_, node)) = map.shift_remove(BASE) else {
        return Ok(None);
    };
    let wrong = |problem: String| {
        let place = place(files, &[], node.origin);
        ConfigError::one(format!("{place}: {BASE}: {problem}"))
    };
    let name = match &node.kind {
        NodeKind::Scalar(Value::String(name)) if !name.is_empty() => name,
        NodeKind::Scalar(Value::Null) => return Ok(None),
        _ => return Err(wrong("must be the path of another config".into())),
    };
    let folder = files.last().map_or(Path::new(""), GivenFile::folder);
    let path = folder.join(name);
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let found = real(&path);
    if let Some(at) = files.iter().position(|above| real(&above.path) == found) {
        let circle = files[at..]
            .iter()
            .map(|file| file.path.display().to_string());
        let circle: Vec<String> = circle.chain([path.display().to_string()]).collect();
        return Err(wrong(format!("goes in a circle: {}", circle.join(" -> "))));
    }
    let read = GivenFile::read(&path);
    read.map(Some)
        .map_err(|error| wrong(format!("cannot read {}: {error}", path.display())))
}
