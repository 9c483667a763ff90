//! Pictures, texts, histograms and hyper-parameters for TensorBoard, each file of events written whole.
//!
//! Besides what the scalars need (`mod.rs`), by tensorflow's summary.proto and tensor.proto and the plug-ins' own: in a
//! value `image` = 4 (height 1, width 2, colour channels 3, PNG 4), `histo` = 5 (least 1, greatest 2, count 3, sum 4, sum
//! of squares 5, packed upper ends 6 and counts 7 of the bins, doubles), `tensor` = 8 (dtype 1, string = 7, shape 2,
//! strings 8), `metadata` = 9 (plugin_data 1: name 1, content 2). Hyper-parameters are the content of the plug-in
//! `hparams` (api.proto and plugin_data.proto of TensorBoard): `experiment` = 2, `session_start_info` = 3,
//! `session_end_info` = 4.

use std::path::Path;

use super::{FILE, bytes_field, header, record, varint};
use crate::{TrainError, files};

/// Something to look at, under its tag.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaItem {
    /// A PNG file of this width and height.
    Picture {
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The file.
        png: Vec<u8>,
    },
    /// Markdown.
    Text(String),
    /// Counts of values in bins.
    Counts {
        /// The least value.
        low: f64,
        /// The upper end of each bin, the greatest value last.
        ends: Vec<f64>,
        /// How many values lie in each.
        counts: Vec<f64>,
    },
}

/// A value of a config, as TensorBoard's table of runs shows it.
#[derive(Debug, Clone, PartialEq)]
pub enum HyperValue {
    /// A number.
    Number(f64),
    /// True or false.
    Flag(bool),
    /// Anything else.
    Words(String),
}

/// A metric that runs are compared by: the stage whose folder has its events, and its tag.
#[derive(Debug, Clone, PartialEq)]
pub struct HyperMetric {
    /// The stage.
    pub stage: String,
    /// The tag.
    pub tag: String,
}

/// Where a step's things to look at stand.
#[must_use]
pub fn media_name(step: u64) -> String {
    // One file a step, later names for later steps: TensorBoard goes from one file to the next.
    format!("events.out.tfevents.{step:010}.svgrl")
}

/// Writes a step's things to look at as one file of events.
///
/// # Errors
/// What the file system says.
pub fn write_media(
    path: &Path,
    (step, time): (u64, f64),
    shown: &[(String, MediaItem)],
) -> Result<(), TrainError> {
    let mut bytes = record::frame(&header(time));
    bytes.extend(record::frame(&media_event(step, time, shown)));
    files::make_folder(files::parent(path))?;
    files::write_whole(path, &bytes)
}

/// Writes a run's hyper-parameters into the folder of its events: `values` by their keys, and the metrics that runs
/// are compared by.
///
/// # Errors
/// What the file system says.
pub fn write_hyper_parameters(
    folder: &Path,
    (name, time): (&str, f64),
    values: &[(String, HyperValue)],
    metrics: &[HyperMetric],
) -> Result<(), TrainError> {
    let mut bytes = record::frame(&header(time));
    for (tag, content) in [
        ("_hparams_/experiment", experiment(values, metrics)),
        ("_hparams_/session_start_info", session(name, time, values)),
        ("_hparams_/session_end_info", ended(time)),
    ] {
        let mut value = Vec::new();
        bytes_field(1, tag.as_bytes(), &mut value);
        bytes_field(9, &plug_in("hparams", &content), &mut value);
        bytes.extend(record::frame(&summary_event(0, time, &[value])));
    }
    files::make_folder(folder)?;
    files::write_whole(&folder.join(FILE), &bytes)
}

fn media_event(step: u64, time: f64, shown: &[(String, MediaItem)]) -> Vec<u8> {
    let value = |(tag, shown): &(String, MediaItem)| {
        let mut out = Vec::new();
        bytes_field(1, tag.as_bytes(), &mut out);
        match shown {
            MediaItem::Picture { width, height, png } => {
                let mut picture = Vec::new();
                number_field(1, u64::from(*height), &mut picture);
                number_field(2, u64::from(*width), &mut picture);
                number_field(3, 4, &mut picture);
                bytes_field(4, png, &mut picture);
                bytes_field(4, &picture, &mut out);
            }
            MediaItem::Text(text) => {
                let mut tensor = Vec::new();
                number_field(1, 7, &mut tensor);
                let mut dimension = Vec::new();
                number_field(1, 1, &mut dimension);
                let mut shape = Vec::new();
                bytes_field(2, &dimension, &mut shape);
                bytes_field(2, &shape, &mut tensor);
                bytes_field(8, text.as_bytes(), &mut tensor);
                bytes_field(8, &tensor, &mut out);
                bytes_field(9, &plug_in("text", &[]), &mut out);
            }
            MediaItem::Counts { low, ends, counts } => {
                bytes_field(5, &histogram(*low, ends, counts), &mut out);
            }
        }
        out
    };
    summary_event(step, time, &shown.iter().map(value).collect::<Vec<_>>())
}

