//! `svgrl data inspect`: what a config's sources yield, before anything is trained on it.
//!
//! The rows come through the readers, checks and templates of training. Every row is opened and
//! checked as a run's start does; of each source so many rows as `--limit` allows, spread evenly, are
//! read and measured, and a few are shown as pictures. Bad rows are counted whatever `on_bad_row`
//! says; where a run would stop at them the exit status says so after everything else is done. Of
//! large files, whose rows a run checks as it draws them, only the rows that are read are checked.

mod json;
mod page;
mod pictures;
mod problems;
mod rendered_prompt;
mod survey;
mod text;

use std::path::{Path, PathBuf};

use rollout::data::OnBadRow;
use trainer::config::Config;

use super::parallel::RowThreads;
use crate::cli::config::load;
use crate::cli::{CliFailure, SharedFlags};
use crate::progress::Bar;
use crate::report;
use rendered_prompt::{Folder, Words};
use survey::{Measuring, Survey};

/// `svgrl data inspect`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Prints counts, what was left out and why, and histograms of lengths; writes the same with samples as
pictures into one HTML file. Prompts are measured as the config's policy is asked them; where its
folder is not at hand, lengths are in characters alone. Exit status 2 when a run would stop at a row.

Examples:
  svgrl data inspect configs/quickstart.yaml
  svgrl data inspect my.yaml --out data.html --samples 24 --seed 7
  svgrl data inspect my.yaml --limit 0 --tokenizer Qwen3-VL-8B-SVG
  svgrl data inspect my.yaml --set data.on_bad_row=skip --json > data.json")]
pub struct Args {
    /// The config.
    config: PathBuf,
    /// The HTML file; default: NAME.data.html in the config's output_dir.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,
    /// Rows of each source that are shown, chosen by --seed.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1000))]
    samples: u32,
    /// Rows of each source that are read and measured, spread evenly over it; 0: all.
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    limit: usize,
    /// Measures with this model folder's tokenizer and chat template instead of the config's.
    #[arg(long, value_name = "DIR")]
    tokenizer: Option<PathBuf>,
    /// Overrides, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let mut config = load(&args.config, &args.set, shared)?.config;
    if let Some(folder) = &args.tokenizer {
        config.model.tokenizer = Some(std::path::absolute(folder).map_err(CliFailure::input)?);
    }
    let folder = Folder::of(&config.model, args.tokenizer.is_some())?;
    if let Some(lack) = &folder.lack
        && !shared.quiet
    {
        eprintln!("note: {lack}");
    }
    let words = Words::new(&config, &folder)?;
    // Everything is looked at; what a run would make of it is said at the end.
    let stops = std::mem::replace(&mut config.data.on_bad_row, OnBadRow::Skip) == OnBadRow::Error;
    let catalog = {
        let mut bar: Option<(String, Bar, u64)> = None;
        trainer::open_catalog(&config, &mut |source, done, all| {
            if bar.as_ref().is_none_or(|(name, ..)| name != source) {
                bar = Some((
                    source.to_owned(),
                    Bar::new(&format!("reading {source}"), all, shared.quiet),
                    0,
                ));
            }
            if let Some((_, bar, before)) = &mut bar {
                bar.advance(done.saturating_sub(*before));
                *before = done;
                if done == all {
                    bar.finish();
                }
            }
        })?
    };
    let survey = Survey::take(
        &catalog,
        &Measuring {
            config: &config,
            words: &words,
            limit: args.limit,
            samples: args.samples as usize,
            workers: &RowThreads::new(0)?,
            quiet: shared.quiet,
        },
    )?;
    let out = args.out.clone().unwrap_or_else(|| default_page(&config));
    write_page(&out, &page::html(&survey, &config, &args.config))?;
    if args.json {
        let about = (args.config.as_path(), out.as_path());
        println!("{:#}", json::of(&survey, &folder, about));
    } else if !shared.quiet {
        print!("{}", text::of(&survey));
        println!("\npictures: {}", out.display());
    }
    match survey.verdict(stops) {
        Some(sentence) => Err(CliFailure::input(sentence)),
        None => Ok(()),
    }
}

fn default_page(config: &Config) -> PathBuf {
    config
        .output_dir
        .0
        .join(format!("{}.data.html", config.name))
}

fn write_page(out: &Path, page: &str) -> Result<(), CliFailure> {
    let folder = out.parent().unwrap_or(Path::new(""));
    let made = match folder.as_os_str().is_empty() {
        true => Ok(()),
        false => std::fs::create_dir_all(folder),
    };
    made.and_then(|()| report::page::write(out, page))
        .map_err(|error| CliFailure::input(format!("--out {}: {error}", out.display())))
}
