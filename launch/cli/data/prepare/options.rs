//! The flags of `svgrl data prepare`, and the format that a file's ending tells.

use std::path::{Path, PathBuf};

use rollout::data::{FileConfig, SourceConfig, ending};

use crate::cli::CliFailure;

/// `svgrl data prepare`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Writes DIR/train.jsonl, DIR/held_out.jsonl (with --held-out), DIR/rejected.jsonl and DIR/report.json.
The rows hold the new SVG under `svg`, the prompt under `prompt`, everything else as it was; a config
reads them with `format: jsonl` and no `fields`. Pictures embedded in Parquet are left out; paths of
pictures stay as they are.

Examples:
  svgrl data prepare --from icons.jsonl --out prepared --held-out 0.05
  svgrl data prepare --from icons/ --out prepared --side 200 --decimals 0 --min-ssim 0.9
  svgrl data prepare --from 'sgp-*.jsonl' --svg-field svg_content --prompt-field description --out prepared
  svgrl data prepare --from corpus.parquet --out prepared --tokenizer Qwen3-VL-8B-SVG \\
      --min-tokens 64 --max-tokens 2048 --min-colour-entropy 0.3 --near-duplicates 3
  svgrl data prepare --from corpus.parquet --out vectorgym_like --tokenizer Qwen3-VL-8B-SVG \\
      --min-tokens 2000 --max-tokens 8000 --min-colour-entropy 1 --near-duplicates 3")]
pub struct Args {
    #[command(flatten)]
    pub input: Input,
    /// The folder to write; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Write into a folder that holds files, over those of an earlier preparation.
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub form: Form,
    #[command(flatten)]
    pub filters: Filters,
    /// Share of the rows held out, from 0 up to below 1: which ones follows from their pictures and
    /// --seed alone, so that it stays when rows are added.
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = share)]
    pub held_out: f64,
    /// Threads that draw; by default one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Input {
    /// A file, a folder of files, or a pattern with `*` in its last part.
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,
    /// How the rows are stored; by default as the files' ending says.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The key or column that holds the SVG.
    #[arg(long, value_name = "KEY", default_value = "svg")]
    pub svg_field: String,
    /// The key or column that holds the prompt.
    #[arg(long, value_name = "KEY", default_value = "prompt")]
    pub prompt_field: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// JSON objects, one a line or in one array.
    Jsonl,
    /// Values between commas, semicolons, tabs or bars with a header line.
    Csv,
    /// Parquet tables.
    Parquet,
    /// Tables that the `datasets` library saved.
    Arrow,
    /// SVG files; the prompt is the words of the file's name.
    #[value(name = "svg_folder", alias = "svg-folder")]
    SvgFolder,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Form {
    /// Side of the square viewBox.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub side: u32,
    /// Decimals of coordinates.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=6))]
    pub decimals: u32,
    /// Least structural similarity of the pictures before and after, -1 to 1.
    #[arg(long, value_name = "X", default_value_t = 0.98, allow_negative_numbers = true, value_parser = similarity)]
    pub min_ssim: f64,
    /// Draw each SVG this many pixels wide (its longer side), as a PNG that the row names under `images`: what prompts
    /// of pictures show.
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub pictures: Option<u32>,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Filters {
    /// Counts tokens of the new SVG with this model folder's tokenizer.
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Fewest tokens.
    #[arg(long, value_name = "N", requires = "tokenizer")]
    pub min_tokens: Option<usize>,
    /// Most tokens.
    #[arg(long, value_name = "N", requires = "tokenizer")]
    pub max_tokens: Option<usize>,
    /// Least entropy of the picture's colours in bits (eight steps a channel): 0 for one colour, 9 at most.
    #[arg(long, value_name = "BITS", default_value_t = 0.0, value_parser = entropy)]
    pub min_colour_entropy: f64,
    /// Leave out pictures like an earlier one: at most this many of 64 bits of a hash of their shape
    /// differ, 0 to 5, and their colours hardly.
    #[arg(long, value_name = "DISTANCE", value_parser = clap::value_parser!(u32).range(0..=5))]
    pub near_duplicates: Option<u32>,
    /// Keep rows whose SVG was there before.
    #[arg(long, conflicts_with = "near_duplicates")]
    pub keep_duplicates: bool,
}

fn bounded(text: &str, fits: impl Fn(f64) -> bool, rule: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| fits(*value));
    value.ok_or_else(|| format!("must be {rule}"))
}

fn share(text: &str) -> Result<f64, String> {
    let rule = "a share from 0 up to below 1 (a number of rows would change with the rows)";
    bounded(text, |v| (0.0..1.0).contains(&v), rule)
}

fn similarity(text: &str) -> Result<f64, String> {
    bounded(text, |v| (-1.0..=1.0).contains(&v), "from -1 to 1")
}

fn entropy(text: &str) -> Result<f64, String> {
    bounded(text, |v| (0.0..=9.0).contains(&v), "from 0 to 9")
}

impl Input {
    /// How the rows are read.
    ///
    /// # Errors
    /// No format given, and none or several told by the endings.
    pub fn source(&self) -> Result<SourceConfig, CliFailure> {
        let file = FileConfig {
            path: self.from.clone(),
            ..FileConfig::default()
        };
        let format = match self.format {
            Some(format) => format,
            None => guess(&self.from)?,
        };
        Ok(match format {
            Format::Jsonl => SourceConfig::Jsonl(file),
            Format::Csv => SourceConfig::Csv(file),
            Format::Parquet => SourceConfig::Parquet(file),
            Format::Arrow => SourceConfig::Arrow(file),
            Format::SvgFolder => SourceConfig::SvgFolder(file),
        })
    }
}

/// The format by the file's ending, or by the endings in the folder.
fn guess(path: &Path) -> Result<Format, CliFailure> {
    let by_ending = |path: &Path| match ending(path).as_str() {
        "jsonl" | "json" | "ndjson" => Some(Format::Jsonl),
        "csv" | "tsv" => Some(Format::Csv),
        "parquet" => Some(Format::Parquet),
        "arrow" | "feather" | "ipc" => Some(Format::Arrow),
        "svg" => Some(Format::SvgFolder),
        _ => None,
    };
    let unclear = |what: &str| {
        CliFailure::input(format!(
            "--from {}: {what}; say which with --format jsonl, csv, parquet, arrow or svg_folder",
            path.display()
        ))
    };
    // What a dataset on disk says of itself is JSON, its rows are not.
    if ["state.json", "dataset_dict.json"]
        .iter()
        .any(|name| path.join(name).is_file())
    {
        return Ok(Format::Arrow);
    }
    if !path.is_dir() {
        return by_ending(path).ok_or_else(|| unclear("the ending tells no format"));
    }
    let entries = std::fs::read_dir(path)
        .map_err(|error| CliFailure::input(format!("--from {}: {error}", path.display())))?;
    let mut found: Vec<Format> = Vec::new();
    for entry in entries.flatten() {
        if let Some(format) = by_ending(&entry.path()).filter(|format| !found.contains(format)) {
            found.push(format);
        }
    }
    match found.as_slice() {
        [format] => Ok(*format),
        [] => Err(unclear("no file in it has a known ending")),
        _ => Err(unclear("its files are of several formats")),
    }
}
