//! `svgrl merge`: a LoRA checkpoint as a plain model folder.

use std::path::PathBuf;

use models::merge_folder;
use trainer::config::Dtype;

use super::{CliFailure, SharedFlags};

/// `svgrl merge`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl merge --model runs/lora/checkpoints/rl/final --out merged
  svgrl merge --model ADAPTER --out merged --dtype bfloat16

The sum is computed in float32 and rounded once, to --dtype or else to what the base is stored in.")]
pub struct Args {
    /// Checkpoint of a stage with `lora`, or an adapter that PEFT wrote.
    #[arg(long, value_name = "CHECKPOINT")]
    model: PathBuf,
    /// The folder to write; it must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let device = shared.device()?;
    trainer::threads(0);
    let kind = shared.dtype.map(Dtype::kind);
    let kind = merge_folder(&args.model, &args.out, (kind, device))?;
    if !shared.quiet {
        println!(
            "{}: {kind:?} weights with the adapter in them",
            args.out.display()
        );
    }
    Ok(())
}
