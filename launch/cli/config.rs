//! Reading a config, and the commands about it alone: check, reference, schema.

use std::path::{Path, PathBuf};

use trainer::config::{Config, DeviceName, FolderOf};
use trainer::{TrainError, config_check};

use super::{CliFailure, SharedFlags};

/// `svgrl check`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  svgrl check configs/quickstart.yaml")]
pub struct CheckArgs {
    /// The config.
    config: PathBuf,
    /// Overrides, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// A config ready to run.
pub struct RunConfig {
    /// The resolved config; paths do not depend on the working directory.
    pub config: Config,
    /// Where its keys stand.
    document: config_check::Document,
}

impl RunConfig {
    /// The files it was read from as a run folder keeps them: config.yaml, and base_1.yaml, base_2.yaml, .. for the
    /// bases under it.
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = self.document.files().iter().enumerate();
        let named = files.map(|(at, file)| {
            let name = match at {
                0 => "config.yaml".to_owned(),
                at => format!("base_{at}.yaml"),
            };
            (name, file.text.clone().into_bytes())
        });
        named.collect()
    }

    /// An error of what the config asks for, with file and line where it is about a key.
    pub fn failure(&self, error: TrainError) -> CliFailure {
        match self.document.locate(&error.to_string()) {
            Some(located) if error.is_input() => CliFailure::input(located),
            _ => error.into(),
        }
    }
}

/// Reads, overrides, validates and resolves a config; every error names file and key.
pub fn load(path: &Path, set: &[String], shared: &SharedFlags) -> Result<RunConfig, CliFailure> {
    read(path, set, shared, |_, _| Ok(()))
}

/// [`load`] of a config that will be run: the folders that it names must be there.
pub fn load_to_run(
    path: &Path,
    set: &[String],
    shared: &SharedFlags,
) -> Result<RunConfig, CliFailure> {
    read(path, set, shared, |config, folder_of| {
        config.check_policy(folder_of)?;
        config.check_encoders(folder_of)?;
        config.check_suites(folder_of)
    })
}

fn read(
    path: &Path,
    set: &[String],
    shared: &SharedFlags,
    look: impl FnOnce(&Config, &FolderOf) -> Result<(), String>,
) -> Result<RunConfig, CliFailure> {
    let loaded = config_check::load_located::<Config>(path, set).map_err(CliFailure::input)?;
    let mut config = loaded.config;
    if let Some(device) = &shared.device {
        config.device = DeviceName(device.clone());
        let named = config.device.check();
        named.map_err(|error| CliFailure::input(format!("--{error}")))?;
    }
    config.dtype = shared.dtype.unwrap_or(config.dtype);
    config.seed = shared.seed.unwrap_or(config.seed);
    let folder_of = |key: &str| loaded.document.folder_of(key);
    let looked = look(&config, &folder_of);
    config.resolve_paths_by(&folder_of);
    config
        .settle()
        .and_then(|()| config.validate())
        .and(looked)
        .map_err(|error| {
            let (key, problem) = error.split_once(": ").unwrap_or(("", &error));
            CliFailure::input(loaded.document.problem(key, problem))
        })?;
    Ok(RunConfig {
        config,
        document: loaded.document,
    })
}

/// `svgrl check`: what `train` checks before it starts, data and tokenizer included.
pub fn check(args: &CheckArgs, shared: &SharedFlags) -> Result<(), CliFailure> {
    // Encoders and benchmarks may lie on the machine that trains alone: they are told of, not asked for.
    let mut encoders = Ok(());
    let loaded = read(&args.config, &args.set, shared, |config, folder_of| {
        encoders = config.check_encoders(folder_of);
        encoders = encoders.clone().and(config.check_suites(folder_of));
        config.check_policy(folder_of)
    })?;
    let left_out = trainer::check_inputs(&loaded.config).map_err(|error| loaded.failure(error))?;
    if !shared.quiet {
        left_out.iter().for_each(|line| eprintln!("{line}"));
        if let Err(problem) = encoders {
            let (key, problem) = problem.split_once(": ").unwrap_or(("", &problem));
            eprintln!("{}", loaded.document.problem(key, problem));
        }
        println!("{}: valid", args.config.display());
    }
    Ok(())
}

/// `svgrl reference`
pub fn reference() -> Result<(), CliFailure> {
    print!("{}", config_check::reference_markdown::<Config>());
    print!("{}", trainer::metrics::reference_markdown());
    Ok(())
}

/// `svgrl schema`
pub fn schema() -> Result<(), CliFailure> {
    print!("{}", schema_text()?);
    Ok(())
}

/// The schema that editors complete configs by.
///
/// # Errors
/// None that is known.
pub fn schema_text() -> Result<String, CliFailure> {
    let schema = config_check::editor_schema::<Config>();
    let text = serde_json::to_string_pretty(&schema).map_err(CliFailure::other)?;
    Ok(text + "\n")
}
