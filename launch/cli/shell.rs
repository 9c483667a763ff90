//! What shells and `man` know of the program, from the definitions by which it reads its command line.

use std::path::{Path, PathBuf};

use clap_complete::Shell;

use super::CliFailure;

/// `svgrl completions`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl completions bash > ~/.local/share/bash-completion/completions/svgrl
  svgrl completions zsh > ~/.zfunc/_svgrl
  svgrl completions fish > ~/.config/fish/completions/svgrl.fish")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// `svgrl man`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Example:
  svgrl man ~/.local/share/man/man1
Then `man svgrl`, `man svgrl-train`, `man svgrl-data-prepare`.")]
pub struct ManArgs {
    /// Folder for the pages, one a command; made when missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Prints the completions of `program`.
pub fn completions(args: &CompletionsArgs, mut program: clap::Command) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "svgrl", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
}

/// Writes a page for `program` and each of its commands.
///
/// # Errors
/// A folder or page that cannot be written.
pub fn man(args: &ManArgs, program: clap::Command) -> Result<(), CliFailure> {
    let failed = |path: &Path, error| CliFailure::input(format!("{}: {error}", path.display()));
    std::fs::create_dir_all(&args.folder).map_err(|error| failed(&args.folder, error))?;
    clap_mangen::generate_to(program, &args.folder).map_err(|error| failed(&args.folder, error))
}
