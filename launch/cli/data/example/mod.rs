//! `svgrl data example`: a small copy of everything that one of the five systems needs. Data in the published layout,
//! tiny checkpoints and encoders with random weights in Hugging Face's layout, the system's own config, and a
//! `config.yaml` with that config as its `base:` that changes sizes and paths alone; and a few rows of the benchmark that the system is
//! reported on, with `suite.yaml` to judge by.
//!
//! Random weights write no SVG. Systems that begin with supervised training need none of it; the policies of the
//! others are fitted to the example's own rows first (`fit`).

mod benchmarks;
mod byte_tokenizer;
mod ctrl_s;
mod drawings;
mod encoders;
mod fit;
mod folder;
mod internsvg;
mod introsvg;
mod policy;
mod sagoge;
mod sgp_gen;
mod system;
mod vectorgym;

use std::path::PathBuf;

use super::super::{CliFailure, SharedFlags, config};
use folder::ExampleFolder;
use system::SystemExample;

/// Tells editors by which schema they complete a config.
const SCHEMA_LINE: &str = "# yaml-language-server: $schema=svgrl.schema.json\n";

/// `svgrl data example`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl data example ctrl-s --out ctrl-s-tiny
  svgrl data example introsvg --out introsvg-tiny")]
pub struct Args {
    /// Which system.
    #[arg(value_enum)]
    system: SystemName,
    /// The folder to write; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The systems that have a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SystemName {
    /// CTRL-S: two stages of SFT, then GRPO on three tasks.
    #[value(name = "ctrl-s")]
    CtrlS,
    /// VectorGym: GRPO on four tasks.
    #[value(name = "vectorgym")]
    VectorGym,
    /// SGP-Gen: GRPO from a base model.
    #[value(name = "sgp-gen")]
    SgpGen,
    /// InternSVG: two stages of SFT.
    #[value(name = "internsvg")]
    InternSvg,
    /// IntroSVG: SFT, then DPO on pairs of its own.
    #[value(name = "introsvg")]
    IntroSvg,
}

impl SystemName {
    fn example(self) -> SystemExample {
        match self {
            Self::CtrlS => ctrl_s::EXAMPLE,
            Self::VectorGym => vectorgym::EXAMPLE,
            Self::SgpGen => sgp_gen::EXAMPLE,
            Self::InternSvg => internsvg::EXAMPLE,
            Self::IntroSvg => introsvg::EXAMPLE,
        }
    }
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let folder = ExampleFolder::create(&args.out, shared.seed.unwrap_or(0))?;
    let example = args.system.example();
    (example.write)(&folder)?;
    folder.text("svgrl.schema.json", &config::schema_text()?)?;
    folder.text(example.base, example.config)?;
    folder.text("config.yaml", &format!("{SCHEMA_LINE}{}", example.twin))?;
    if let Some(plan) = &example.fit {
        fit::fit(&folder, plan, shared)?;
    }
    let config = args.out.join("config.yaml");
    println!("{} is ready", args.out.display());
    println!("  svgrl train {}", config.display());
    Ok(())
}
