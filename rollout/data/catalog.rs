//! All opened sources of a config: rows by number, the training and the held-out list of
//! each. What is drawn when is the cursor's business.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::config::{DataConfig, OnBadRow, SourceConfig, Split};
use super::error::DataError;
use super::example::Example;
use super::files::{FileSource, Opening};
use super::shapes::Shapes;
use super::source::LeftOut;

/// Every source of the `data` section, opened and validated.
pub struct Catalog {
    sources: Vec<Source>,
    skipped: Vec<SkippedRow>,
    on_bad_row: OnBadRow,
    check: Arc<CheckRow>,
}

/// A malformed row that `on_bad_row: skip` left out, or one that is no sample of a table's view.
/// Shown as `file:line: problem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRow {
    /// Name of the source.
    pub source: String,
    /// What is wrong, and where.
    pub row: LeftOut,
}

impl fmt::Display for SkippedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.row.fmt(f)
    }
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
    /// Rows left out by `min_length` and `max_length`.
    pub filtered: usize,
    /// Rows left out for their videos, by `videos: skip`.
    pub videos: usize,
    /// Keys of its rows that nothing uses.
    pub unused: Vec<String>,
    /// What tells its rows from others, wherever they lie.
    pub digest: String,
}

/// One opened source.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) task: String,
    pub(crate) weight: Option<f64>,
    rows: SourceRows,
    train: Vec<u32>,
    held_out: Vec<u32>,
    filtered: usize,
    videos: usize,
    unused: Vec<String>,
    digest: String,
}

#[derive(Debug)]
enum SourceRows {
    Shapes(Shapes),
    Files(FileSource),
    Memory(Vec<Example>),
}

/// What a file's row must pass besides being well formed: asked with the names of its source and
/// task; the answer is what is wrong with it.
pub type CheckRow = dyn Fn(&str, &str, &Example) -> Result<(), String> + Send + Sync;

/// What rows are used for, by who opens them.
#[derive(Clone)]
pub struct RowUse {
    /// Asked of every row.
    pub check: Arc<CheckRow>,
    /// What the templates of each task insert, by the task's name.
    pub inserted: HashMap<String, Vec<String>>,
    /// Tasks whose own system turn stands in the place of their rows'.
    pub systems: HashSet<String>,
}

