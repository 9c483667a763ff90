//! The `data` section and a stage's `curriculum`, as they stand in YAML.

use std::path::PathBuf;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where examples come from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// What a malformed row does: `error` stops with its file and line, `skip` leaves it
    /// out, counts it and reports it.
    pub on_bad_row: OnBadRow,
    /// The sources by name; the name appears in example ids and messages.
    pub sources: IndexMap<String, SourceConfig>,
}

/// Treatment of malformed rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBadRow {
    /// Stop.
    #[default]
    Error,
    /// Leave the row out and report it.
    Skip,
}

/// How much of a row's answer is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerPart {
    /// All of it.
    #[default]
    Whole,
    /// Its SVG alone: for policies that do not think first. Answers without one are imitated whole.
    Svg,
}

/// Treatment of rows with videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VideoRows {
    /// They are malformed rows.
    #[default]
    Refuse,
    /// They are left out and counted, whatever `on_bad_row` says.
    Skip,
}

/// One source; `format` says which kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "format", rename_all = "snake_case")]
pub enum SourceConfig {
    /// Built-in drawings of one or two coloured shapes, made on the fly.
    Shapes(ShapesConfig),
    /// JSON objects, one per line or in one array, with fields of any name.
    Jsonl(FileConfig),
    /// Values between commas, semicolons, tabs or bars with a header line; an empty cell is a missing value.
    Csv(FileConfig),
    /// Parquet tables with columns of any name, nested ones among them; pictures as structs of `bytes` and `path`.
    Parquet(FileConfig),
    /// Tables as the `datasets` library saves them (`save_to_disk`): `path` is the folder of one split, or an Arrow
    /// file; columns as those of Parquet.
    Arrow(FileConfig),
    /// A folder of SVG files; the prompt is the words of the file's name.
    SvgFolder(FileConfig),
    /// Rows of `instruction`, `input`, `output`, `images` (SVG-Sophia).
    Alpaca(FileConfig),
    /// Rows of `conversations` with `from` and `value`, `image` (SAgoge, SArena).
    Sharegpt(FileConfig),
    /// Rows of `messages` with `role` and `content`, `images` (IntroSVG).
    Messages(FileConfig),
    /// Preference pairs: `conversations`, `chosen`, `rejected`.
    Dpo(FileConfig),
    /// Rows of `description` and `svg` or `svg_content` (SGP-Gen), or of `description` alone.
    Sgp(FileConfig),
    /// COCO's captions; `media_root` is the folder of the photographs, which are the references.
    Coco(FileConfig),
    /// VectorGym's Parquet tables, one `view` of their rows.
    Vectorgym(FileConfig),
}

/// Which list a source's rows go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Rows are trained on, apart from those that `held_out` sets aside.
    #[default]
    Train,
    /// Rows are evaluated on and never trained on.
    HeldOut,
}

/// The built-in source `shapes`: prompts such as "a large red circle above a blue star"
/// with their exact drawing on a canvas of 128. Prompts whose first shape is yellow are
/// never trained on; the held-out prompts are drawn from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShapesConfig {
    /// Name of the task in `tasks` that the rows belong to; the first one when absent.
    pub task: Option<String>,
    /// `train` gives both lists, `held_out` the held-out prompts alone.
    pub split: Split,
    /// Share of this source in the draws, relative to the other sources' weights; > 0. Given
    /// for every source of a stage or for none; without it sources are drawn by their size.
    pub weight: Option<f64>,
    /// `text_to_svg` draws from words, `image_to_svg` from a picture, `refinement` corrects a flawed
    /// draft given in the prompt.
    pub kind: ShapesKind,
    /// Side of the exact drawing's picture that the prompt shows, in pixels, 16 to 1024; absent:
    /// 128 for `image_to_svg`, no picture for the others.
    pub picture: Option<u32>,
    /// Number of training examples; >= 1.
    pub count: usize,
    /// Number of held-out examples, all with different prompts; at most 2000.
    pub held_out: usize,
    /// Seed of the drawings; an example depends on it and on its own number alone.
    pub seed: u64,
    /// How sloppy the drawings are that supervised training imitates; exact when absent. Rewards
    /// always compare with the exact drawing.
    pub teacher_noise: Option<TeacherNoise>,
}

impl Default for ShapesConfig {
    fn default() -> Self {
        Self {
            task: None,
            split: Split::Train,
            weight: None,
            kind: ShapesKind::TextToSvg,
            picture: None,
            count: 4096,
            held_out: 96,
            seed: 0,
            teacher_noise: None,
        }
    }
}

/// What the `shapes` source asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShapesKind {
    /// Words in, drawing out.
    #[default]
    TextToSvg,
    /// A picture in, drawing out; the words are there for templates that use them.
    ImageToSvg,
    /// Words and a flawed drawing (field `draft`) in, exact drawing out.
    Refinement,
}

/// The ways in which a drawing deviates from the exact one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherNoise {
    /// Largest shift of a shape along each axis, in pixels of the 128 canvas; 0 to 64.
    pub position: f64,
    /// Largest relative change of a shape's size; 0 to 0.9.
    pub size: f64,
    /// Probability that a shape has a wrong colour; 0 to 1.
    pub wrong_colour: f64,
    /// Probability that a shape is of a wrong kind; 0 to 1.
    pub wrong_shape: f64,
    /// Probability that the file is cut short somewhere; 0 to 1.
    pub cut_short: f64,
}

