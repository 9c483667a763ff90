//! What was judged so far, an item a line, so that an evaluation that was interrupted goes on where it was. A line counts
//! for the same prediction, reference and caption, judged in the same way by the same networks: its key is a digest of
//! all of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

use super::config::SuiteConfig;
use super::item::EvalItem;
use super::picture_metric::PictureMetric;
use super::picture_task::{EvalReference, PictureCase, PictureTask};
use super::prediction::Prediction;
use crate::TrainError;
use crate::files::{make_folder, open_log, write_whole};
use crate::inputs::{encoder_digest, hex_digest};

/// The file's name in a result's folder.
const FILE: &str = "scored.jsonl";

/// An item that is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedCase {
    /// Digest of what was judged, and by what.
    pub key: String,
    /// Its numbers.
    pub item: EvalItem,
    /// Its features that numbers of all items together are made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<KeptFeatures>,
}

/// Features of an item.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptFeatures {
    /// What they are for.
    pub metric: PictureMetric,
    /// The prediction's, and the reference's where it is compared by sets.
    pub sides: Vec<Vec<f32>>,
}

/// What is known from before.
#[derive(Debug)]
pub struct KnownCases {
    setup: String,
    cases: HashMap<String, JudgedCase>,
    /// Keys by task and id, to tell what has changed.
    ids: HashMap<(String, String), String>,
    counts: Mutex<ReusedCounts>,
}

/// How much was taken over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReusedCounts {
    /// Items that were judged before.
    pub known: usize,
    /// Items that were judged before as something else, or by something else.
    pub changed: usize,
}

/// A journal that is being written.
#[derive(Debug)]
pub struct ScoreJournal {
    known: Arc<KnownCases>,
    path: PathBuf,
    file: File,
}

impl ScoreJournal {
    /// The journal of the result in `folder`, with what of it can be read, for `config`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(folder: &Path, config: &SuiteConfig) -> Result<Self, TrainError> {
        make_folder(folder)?;
        let path = folder.join(FILE);
        let (mut cases, mut ids, mut lines) = (HashMap::new(), HashMap::new(), 0);
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
            for line in text.lines() {
                lines += 1;
                // A torn line is judged again.
                let Ok(case) = serde_json::from_str::<JudgedCase>(line) else {
                    continue;
                };
                let id = (case.item.task.clone(), case.item.id.clone());
                if let Some(before) = ids.insert(id, case.key.clone()) {
                    cases.remove(&before);
                }
                cases.insert(case.key.clone(), case);
            }
        }
        if lines > cases.len() {
            let kept: Result<String, TrainError> = cases.values().map(line).collect();
            write_whole(&path, kept?.as_bytes())?;
        }
        let file = open_log(&path)?;
        let known = KnownCases {
            setup: setup(config)?,
            cases,
            ids,
            counts: Mutex::default(),
        };
        Ok(Self {
            known: Arc::new(known),
            path,
            file,
        })
    }

    /// What is known from before, for other threads.
    pub fn known(&self) -> Arc<KnownCases> {
        self.known.clone()
    }

    /// Adds what was just judged.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn add<'a>(
        &mut self,
        judged: impl Iterator<Item = &'a JudgedCase>,
    ) -> Result<(), TrainError> {
        let lines: Result<String, TrainError> = judged.map(line).collect();
        self.file
            .write_all(lines?.as_bytes())
            .map_err(TrainError::io(&self.path))
    }

    /// What was taken over, in a sentence; none where nothing was there before.
    pub fn told(&self) -> Option<String> {
        let ReusedCounts { known, changed } = self.known.counts();
        if known + changed == 0 {
            return None;
        }
        let path = self.path.display();
        let mut said = format!("{known} items were judged before and are taken over ({path})");
        if changed > 0 {
            said += &format!(
                "; {changed} are not what they were, or are judged by something else, and are judged anew"
            );
        }
        Some(said)
    }
}

