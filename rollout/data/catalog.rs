//! All opened sources of a config: rows by number, the training and the held-out list of
//! each. What is drawn when is the cursor's business.

use std::path::Path;

use super::config::{DataConfig, SourceConfig};
use super::error::DataError;
use super::example::Example;
use super::jsonl::Jsonl;
use super::shapes::Shapes;

/// Every source of the `data` section, opened and validated.
#[derive(Debug)]
pub struct Catalog {
    sources: Vec<Source>,
    skipped: Vec<SkippedRow>,
}

/// A malformed row that `on_bad_row: skip` left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRow {
    /// Name of the source.
    pub source: String,
    /// `file:line: problem`.
    pub message: String,
}

/// What one source holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSummary {
    /// Name in the config.
    pub name: String,
    /// Task that its rows belong to.
    pub task: String,
    /// Rows to train on.
    pub train: usize,
    /// Rows to evaluate on.
    pub held_out: usize,
}

/// One opened source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) task: String,
    pub(crate) weight: Option<f64>,
    rows: Rows,
    train: Vec<u32>,
    held_out: Vec<u32>,
}

#[derive(Debug)]
enum Rows {
    Shapes(Shapes),
    Jsonl(Jsonl),
}

/// What a format hands over when it is opened.
#[derive(Debug)]
pub(crate) struct Opened<R> {
    /// The reader of single rows.
    pub(crate) rows: R,
    /// Numbers of the rows to train on.
    pub(crate) train: Vec<u32>,
    /// Numbers of the rows to evaluate on.
    pub(crate) held_out: Vec<u32>,
    /// `file:line: problem` of the rows left out.
    pub(crate) skipped: Vec<String>,
}

/// What a file's row must pass besides being well formed: asked with the names of its source and
/// task; the answer is what is wrong with it.
pub type CheckRow<'a> = dyn Fn(&str, &str, &Example) -> Result<(), String> + 'a;

impl Catalog {
    /// Opens every source; files are read once from end to end to validate their rows.
    /// `base` is the folder that paths are relative to, `default_task` the task of sources
    /// that name none.
    ///
    /// # Errors
    /// A config value out of bounds, an unreadable file, a malformed row unless rows are
    /// skipped, a source with no row at all.
    pub fn open(config: &DataConfig, base: &Path, default_task: &str) -> Result<Self, DataError> {
        Self::open_checked(config, base, default_task, &|_, _, _| Ok(()))
    }

    /// [`Self::open`], with `check` saying what is wrong with a file's row.
    ///
    /// # Errors
    /// As [`Self::open`]; a row that does not pass is malformed.
    pub fn open_checked(
        config: &DataConfig,
        base: &Path,
        default_task: &str,
        check: &CheckRow,
    ) -> Result<Self, DataError> {
        let mut catalog = Self {
            sources: Vec::new(),
            skipped: Vec::new(),
        };
        for (name, source) in &config.sources {
            let key = format!("data.sources.{name}");
            if let Some(weight) = source.weight()
                && !(weight.is_finite() && weight > 0.0)
            {
                return Err(DataError::config(
                    format!("{key}.weight"),
                    format!("must be > 0, got {weight} (leave a source out by not listing it)"),
                ));
            }
            let task = source.task().unwrap_or(default_task).to_owned();
            let (rows, train, held_out, skipped) = match source {
                SourceConfig::Shapes(shapes) => {
                    let opened = Shapes::open(shapes, &key)?;
                    (
                        Rows::Shapes(opened.rows),
                        opened.train,
                        opened.held_out,
                        opened.skipped,
                    )
                }
                SourceConfig::Jsonl(jsonl) => {
                    let opened = Jsonl::open(jsonl, &key, base, config.on_bad_row, &|row| {
                        check(name, &task, row)
                    })?;
                    (
                        Rows::Jsonl(opened.rows),
                        opened.train,
                        opened.held_out,
                        opened.skipped,
                    )
                }
            };
            catalog
                .skipped
                .extend(skipped.into_iter().map(|message| SkippedRow {
                    source: name.clone(),
                    message,
                }));
            catalog.sources.push(Source {
                name: name.clone(),
                task,
                weight: source.weight(),
                rows,
                train,
                held_out,
            });
        }
        Ok(catalog)
    }

    /// Rows that were left out, in file order.
    pub fn skipped(&self) -> &[SkippedRow] {
        &self.skipped
    }

    /// Names, tasks and sizes, in the config's order.
    pub fn summary(&self) -> Vec<SourceSummary> {
        self.sources
            .iter()
            .map(|source| SourceSummary {
                name: source.name.clone(),
                task: source.task.clone(),
                train: source.train.len(),
                held_out: source.held_out.len(),
            })
            .collect()
    }

    /// The held-out examples of the named sources (of all when `names` is empty), in order.
    ///
    /// # Errors
    /// An unknown source name, or a file that changed or vanished since it was opened.
    pub fn held_out(&self, names: &[String]) -> Result<Vec<Example>, DataError> {
        let mut examples = Vec::new();
        for index in self.select(names, "eval.sources")? {
            let source = &self.sources[index];
            for row in &source.held_out {
                examples.push(source.read(*row as usize)?);
            }
        }
        Ok(examples)
    }

    /// Places of the named sources (of all when `names` is empty); `key` names the config
    /// key at fault.
    pub(crate) fn select(&self, names: &[String], key: &str) -> Result<Vec<usize>, DataError> {
        if names.is_empty() {
            return Ok((0..self.sources.len()).collect());
        }
        names
            .iter()
            .map(|name| {
                let found = self.sources.iter().position(|source| source.name == *name);
                found.ok_or_else(|| {
                    let known: Vec<_> = self.sources.iter().map(|s| s.name.as_str()).collect();
                    DataError::config(
                        key,
                        format!("no source named `{name}`; data.sources has {known:?}"),
                    )
                })
            })
            .collect()
    }

    /// The source at a place given by [`Self::select`].
    pub(crate) fn source(&self, index: usize) -> &Source {
        &self.sources[index]
    }
}

impl Source {
    /// Number of training rows.
    pub(crate) fn train_len(&self) -> usize {
        self.train.len()
    }

    /// The training example at `at`, below [`Self::train_len`].
    pub(crate) fn train(&self, at: usize) -> Result<Example, DataError> {
        self.read(self.train[at] as usize)
    }

    /// Reference length in characters of the training example at `at`.
    pub(crate) fn train_length(&self, at: usize) -> u32 {
        let row = self.train[at] as usize;
        match &self.rows {
            Rows::Shapes(shapes) => shapes.length(row),
            Rows::Jsonl(jsonl) => jsonl.length(row),
        }
    }

    fn read(&self, row: usize) -> Result<Example, DataError> {
        let mut example = match &self.rows {
            Rows::Shapes(shapes) => shapes.example(row),
            Rows::Jsonl(jsonl) => jsonl.example(row)?,
        };
        example.id = format!("{}/{}", self.name, example.id);
        example.task.clone_from(&self.task);
        Ok(example)
    }
}