impl Default for TeacherNoise {
    fn default() -> Self {
        Self {
            position: 12.0,
            size: 0.3,
            wrong_colour: 1.0 / 7.0,
            wrong_shape: 0.1,
            cut_short: 0.06,
        }
    }
}

/// What a row of VectorGym is taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VectorGymView {
    /// The sketch is shown, the SVG is the answer.
    Sketch,
    /// The SVG (`draft`) and the wish (`prompt`) are given, the edited SVG is the answer.
    Edit,
    /// The caption is given, the SVG is the answer.
    Text,
    /// The SVG (`draft`) is given, its caption is the answer.
    Caption,
}

/// Rows in files.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FileConfig {
    /// The file, relative to the config's folder; or a folder, whose files of the format's ending are
    /// taken in the order of their names; or a pattern with `*` in its last part; or a folder that `datasets` saved.
    /// A format says what rows mean: that they stand in JSON, CSV, Parquet or Arrow is seen by the file itself.
    /// Text may be packed (gzip, zstd) and in UTF-16; a JSON file may be a list, or an object with the list under
    /// `data`.
    pub path: PathBuf,
    /// Name of the task in `tasks` that the rows belong to; the first one when absent.
    pub task: Option<String>,
    /// Which key of a row holds which of our fields: `prompt`, `draft` (SVG to be corrected),
    /// `svg`, `text`, `image` (the references), `images` (what the prompt shows), `target` (what
    /// supervised training imitates: the svg, else the text, when absent), `rejected` (with `target` a pair), `id`, or any further
    /// name that a prompt template inserts. Dots reach into objects and lists (`conversations.0.value`). A mapped field
    /// must be in every row; unmapped, a row's key of the same name is taken when it is there, also for any name that
    /// a template of the task inserts. `prompt` may be a list of messages (`role`, `content`). What a format has no use
    /// for is named at the start (`not used: ..`). Only for jsonl, csv, parquet and arrow.
    pub fields: IndexMap<String, String>,
    /// Folder that image paths are relative to; the file's own folder when absent. PNG, JPEG and WebP are read. What a
    /// prompt shows is turned the way up that its Exif or XMP says, as transformers' `load_image` does; reference
    /// images are taken as they are stored, as the papers' reward code opens them.
    pub media_root: Option<PathBuf>,
    /// Whether the rows are trained on (`train`) or only evaluated on (`held_out`).
    pub split: Split,
    /// Share of this source in the draws, relative to the other sources' weights; > 0. Given
    /// for every source of a stage or for none; without it sources are drawn by their size.
    pub weight: Option<f64>,
    /// Rows set aside for evaluation, chosen by `seed`; only with split `train`, and fewer than
    /// the file has.
    pub held_out: usize,
    /// Seed that chooses the held-out rows.
    pub seed: u64,
    /// Rows whose reference (its SVG, else its text) has fewer characters are left out, counted.
    pub min_length: usize,
    /// Rows whose reference has more characters are left out, counted; no bound when absent.
    pub max_length: Option<usize>,
    /// What becomes of rows with a video (`video`, `videos`, or a part of that type), which are not read: SAgoge's second
    /// stage has such rows of animations.
    pub videos: VideoRows,
    /// How much of an answer supervised training imitates.
    pub answer: AnswerPart,
    /// Which sample of a VectorGym row is meant; only for that format, and needed there.
    pub view: Option<VectorGymView>,
    /// What stands between the fields of CSV files; when absent the sign of `,` `;` `|` and tab that the header line
    /// has most of.
    pub delimiter: Option<char>,
}

/// The options of a source that is files, borrowed as the source is.
macro_rules! of_files {
    ($source:expr) => {
        match $source {
            SourceConfig::Shapes(_) => None,
            SourceConfig::Jsonl(file)
            | SourceConfig::Csv(file)
            | SourceConfig::Parquet(file)
            | SourceConfig::Arrow(file)
            | SourceConfig::SvgFolder(file)
            | SourceConfig::Alpaca(file)
            | SourceConfig::Sharegpt(file)
            | SourceConfig::Messages(file)
            | SourceConfig::Dpo(file)
            | SourceConfig::Sgp(file)
            | SourceConfig::Coco(file)
            | SourceConfig::Vectorgym(file) => Some(file),
        }
    };
}

impl SourceConfig {
    /// The options of a source that is files.
    pub fn file(&self) -> Option<&FileConfig> {
        of_files!(self)
    }

    /// [`Self::file`], to be changed.
    pub fn file_mut(&mut self) -> Option<&mut FileConfig> {
        of_files!(self)
    }

    /// The task that the source names, if it names one.
    pub fn task(&self) -> Option<&str> {
        match self {
            Self::Shapes(shapes) => shapes.task.as_deref(),
            source => source.file()?.task.as_deref(),
        }
    }

    /// Which list its rows go to.
    pub fn split(&self) -> Split {
        match self {
            Self::Shapes(shapes) => shapes.split,
            source => source.file().map(|file| file.split).unwrap_or_default(),
        }
    }

    /// Whether some of its rows are held out for evaluation.
    pub fn holds_out(&self) -> bool {
        let held_out = match self {
            Self::Shapes(shapes) => shapes.held_out,
            source => source.file().map_or(0, |file| file.held_out),
        };
        held_out > 0 || self.split() == Split::HeldOut
    }

    /// The source's share in the draws, if it is given.
    pub fn weight(&self) -> Option<f64> {
        match self {
            Self::Shapes(shapes) => shapes.weight,
            source => source.file()?.weight,
        }
    }
}
