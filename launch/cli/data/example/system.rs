//! What each system's file gives to the command.

use super::super::super::CliFailure;
use super::fit::FitPlan;
use super::folder::ExampleFolder;

/// What a system's example consists of.
pub struct SystemExample {
    /// Name of the system's config within the folder.
    pub base: &'static str,
    /// That config.
    pub config: &'static str,
    /// The twin, which names it as its base.
    pub twin: &'static str,
    /// Writes data, policy and encoders.
    pub write: fn(&ExampleFolder) -> Result<(), CliFailure>,
    /// How the policy is fitted, where no supervised stage comes first.
    pub fit: Option<FitPlan>,
}
