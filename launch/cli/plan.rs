//! `svgrl plan`: what a run would do and need, on this machine or on hardware that is not here.

use std::path::PathBuf;

use trainer::plan::{Hardware, RunPlan};

use super::config::RunConfig;
use super::{CliFailure, SharedFlags, config};

/// `svgrl plan`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl plan configs/quickstart.yaml
  svgrl plan configs/quickstart.yaml --measure
  svgrl plan configs/ctrl_s.yaml --gpus 8xH200
  svgrl plan run.yaml --gpus 8xH200 --samplers 6      # run.yaml: rollout.placement: dedicated
  svgrl plan configs/rlrf.yaml --gpus 4xA100-80 --set sharding.stage=3
  svgrl plan configs/quickstart.yaml --gpus 1xcpu-24GiB

Exit status 2: it does not fit, and which keys to change.")]
pub struct Args {
    /// The config.
    config: PathBuf,
    /// Overrides a key, as in `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Hardware to plan for in place of what is here: so many devices, a rank on each.
    #[arg(long, value_name = "NxKIND")]
    gpus: Option<String>,
    /// Samplers of `rollout.placement: dedicated`: so many of the devices of --gpus, or processes beside the one here.
    #[arg(long, value_name = "M", default_value_t = 0)]
    samplers: usize,
    /// Also run a few passes and token steps of the config's shape here, and tell how long its steps would take.
    #[arg(long, conflicts_with = "gpus")]
    measure: bool,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let hardware = args.gpus.as_deref().map(Hardware::parse).transpose()?;
    let hardware = hardware
        .map(|all| all.with_samplers(args.samplers))
        .transpose()?;
    let loaded = config::load_to_run(&args.config, &args.set, shared)?;
    let hardware = match hardware {
        Some(hardware) => hardware,
        None => Hardware::here(&loaded.config, args.samplers)?,
    };
    let plan = made(&loaded, hardware, args.measure)?;
    println!("{}", plan.text);
    fits(&plan)
}

/// The plan of a config, with the steps that its epochs come to.
pub fn made(loaded: &RunConfig, hardware: Hardware, measures: bool) -> Result<RunPlan, CliFailure> {
    trainer::plan(&loaded.config, hardware, measures).map_err(|error| loaded.failure(error))
}

/// Refuses a plan that cannot be done.
pub fn fits(plan: &RunPlan) -> Result<(), CliFailure> {
    match plan.refusals.is_empty() {
        true => Ok(()),
        false => Err(CliFailure::input(plan.refusals.join("\n"))),
    }
}
