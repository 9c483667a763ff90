//! TensorBoard event files: scalars only, one folder per stage (TensorBoard shows each as a
//! run of its own), one file per folder, appended to and cut back on resume.
//!
//! An event file is a sequence of TFRecords, each a length, its masked CRC, the bytes and
//! their masked CRC; the bytes are an `Event` message of tensorflow/core/util/event.proto,
//! written here by hand: `wall_time` = 1 (double), `step` = 2 (varint), `file_version` = 3
//! (string), `summary` = 5; in a summary `value` = 1, with `tag` = 1 (string) and
//! `simple_value` = 2 (float).

mod record;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use record::EventRecords;

/// Name of each stage's file; TensorBoard looks for `tfevents` in it.
const FILE: &str = "events.out.tfevents.0.svgrl";

/// The event files of one run.
#[derive(Debug)]
pub struct EventLog {
    folder: PathBuf,
    stage: String,
    file: Option<File>,
}

/// One point of every curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalars<'a> {
    /// Step within the stage.
    pub step: u64,
    /// Unix time in seconds.
    pub time: f64,
    /// Tag and value.
    pub values: Vec<(&'a str, f64)>,
}

impl EventLog {
    /// A log in `folder` (a run's `tensorboard/`), made when the first event is written.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            stage: String::new(),
            file: None,
        }
    }

    /// Appends one event to a stage's file. Values are stored as float32.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&mut self, stage: &str, scalars: &Scalars<'_>) -> io::Result<()> {
        if self.file.is_none() || self.stage != stage {
            self.file = Some(open(&self.folder, stage)?);
            stage.clone_into(&mut self.stage);
        }
        match &mut self.file {
            Some(file) => file.write_all(&record::frame(&event(scalars))),
            None => Ok(()),
        }
    }

    /// Drops a stage's events after `step` (with `evaluated` false, that step's evaluation too),
    /// and whatever a crash left half written. A stage without a file is left alone.
    ///
    /// # Errors
    /// What the file system says.
    pub fn cut_after(&mut self, stage: &str, step: u64, evaluated: bool) -> io::Result<()> {
        self.file = None;
        let path = self.folder.join(stage).join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        // Rows of one step are written together, so what is kept is a beginning.
        let kept = EventRecords::of(&bytes)
            .take_while(|(event, _)| {
                let at = step_of(event);
                at < step || at == step && (evaluated || !holds_evaluation(event))
            })
            .last()
            .map_or(0, |(_, end)| end);
        OpenOptions::new()
            .write(true)
            .open(&path)?
            .set_len(kept as u64)
    }

    /// Removes a stage's events, for a run that goes back to an earlier stage.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&mut self, stage: &str) -> io::Result<()> {
        self.file = None;
        match std::fs::remove_dir_all(self.folder.join(stage)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn open(folder: &Path, stage: &str) -> io::Result<File> {
    let folder = folder.join(stage);
    std::fs::create_dir_all(&folder)?;
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join(FILE))?;
    if file.metadata()?.len() == 0 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |since| since.as_secs_f64());
        file.write_all(&record::frame(&header(now)))?;
    }
    Ok(file)
}

/// Whether an event holds a point of an evaluation: tags stand in it as they are.
fn holds_evaluation(event: &[u8]) -> bool {
    event.windows(5).any(|bytes| bytes == b"eval/")
}

/// The event that opens a file.
fn header(time: f64) -> Vec<u8> {
    let mut out = vec![0x09];
    out.extend(time.to_le_bytes());
    bytes_field(3, b"brain.Event:2", &mut out);
    out
}

fn event(scalars: &Scalars<'_>) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in &scalars.values {
        let mut point = Vec::new();
        bytes_field(1, tag.as_bytes(), &mut point);
        point.push(0x15);
        point.extend((*value as f32).to_le_bytes());
        bytes_field(1, &point, &mut summary);
    }
    let mut out = vec![0x09];
    out.extend(scalars.time.to_le_bytes());
    if scalars.step > 0 {
        out.push(0x10);
        varint(scalars.step, &mut out);
    }
    bytes_field(5, &summary, &mut out);
    out
}

fn bytes_field(number: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(number << 3 | 2);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The step of an event as this module writes it: after nine bytes of time, when not 0.
fn step_of(event: &[u8]) -> u64 {
    match event.get(9) {
        Some(0x10) => {
            let mut step = 0;
            for (index, byte) in event[10..].iter().take(10).enumerate() {
                step |= u64::from(byte & 0x7f) << (7 * index as u32).min(63);
                if byte & 0x80 == 0 {
                    break;
                }
            }
            step
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64) -> Scalars<'static> {
        Scalars {
            step,
            time: 1.5e9 + step as f64,
            values: vec![("reward/total/mean", step as f64 / 8.0)],
        }
    }

    fn steps(folder: &Path) -> Vec<u64> {
        let bytes = std::fs::read(folder.join("rl").join(FILE)).unwrap();
        let whole = EventRecords::of(&bytes).last().map(|(_, end)| end);
        assert_eq!(whole, Some(bytes.len()), "nothing half written");
        EventRecords::of(&bytes)
            .map(|(event, _)| step_of(event))
            .collect()
    }

    #[test]
    fn bytes_equal_those_of_tensorboards_own_writer() {
        let mut ours = record::frame(&header(1.5e9));
        for (step, time, values) in [
            (1, 1.500_000_000_25e9, vec![("sft/loss", 2.5)]),
            (
                300,
                1.500_000_001_25e9,
                vec![("sft/loss", -0.125), ("reward/é", 0.0)],
            ),
        ] {
            let scalars = Scalars { step, time, values };
            ours.extend(record::frame(&event(&scalars)));
        }
        assert_eq!(ours, include_bytes!("fixtures/events.bin"));
    }

    #[test]
    fn a_cut_and_continued_file_has_no_gap_and_no_repeated_step() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::new(folder.path());
        for step in 0..=300 {
            log.write("rl", &point(step)).unwrap();
        }
        log.cut_after("rl", 200, true).unwrap();
        for step in 201..=205 {
            log.write("rl", &point(step)).unwrap();
        }
        // The first 0 is the file's header.
        let expected: Vec<u64> = std::iter::once(0).chain(0..=205).collect();
        assert_eq!(steps(folder.path()), expected);
    }

    #[test]
    fn a_half_written_event_is_dropped_by_the_cut() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = EventLog::new(folder.path());
        log.write("rl", &point(1)).unwrap();
        log.write("rl", &point(2)).unwrap();
        let path = folder.path().join("rl").join(FILE);
        let length = std::fs::metadata(&path).unwrap().len();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length - 3).unwrap();
        log.cut_after("rl", 9, true).unwrap();
        assert_eq!(steps(folder.path()), [0, 1]);
        log.cut_after("none", 1, true).unwrap();
        log.remove("rl").unwrap();
        assert!(!path.exists());
    }
}
