//! TensorBoard event files: scalars here, what is looked at in `media.rs`; one folder per stage (TensorBoard shows each as a
//! run of its own), one file per folder, appended to, and on resume made to be what the rows of metrics say.
//!
//! An event file is a sequence of TFRecords, each a length, its masked CRC, the bytes and
//! their masked CRC; the bytes are an `Event` message of tensorflow/core/util/event.proto,
//! written here by hand: `wall_time` = 1 (double), `step` = 2 (varint), `file_version` = 3
//! (string), `summary` = 5; in a summary `value` = 1, with `tag` = 1 (string) and
//! `simple_value` = 2 (float).

mod media;
mod record;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use media::{
    HyperMetric, HyperValue, MediaItem, media_name, write_hyper_parameters, write_media,
};
use record::EventRecords;

use crate::{TrainError, files};

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

    /// Makes every event so far durable.
    ///
    /// # Errors
    /// What the file system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_all)
    }

    /// Leaves `stages` with these events, and no other stage with any: files that are so already stay as they are.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rewrite(&mut self, stages: &[(&str, Vec<Scalars<'_>>)]) -> Result<(), TrainError> {
        self.file = None;
        for entry in std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
        {
            let name = entry.file_name();
            let stays = |(stage, _): &(&str, Vec<Scalars>)| name == *stage;
            if !stages.iter().any(stays) && entry.path().is_dir() {
                std::fs::remove_dir_all(entry.path()).map_err(TrainError::io(entry.path()))?;
            }
        }
        for (stage, events) in stages {
            let path = self.folder.join(stage).join(FILE);
            let before = std::fs::read(&path).unwrap_or_default();
            let head = EventRecords::of(&before)
                .next()
                .map(|(event, _)| event.to_vec());
            let first = events.first().map_or(0.0, |event| event.time);
            let mut bytes = record::frame(&head.unwrap_or_else(|| header(first)));
            for scalars in events {
                bytes.extend(record::frame(&event(scalars)));
            }
            if bytes != before {
                files::make_folder(files::parent(&path))?;
                files::write_whole(&path, &bytes)?;
            }
        }
        Ok(())
    }
}

fn open(folder: &Path, stage: &str) -> io::Result<File> {
    let folder = folder.join(stage);
    files::make_folder(&folder).map_err(io::Error::other)?;
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join(FILE))?;
    files::sync_folder(&folder)?;
    if file.metadata()?.len() == 0 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |since| since.as_secs_f64());
        file.write_all(&record::frame(&header(now)))?;
    }
    Ok(file)
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn events_made_anew_are_those_that_were_appended() {
        let folder = tempfile::tempdir().unwrap();
        let point = |step: u64| Scalars {
            step,
            time: 1.5e9 + step as f64,
            values: vec![("reward/total/mean", step as f64 / 8.0)],
        };
        let mut log = EventLog::new(folder.path());
        for step in 0..=300 {
            log.write("rl", &point(step)).unwrap();
        }
        let path = folder.path().join("rl").join(FILE);
        let whole = std::fs::read(&path).unwrap();
        std::fs::create_dir(folder.path().join("later")).unwrap();
        // Torn, flipped, and with events after those that stay.
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        for damaged in [
            &whole[..whole.len() - 3],
            &flipped,
            &[&whole[..], b"x"].concat(),
        ] {
            std::fs::write(&path, damaged).unwrap();
            let all = vec![("rl", (0..=300).map(point).collect::<Vec<_>>())];
            log.rewrite(&all).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        assert!(!folder.path().join("later").exists());
        log.write("rl", &point(301)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(EventRecords::of(&bytes).count(), 1 + 302);
        log.rewrite(&[]).unwrap();
        assert!(!path.exists());
    }
}
