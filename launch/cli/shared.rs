//! The flags that every command takes.

use trainer::config::{DeviceName, Dtype};

use super::failure::CliFailure;
use crate::telemetry::Verbosity;

/// Flags of every command.
#[derive(Debug, Clone, clap::Args)]
pub struct SharedFlags {
    /// Where to compute: auto, cpu, cuda or cuda:N; beats the config.
    #[arg(long, global = true, value_name = "DEVICE")]
    pub device: Option<String>,
    /// What the policy computes in: float32 or bfloat16; beats the config.
    #[arg(long, global = true, value_name = "DTYPE")]
    pub dtype: Option<Dtype>,
    /// Seed of everything random; beats the config.
    #[arg(long, global = true, value_name = "N")]
    pub seed: Option<u64>,
    /// Print errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more: `train` prints every metric of each step.
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

impl SharedFlags {
    /// The device a command without a config computes on.
    ///
    /// # Errors
    /// A name that is no device, or a device that is not there.
    pub fn device(&self) -> Result<tch::Device, CliFailure> {
        let name = self
            .device
            .clone()
            .map_or_else(DeviceName::default, DeviceName);
        name.resolve(0)
            .map_err(|error| CliFailure::input(format!("--{error}")))
    }

    /// What the console shows.
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }

    /// The kind a command without a config computes in.
    pub fn kind(&self) -> tch::Kind {
        self.dtype.unwrap_or_default().kind()
    }
}