impl KnownCases {
    /// The key of a case of `task`.
    pub fn key(&self, task: &PictureTask, case: &PictureCase) -> String {
        let row = &task.rows[case.row];
        let mut hasher = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(self.setup.as_bytes());
        let task_setup = format!("{:?} {:?}", task.canvas, task.metrics);
        for part in [&task.name, &row.id, &task_setup] {
            add(part.as_bytes());
        }
        add(format!("{:?}", row.caption).as_bytes());
        match &row.reference {
            EvalReference::Absent => {}
            EvalReference::File(path) => add(&content(path)),
            EvalReference::Svg(source) => add(source.as_bytes()),
        }
        match &case.prediction {
            Prediction::Given(path, svg) => {
                add(&content(path));
                add(format!("given {svg:?}").as_bytes());
            }
            Prediction::StandIn(path, why) => {
                add(&content(path));
                add(format!("stands for {why}").as_bytes());
            }
            Prediction::Svg(source) => add(format!("svg {source}").as_bytes()),
            Prediction::Missing(why) => add(format!("missing {why}").as_bytes()),
        }
        let key = hex_digest(hasher);
        let id = (task.name.clone(), row.id.clone());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match self.ids.get(&id) {
            Some(before) if *before == key => counts.known += 1,
            Some(_) => counts.changed += 1,
            None => {}
        }
        key
    }

    /// What was judged under a key.
    pub fn find(&self, key: &str) -> Option<JudgedCase> {
        self.cases.get(key).cloned()
    }

    fn counts(&self) -> ReusedCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file's bytes, or why there are none.
fn content(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| error.to_string().into_bytes())
}

/// What of a config decides an item's numbers.
fn setup(config: &SuiteConfig) -> Result<String, TrainError> {
    let mut parts = vec![env!("CARGO_PKG_VERSION").to_owned()];
    parts.push(config.deadline_ms.to_string());
    let tokenizer = config.tokenizer.as_deref().map(|path| ("tokenizer", path));
    let networks = config.encoders.each().into_iter();
    let networks = networks.filter_map(|(key, path)| Some((key, path?)));
    for (key, path) in networks.chain(tokenizer) {
        parts.push(format!("{key} {}", encoder_digest(path)?));
    }
    Ok(parts.join("\n"))
}

fn line(case: &JudgedCase) -> Result<String, TrainError> {
    let text = serde_json::to_string(case);
    let text = text.map_err(|error| TrainError::Other(format!("{FILE}: {error}")))?;
    Ok(text + "\n")
}

/// As `["fid", "<base64 of little-endian float32>", ..]`.
impl Serialize for KeptFeatures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let code = |side: &Vec<f32>| {
            let bytes: Vec<u8> = side.iter().flat_map(|value| value.to_le_bytes()).collect();
            STANDARD.encode(bytes)
        };
        let sides = self.sides.iter().map(code);
        let all: Vec<String> = std::iter::once(self.metric.name().to_owned())
            .chain(sides)
            .collect();
        all.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeptFeatures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<String>::deserialize(deserializer)?;
        let Some((name, sides)) = all.split_first() else {
            return Err(D::Error::custom("features without a name"));
        };
        let metric = PictureMetric::named(name);
        let metric = metric.ok_or_else(|| D::Error::custom(format!("{name}: no metric")))?;
        let decode = |code: &String| {
            let bytes = STANDARD.decode(code).map_err(D::Error::custom)?;
            let (values, rest) = bytes.as_chunks::<4>();
            match rest.is_empty() {
                true => Ok(values
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes))
                    .collect()),
                false => Err(D::Error::custom("features of a broken length")),
            }
        };
        let sides = sides.iter().map(decode).collect::<Result<_, D::Error>>()?;
        Ok(Self { metric, sides })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_line_and_an_older_one_are_dropped_and_features_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let case = |key: &str, id: &str| JudgedCase {
            key: key.into(),
            item: EvalItem::new("a", id, None),
            features: vec![KeptFeatures {
                metric: PictureMetric::Fid,
                sides: vec![vec![0.1, f32::MIN_POSITIVE], vec![-3.5e7, 1.0]],
            }],
        };
        let config = SuiteConfig::default();
        let mut journal = ScoreJournal::open(folder.path(), &config).unwrap();
        let all = [case("1", "x"), case("2", "y"), case("3", "x")];
        journal.add(all.iter()).unwrap();
        journal.file.write_all(b"{\"key\": \"4\", \"it").unwrap();
        assert_eq!(journal.told(), None);
        let journal = ScoreJournal::open(folder.path(), &config).unwrap();
        let known = journal.known();
        assert_eq!(known.find("3"), Some(all[2].clone()));
        assert_eq!(known.find("2"), Some(all[1].clone()));
        assert_eq!((known.find("1"), known.find("4")), (None, None));
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
