//! Tasks whose predictions are pictures: what is asked, and what each answer is compared with.

use std::path::PathBuf;

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

/// Where predictions lie, and what becomes of those that cannot be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalCanvas {
    /// Pixels of a side.
    pub side: u32,
    /// Colour of the picture that stands for a missing one.
    pub missing: [u8; 3],
    /// Whether a given picture counts only beside its SVG.
    pub needs_svg: bool,
    /// Whether each item has a folder of its own, as VectorGym's code leaves them.
    pub folder_each: bool,
    /// Whether malformed SVGs are repaired before they are drawn.
    pub repairs: bool,
    /// Pixels of a side at which LPIPS compares; none: as they are.
    pub lpips_side: Option<usize>,
}

impl EvalCanvas {
    /// SArena's: 448 pixels, black where there is none.
    pub const SARENA: Self = Self {
        side: 448,
        missing: [0; 3],
        needs_svg: false,
        folder_each: false,
        repairs: false,
        lpips_side: None,
    };
    /// SVG-Sophia's: the same, an SVG beside each picture.
    pub const SOPHIA: Self = Self {
        needs_svg: true,
        ..Self::SARENA
    };
    /// VectorGym's: 512 pixels, white where there is none, LPIPS at 384.
    pub const VECTORGYM: Self = Self {
        side: 512,
        missing: [255; 3],
        needs_svg: false,
        folder_each: true,
        repairs: true,
        lpips_side: Some(384),
    };
}

/// One item of a task.
#[derive(Debug, Clone)]
pub struct PictureRow {
    /// Its id, as files are named after it.
    pub id: String,
    /// What a model is asked.
    pub question: String,
    /// The picture that it is shown.
    pub shown: Option<PathBuf>,
    /// The picture that answers are compared with, or its SVG.
    pub reference: PathBuf,
    /// Its description, or why there is none; for metrics of pictures and words.
    pub caption: Option<Result<String, String>>,
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
