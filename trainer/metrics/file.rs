//! `metrics.jsonl`: one JSON object a step for machines, beside the TensorBoard events.
//!
//! Rows are synced before the checkpoint that covers them, and once more into a second file beside the
//! checkpoints: a line that is torn or damaged later is written again from there. Events are made of rows alone,
//! and are made anew where they are not what the rows say.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{AliasSet, Metrics, aliases, keys};
use crate::tensorboard::{EventLog, Scalars};
use crate::{TrainError, files};

/// `metrics.jsonl` and the TensorBoard events of a run folder.
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    /// The second file, and what it lacks of the first.
    covered: File,
    uncovered: Vec<u8>,
    events: EventLog,
    aliases: Vec<AliasSet>,
}

impl MetricsFile {
    /// Opens the file for appending.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(run: &Path) -> Result<Self, TrainError> {
        files::make_folder(files::parent(&covered(run)))?;
        Ok(Self {
            path: path(run),
            file: files::open_log(&path(run))?,
            covered: files::open_log(&covered(run))?,
            uncovered: Vec::new(),
            events: EventLog::new(run.join("tensorboard")),
            aliases: Vec::new(),
        })
    }

    /// Writes metrics under these names too.
    #[must_use]
    pub fn with_aliases(self, aliases: &[AliasSet]) -> Self {
        Self {
            aliases: aliases.to_vec(),
            ..self
        }
    }

    /// Appends one row.
    ///
    /// # Errors
    /// Whatever the file system says; a run folder that is no longer there.
    pub fn write(&mut self, stage: &str, step: u64, metrics: &Metrics) -> Result<(), TrainError> {
        self.check_place()?;
        let mut row = Map::new();
        row.insert("stage".into(), json!(stage));
        row.insert("step".into(), json!(step));
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |now| now.as_secs_f64());
        row.insert("time".into(), json!(time));
        let finite = || metrics.iter().filter(|(_, value)| value.is_finite());
        row.extend(finite().map(|(name, value)| (name.to_owned(), json!(value))));
        let mut theirs = aliases(metrics, &self.aliases);
        theirs.retain(|(_, value)| value.is_finite());
        row.extend(
            theirs
                .iter()
                .map(|(name, value)| (name.clone(), json!(value))),
        );
        let theirs = theirs.iter().map(|(name, value)| (name.as_str(), *value));
        let values = finite().chain(theirs).collect();
        self.events
            .write(stage, &Scalars { step, time, values })
            .map_err(TrainError::io("tensorboard"))?;
        let mut line = Value::Object(row).to_string();
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .map_err(TrainError::io(&self.path))?;
        self.uncovered.extend(line.into_bytes());
        Ok(())
    }

    /// Makes every row so far durable: a checkpoint that covers them is about to be written.
    ///
    /// # Errors
    /// Whatever the file system says; a run folder that is no longer there.
    pub fn sync(&mut self) -> Result<(), TrainError> {
        self.check_place()?;
        let mut synced = || -> io::Result<()> {
            self.file.sync_all()?;
            self.events.sync()?;
            self.covered.write_all(&self.uncovered)?;
            self.covered.sync_all()
        };
        synced().map_err(TrainError::io(&self.path))?;
        self.uncovered.clear();
        Ok(())
    }

    /// A folder that was removed or replaced under the run would take everything written from now on with it.
    ///
    /// # Errors
    /// It was.
    pub fn check_place(&self) -> Result<(), TrainError> {
        use std::os::unix::fs::MetadataExt;
        let id = |data: std::fs::Metadata| (data.dev(), data.ino());
        let open = self.file.metadata().map(id);
        let named = std::fs::metadata(&self.path).map(id);
        match (open, named) {
            (Ok(open), Ok(named)) if open == named => Ok(()),
            _ => Err(TrainError::Other(format!(
                "{} is no longer the file that this run writes: the run folder was removed, moved or replaced while the run was under way; it ends here, and what it wrote since its last checkpoint is lost",
                self.path.display()
            ))),
        }
    }
}

fn path(run: &Path) -> PathBuf {
    run.join("metrics.jsonl")
}

