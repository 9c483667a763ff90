//! `svgrl data drafts`: rows of refinement, in SVG-Sophia's layout, of drawings that a policy half got right.
//!
//! CTRL-S keeps drafts whose structural similarity to the reference lies between 0.30 and 0.95.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::candidates::{SamplingArgs, SquarePictures};
use crate::cli::rows::RowWriter;
use crate::cli::{CliFailure, SharedFlags};

/// `svgrl data drafts`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl data drafts --config configs/ctrl_s.yaml --model runs/ctrl_s/checkpoints/sft_sagoge/final --out drafts.jsonl
  svgrl data drafts --config my.yaml --model DIR --out drafts.jsonl --sources icons --prompts 1000 --candidates 2

Rows are `instruction`, `input`, `output`, `images` (format: alpaca); pictures lie in the folder `images` beside the file. The
candidates with their scores stay in FILE.candidates.jsonl, from where an interrupted making goes on.")]
pub struct Args {
    #[command(flatten)]
    sampling: SamplingArgs,
    /// The file to write.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// Least similarity of a draft to its reference.
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.30,
        allow_negative_numbers = true
    )]
    min_ssim: f64,
    /// Most.
    #[arg(long, value_name = "X", default_value_t = 0.95)]
    max_ssim: f64,
    /// Side of the pictures, in pixels.
    #[arg(long, value_name = "N", default_value_t = 448, value_parser = clap::value_parser!(u32).range(16..=2048))]
    size: u32,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    if args.min_ssim > args.max_ssim {
        return Err(CliFailure::input(format!(
            "--min-ssim {} is more than --max-ssim {}",
            args.min_ssim, args.max_ssim
        )));
    }
    let drawings = args.sampling.drawings(&args.out, shared)?;
    let all = drawings.len();
    let pictures = SquarePictures::new(args.size)?;
    let folder = args.out.parent().unwrap_or(Path::new(""));
    let mut out = RowWriter::create(&args.out)?;
    let (mut kept, mut unseen) = (0, 0);
    for drawing in drawings {
        let candidate = &drawing.candidate;
        if !(args.min_ssim..=args.max_ssim).contains(&candidate.total) {
            continue;
        }
        let Ok(png) = pictures.of_reference(candidate) else {
            unseen += 1;
            continue;
        };
        let picture = format!("images/draft_{kept:06}.png");
        let path = folder.join(&picture);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))
            .and_then(|()| std::fs::write(&path, png))
            .map_err(|error| CliFailure::other(format!("{}: {error}", path.display())))?;
        let reference = candidate.reference.svg.as_ref();
        let output = candidate.target.as_ref().or(reference);
        out.write(&json!({
            "id": candidate.id,
            "instruction": format!(
                "The draft below should look like the image and does not yet. Think about what has to change, then give the \
                 corrected SVG.\nImage: <image>\nInstruction: {}\nDraft Code:\n{}",
                candidate.words, drawing.svg
            ),
            "input": "",
            "output": output,
            "images": [picture],
            "ssim": candidate.total,
        }))?;
        kept += 1;
    }
    out.finish()?;
    if !shared.quiet {
        println!(
            "{kept} drafts of {all} drawings that render; {} outside of SSIM {} to {}, {unseen} without a picture to show",
            all - kept - unseen,
            args.min_ssim,
            args.max_ssim
        );
    }
    Ok(())
}