/// Sums are taken at the bins' middles.
fn histogram(low: f64, ends: &[f64], counts: &[f64]) -> Vec<u8> {
    let starts = std::iter::once(&low).chain(ends);
    let middles: Vec<f64> = starts
        .zip(ends)
        .map(|(from, to)| f64::midpoint(*from, *to))
        .collect();
    let sum_of = |value: &dyn Fn(f64) -> f64| -> f64 {
        let each = middles.iter().zip(counts);
        each.map(|(middle, count)| value(*middle) * count).sum()
    };
    let mut out = Vec::new();
    let high = ends.last().copied().unwrap_or(low);
    let numbers = [
        low,
        high,
        counts.iter().sum(),
        sum_of(&|x| x),
        sum_of(&|x| x * x),
    ];
    // Protocol buffers leave zeros out.
    for (at, number) in (1..).zip(numbers).filter(|(_, number)| *number != 0.0) {
        double_field(at, number, &mut out);
    }
    for (at, list) in [(6, ends), (7, counts)] {
        let packed: Vec<u8> = list.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes_field(at, &packed, &mut out);
    }
    out
}

fn summary_event(step: u64, time: f64, values: &[Vec<u8>]) -> Vec<u8> {
    let mut summary = Vec::new();
    for value in values {
        bytes_field(1, value, &mut summary);
    }
    let mut out = vec![0x09];
    out.extend(time.to_le_bytes());
    if step > 0 {
        number_field(2, step, &mut out);
    }
    bytes_field(5, &summary, &mut out);
    out
}

/// `metadata` of a plug-in.
fn plug_in(name: &str, content: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    bytes_field(1, name.as_bytes(), &mut data);
    if !content.is_empty() {
        bytes_field(2, content, &mut data);
    }
    let mut out = Vec::new();
    bytes_field(1, &data, &mut out);
    out
}

fn experiment(values: &[(String, HyperValue)], metrics: &[HyperMetric]) -> Vec<u8> {
    let mut inner = Vec::new();
    for (name, value) in values {
        let mut info = Vec::new();
        bytes_field(1, name.as_bytes(), &mut info);
        let kind = match value {
            HyperValue::Words(_) => 1,
            HyperValue::Flag(_) => 2,
            HyperValue::Number(_) => 3,
        };
        number_field(4, kind, &mut info);
        bytes_field(4, &info, &mut inner);
    }
    for HyperMetric { stage, tag } in metrics {
        let (mut name, mut info) = (Vec::new(), Vec::new());
        bytes_field(1, stage.as_bytes(), &mut name);
        bytes_field(2, tag.as_bytes(), &mut name);
        bytes_field(1, &name, &mut info);
        bytes_field(5, &info, &mut inner);
    }
    let mut out = Vec::new();
    bytes_field(2, &inner, &mut out);
    out
}

fn session(name: &str, time: f64, values: &[(String, HyperValue)]) -> Vec<u8> {
    let mut inner = Vec::new();
    for (key, value) in values {
        let mut held = Vec::new();
        match value {
            HyperValue::Number(number) => double_field(2, *number, &mut held),
            HyperValue::Words(words) => bytes_field(3, words.as_bytes(), &mut held),
            HyperValue::Flag(flag) => number_field(4, u64::from(*flag), &mut held),
        }
        let mut entry = Vec::new();
        bytes_field(1, key.as_bytes(), &mut entry);
        bytes_field(2, &held, &mut entry);
        bytes_field(1, &entry, &mut inner);
    }
    bytes_field(4, name.as_bytes(), &mut inner);
    double_field(5, time, &mut inner);
    let mut out = Vec::new();
    bytes_field(3, &inner, &mut out);
    out
}

/// Status SUCCESS.
fn ended(time: f64) -> Vec<u8> {
    let mut inner = Vec::new();
    number_field(1, 1, &mut inner);
    double_field(2, time, &mut inner);
    let mut out = Vec::new();
    bytes_field(4, &inner, &mut out);
    out
}

fn number_field(field: u8, value: u64, out: &mut Vec<u8>) {
    out.push(field << 3);
    varint(value, out);
}

fn double_field(field: u8, value: f64, out: &mut Vec<u8>) {
    out.push(field << 3 | 1);
    out.extend(value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_equal_those_of_tensorboards_own_messages() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(media_name(7));
        let shown = [
            (
                "heldout/0".to_owned(),
                MediaItem::Picture {
                    width: 2,
                    height: 3,
                    png: b"png".to_vec(),
                },
            ),
            ("text/0".to_owned(), MediaItem::Text("a *dot*".to_owned())),
            (
                "reward/draw".to_owned(),
                MediaItem::Counts {
                    low: 0.0,
                    ends: vec![0.5, 1.0],
                    counts: vec![3.0, 1.0],
                },
            ),
        ];
        write_media(&path, (7, 1.5e9), &shown).unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            include_bytes!("fixtures/media.bin")
        );
        let values = [
            ("deterministic".to_owned(), HyperValue::Flag(true)),
            ("name".to_owned(), HyperValue::Words("tiny".to_owned())),
            ("seed".to_owned(), HyperValue::Number(3.0)),
        ];
        let metrics = [HyperMetric {
            stage: "rl".to_owned(),
            tag: "eval/heldout/reward/total/mean".to_owned(),
        }];
        let hparams = folder.path().join("hparams");
        write_hyper_parameters(&hparams, ("tiny", 1.5e9), &values, &metrics).unwrap();
        let ours = std::fs::read(hparams.join(FILE)).unwrap();
        assert_eq!(ours, include_bytes!("fixtures/hparams.bin"));
    }
}