/// The rows that checkpoints cover, a second time.
fn covered(run: &Path) -> PathBuf {
    run.join("checkpoints").join("metrics.jsonl")
}

/// Which rows a run's files keep: asked with stage, step, and whether the row is an evaluation's.
pub type Keep<'a> = dyn Fn(&str, u64, bool) -> bool + 'a;

/// Rows of metrics as they stand in a file.
#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    text: String,
    rows: Vec<Map<String, Value>>,
}

impl Rows {
    /// The whole rows of `path` that `keep` keeps; none where there is no file. What is torn or damaged is passed
    /// over.
    fn read(path: &Path, keep: &Keep) -> Result<Self, TrainError> {
        let bytes = match std::fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(TrainError::io(path))?,
        };
        let mut kept = Self::default();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Ok(row) = serde_json::from_slice::<Map<String, Value>>(line) else {
                continue;
            };
            let at = row.get("stage").and_then(Value::as_str);
            let at = at.zip(row.get("step").and_then(Value::as_u64));
            let evaluation = row.keys().any(|name| keys::is_evaluation(name));
            if line.ends_with(b"\n")
                && at.is_some_and(|(stage, step)| keep(stage, step, evaluation))
            {
                kept.text.push_str(&String::from_utf8_lossy(line));
                kept.rows.push(row);
            }
        }
        Ok(kept)
    }

    /// Steps of a stage that have a row of their own.
    #[must_use]
    pub fn steps_of(&self, stage: &str) -> u64 {
        let of_stage = self.rows.iter().filter(|row| row["stage"] == stage);
        let trained = of_stage.filter(|row| !row.keys().any(|name| keys::is_evaluation(name)));
        trained.count() as u64
    }

    /// The rows as TensorBoard's events, each stage's in order.
    fn events(&self) -> Vec<(&str, Vec<Scalars<'_>>)> {
        let mut all: Vec<(&str, Vec<Scalars>)> = Vec::new();
        for row in &self.rows {
            let stage = row["stage"].as_str().unwrap_or_default();
            let named = row
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "stage" | "step" | "time"));
            let values = named.filter_map(|(name, value)| Some((name.as_str(), value.as_f64()?)));
            let scalars = Scalars {
                step: row["step"].as_u64().unwrap_or(0),
                time: row.get("time").and_then(Value::as_f64).unwrap_or(0.0),
                values: values.collect(),
            };
            match all.iter_mut().find(|(known, _)| *known == stage) {
                Some((_, events)) => events.push(scalars),
                None => all.push((stage, vec![scalars])),
            }
        }
        all
    }

    fn write(&self, run: &Path) -> Result<(), TrainError> {
        for path in [covered(run), path(run)] {
            if std::fs::read(&path).is_ok_and(|bytes| bytes == self.text.as_bytes()) {
                continue;
            }
            files::make_folder(files::parent(&path))?;
            files::write_whole(&path, self.text.as_bytes())?;
        }
        let mut events = EventLog::new(run.join("tensorboard"));
        events.rewrite(&self.events())
    }
}

/// Cuts the file to the rows that `keep` keeps; what is torn or damaged of them is taken from the second file,
/// and the events follow.
///
/// # Errors
/// Whatever the file system says.
pub fn cut(run: &Path, keep: &Keep) -> Result<Rows, TrainError> {
    if !path(run).exists() && !covered(run).exists() && !run.join("tensorboard").exists() {
        return Ok(Rows::default());
    }
    let rows = best(run, keep)?;
    rows.write(run)?;
    Ok(rows)
}

/// The values that a stage's evaluations have of the held-out metric `name`, by step in the order of the file; `None`
/// for one of the metric's set that has no value of it.
///
/// # Errors
/// Whatever the file system says.
pub fn evaluations(
    run: &Path,
    stage: &str,
    name: &str,
) -> Result<Vec<(u64, Option<f64>)>, TrainError> {
    let rows = Rows::read(&path(run), &|of, _, evaluation| evaluation && of == stage)?;
    let set = keys::of_held_out(name).map(|(set, _)| set);
    let of_set = |row: &&Map<String, Value>| {
        let mut sets = row.keys().filter_map(|name| keys::of_held_out(name));
        sets.next().map(|(set, _)| set) == set
    };
    let value = |row: &Map<String, Value>| {
        let step = row["step"].as_u64().unwrap_or(0);
        (step, row.get(name).and_then(Value::as_f64))
    };
    Ok(rows.rows.iter().filter(of_set).map(value).collect())
}