/// Hears of long scans: the source's name, bytes read so far, bytes in all.
pub type Indexing<'a> = dyn FnMut(&str, u64, u64) + 'a;

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Catalog {
    /// Opens every source; files are read once from end to end to find their rows (large ones only
    /// at the first start). `base` is the folder that paths are relative to, `default_task` the task
    /// of sources that name none.
    ///
    /// # Errors
    /// A config value out of bounds, an unreadable file, a malformed row unless rows are
    /// skipped, a source with no row at all.
    pub fn open(config: &DataConfig, base: &Path, default_task: &str) -> Result<Self, DataError> {
        let rows = RowUse {
            check: Arc::new(|_: &str, _: &str, _: &Example| Ok(())),
            inserted: HashMap::new(),
            systems: HashSet::new(),
        };
        Self::open_checked(config, (base, default_task), rows, &mut |_, _, _| {})
    }

    /// [`Self::open`], with `rows` saying what is wrong with a file's row (at once for small files,
    /// when the row is drawn for large ones) and which further keys of it are inserted.
    ///
    /// # Errors
    /// As [`Self::open`]; a row that does not pass is malformed.
    pub fn open_checked(
        config: &DataConfig,
        (base, default_task): (&Path, &str),
        rows: RowUse,
        indexing: &mut Indexing,
    ) -> Result<Self, DataError> {
        let mut catalog = Self {
            sources: Vec::new(),
            skipped: Vec::new(),
            on_bad_row: config.on_bad_row,
            check: rows.check,
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
            let opened = match (source, source.file()) {
                (SourceConfig::Shapes(shapes), _) => {
                    Shapes::open(shapes, &key)?.map_rows(SourceRows::Shapes)
                }
                (_, Some(file)) => FileSource::open(
                    source,
                    file,
                    &mut Opening {
                        key: &key,
                        base,
                        on_bad_row: config.on_bad_row,
                        videos: file.videos,
                        inserted: rows.inserted.get(&task).map_or(&[], Vec::as_slice),
                        has_system: rows.systems.contains(&task),
                        check: &|row| (catalog.check)(name, &task, row),
                        progress: &mut |done, all| indexing(name, done, all),
                    },
                )?
                .map_rows(SourceRows::Files),
                (_, None) => continue,
            };
            let skipped = opened.skipped.into_iter().map(|row| SkippedRow {
                source: name.clone(),
                row,
            });
            catalog.skipped.extend(skipped);
            catalog.sources.push(Source {
                name: name.clone(),
                task,
                weight: source.weight(),
                rows: opened.rows,
                train: opened.train,
                held_out: opened.held_out,
                filtered: opened.filtered,
                videos: opened.videos,
                unused: opened.unused,
                digest: opened.digest,
            });
        }
        Ok(catalog)
    }

    /// Examples of tasks that lie in memory, to be trained on: one source for each task, all called `name`.
    pub(crate) fn in_memory(name: &str, tasks: IndexMap<String, Vec<Example>>) -> Self {
        let source = |(task, rows): (String, Vec<Example>)| Source {
            name: name.to_owned(),
            task,
            weight: None,
            train: (0..rows.len() as u32).collect(),
            held_out: Vec::new(),
            rows: SourceRows::Memory(rows),
            filtered: 0,
            unused: Vec::new(),
            videos: 0,
            digest: String::new(),
        };
        Self {
            sources: tasks.into_iter().map(source).collect(),
            skipped: Vec::new(),
            on_bad_row: OnBadRow::Error,
            check: Arc::new(|_: &str, _: &str, _: &Example| Ok(())),
        }
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
                filtered: source.filtered,
                videos: source.videos,
                unused: source.unused.clone(),
                digest: source.digest.clone(),
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
                examples.extend(self.usable(source.read(*row as usize, &*self.check))?);
            }
        }
        Ok(examples)
    }

    /// The example of a draw: `Err` inside when it is a bad row and bad rows are left out.
    pub(crate) fn drawn(
        &self,
        source: usize,
        at: usize,
    ) -> Result<Result<Example, SkippedRow>, DataError> {
        self.row((source, Split::Train), at)
    }

    /// Row `at` of one of a source's two lists, read anew; sources are numbered and their lists are
    /// as long as [`Self::summary`] says. `Err` inside when it is a bad row and bad rows are left out.
    ///
    /// # Errors
    /// A bad row unless rows are skipped, a file that changed or vanished since it was opened.
    ///
    /// # Panics
    /// A number out of range.
    pub fn row(
        &self,
        (source, list): (usize, Split),
        at: usize,
    ) -> Result<Result<Example, SkippedRow>, DataError> {
        let source = &self.sources[source];
        let row = match list {
            Split::Train => source.train[at],
            Split::HeldOut => source.held_out[at],
        };
        match (source.read(row as usize, &*self.check), self.on_bad_row) {
            (Err(error), OnBadRow::Skip) => match LeftOut::of(&error) {
                Some(row) => Ok(Err(SkippedRow {
                    source: source.name.clone(),
                    row,
                })),
                None => Err(error),
            },
            (read, _) => read.map(Ok),
        }
    }

    fn usable(&self, read: Result<Example, DataError>) -> Result<Option<Example>, DataError> {
        match read {
            Err(DataError::Row { .. }) if self.on_bad_row == OnBadRow::Skip => Ok(None),
            read => read.map(Some),
        }
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

    /// Reference length in characters of the training example at `at`.
    pub(crate) fn train_length(&self, at: usize) -> u32 {
        let row = self.train[at] as usize;
        match &self.rows {
            SourceRows::Shapes(shapes) => shapes.length(row),
            SourceRows::Files(files) => files.length(row),
            SourceRows::Memory(rows) => u32::try_from(rows[row].length).unwrap_or(u32::MAX),
        }
    }

    fn read(&self, row: usize, check: &CheckRow) -> Result<Example, DataError> {
        let mut example = match &self.rows {
            SourceRows::Shapes(shapes) => shapes.example(row),
            SourceRows::Memory(rows) => rows[row].clone(),
            SourceRows::Files(files) => {
                let example = files.example(row)?;
                if !files.checked {
                    check(&self.name, &self.task, &example)
                        .map_err(|problem| files.bad(row, problem))?;
                }
                example
            }
        };
        example.id = format!("{}/{}", self.name, example.id);
        example.task.clone_from(&self.task);
        Ok(example)
    }
}
