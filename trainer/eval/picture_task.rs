//! Tasks whose predictions are pictures: what is asked, and what each answer is compared with.

use std::path::PathBuf;

use rewards::ImageSource;

use super::eval_canvas::EvalCanvas;
use super::picture_metric::PictureMetric;
use super::prediction::Prediction;

/// A task of pictures.
#[derive(Debug, Clone)]
pub struct PictureTask {
    /// Its name in results.
    pub name: String,
    /// Where its predictions lie below the predictions' folder.
    pub folder: PathBuf,
    /// How they are drawn and what stands for those that are missing.
    pub canvas: EvalCanvas,
    /// What it is measured by.
    pub metrics: Vec<PictureMetric>,
    /// Its items.
    pub rows: Vec<PictureRow>,
}

/// One item of a task.
#[derive(Debug, Clone)]
pub struct PictureRow {
    /// Its id, as files are named after it.
    pub id: String,
    /// What a model is asked.
    pub question: String,
    /// The picture that it is shown.
    pub shown: Option<ImageSource>,
    /// What answers are compared with.
    pub reference: EvalReference,
    /// Its description, or why there is none; for metrics of pictures and words.
    pub caption: Option<Result<String, String>>,
}

/// What an item's answer is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum EvalReference {
    /// Nothing: a judge alone says what it is worth.
    Absent,
    /// A file: a picture, or an SVG by its ending.
    File(PathBuf),
    /// An SVG.
    Svg(String),
}

/// An item with its prediction.
#[derive(Debug, Clone)]
pub struct PictureCase {
    /// The task's place in its list.
    pub task: usize,
    /// The item's place among the task's rows.
    pub row: usize,
    /// What was predicted.
    pub prediction: Prediction,
}