/// Copies the rows of `from` that `keep` keeps to the folder `to`.
///
/// # Errors
/// Whatever the file system says.
pub fn copy(from: &Path, to: &Path, keep: &Keep) -> Result<(), TrainError> {
    best(from, keep)?.write(to)
}

/// The kept rows of the file that has more of them.
fn best(run: &Path, keep: &Keep) -> Result<Rows, TrainError> {
    let first = Rows::read(&path(run), keep)?;
    let second = Rows::read(&covered(run), keep)?;
    Ok(match second.rows.len() > first.rows.len() {
        true => second,
        false => first,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(run: &Path, steps: std::ops::RangeInclusive<u64>) {
        let mut file = MetricsFile::open(run).unwrap();
        for step in steps {
            let mut metrics = Metrics::new();
            metrics.set(&keys::STEP, step as f64 / 3.0);
            file.write("rl", step, &metrics).unwrap();
        }
        file.sync().unwrap();
    }

    #[test]
    fn a_damaged_line_that_a_checkpoint_covers_is_written_again() {
        let run = tempfile::tempdir().unwrap();
        let run = run.path();
        write(run, 1..=5);
        let whole = std::fs::read_to_string(path(run)).unwrap();
        let events = run.join("tensorboard/rl/events.out.tfevents.0.svgrl");
        let drawn = std::fs::read(&events).unwrap();
        let keep = |_: &str, step: u64, _: bool| step <= 5;
        for damaged in [
            whole[..whole.len() - 9].to_owned(),
            whole.replacen("step", "sp", 1),
            String::new(),
        ] {
            std::fs::write(path(run), damaged).unwrap();
            std::fs::write(&events, &drawn[..drawn.len() / 2]).unwrap();
            assert_eq!(cut(run, &keep).unwrap().steps_of("rl"), 5);
            assert_eq!(std::fs::read_to_string(path(run)).unwrap(), whole);
            assert_eq!(std::fs::read(&events).unwrap(), drawn);
        }
        // Lost altogether, with the events.
        std::fs::remove_file(path(run)).unwrap();
        std::fs::remove_dir_all(run.join("tensorboard")).unwrap();
        cut(run, &keep).unwrap();
        assert_eq!(std::fs::read_to_string(path(run)).unwrap(), whole);
        assert!(std::fs::read(&events).unwrap().len() == drawn.len());
    }

    #[test]
    fn a_cut_and_continued_file_has_no_gap_and_no_repeated_step() {
        let run = tempfile::tempdir().unwrap();
        let run = run.path();
        write(run, 1..=9);
        let rows = cut(run, &|_, step, _| step <= 4).unwrap();
        assert_eq!(rows.steps_of("rl"), 4);
        write(run, 5..=7);
        for file in [path(run), covered(run)] {
            let rows = Rows::read(&file, &|_, _, _| true).unwrap();
            let steps: Vec<u64> = rows
                .rows
                .iter()
                .filter_map(|row| row["step"].as_u64())
                .collect();
            assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7]);
        }
        let none = cut(run, &|_, _, _| false).unwrap();
        assert_eq!(none.steps_of("rl"), 0);
        assert!(!run.join("tensorboard/rl").exists());
    }

    #[test]
    fn a_folder_that_is_gone_is_noticed() {
        let above = tempfile::tempdir().unwrap();
        let run = above.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let mut file = MetricsFile::open(&run).unwrap();
        file.write("rl", 1, &Metrics::new()).unwrap();
        std::fs::remove_dir_all(&run).unwrap();
        let told = file
            .write("rl", 2, &Metrics::new())
            .unwrap_err()
            .to_string();
        assert!(told.contains("the run folder was removed"), "{told}");
        // Another folder of that name is not this run's either.
        write(&run, 1..=1);
        assert!(file.sync().is_err());
    }
}
