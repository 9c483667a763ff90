//! `svgrl train`: the run folder, the ranks, the progress lines around [`trainer::run`].

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use trainer::{Resume, RunOptions, World};

use super::train_progress::TrainProgress;
use super::{CliFailure, SharedFlags, config};
use crate::telemetry::{self, RunOutputs, TOLD};

/// `svgrl train`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl train configs/quickstart.yaml
  svgrl train configs/quickstart.yaml --set stages.rl.steps=20 --set seed=1 --run-dir runs/short
  svgrl train configs/quickstart.yaml --dry-run")]
pub struct Args {
    /// The config.
    config: PathBuf,
    /// Overrides a key: dotted, list elements by index or name, the value in YAML.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run folder; default: `<output_dir>/<name>`.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// `auto` continues a run folder that has a checkpoint, `never` starts over, a path continues
    /// from that checkpoint.
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    resume: String,
    /// Validate, print the resolved config and the plan, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Write a Chrome trace of the run's phases, decoding, renders, encoders and collectives: opens in
    /// Perfetto. Other ranks write beside it, their number in the name.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let loaded = config::load_to_run(&args.config, &args.set, shared)?;
    let config = &loaded.config;
    if args.dry_run {
        let plan = trainer::plan(config).map_err(|error| loaded.failure(error))?;
        println!("{}", to_yaml(&loaded.resolved)?);
        println!("{plan}");
        return Ok(());
    }
    let world = World::from_env()?;
    let device = config
        .device
        .resolve(world.local_rank)
        .map_err(CliFailure::input)?;
    let threads = trainer::threads(config.threads);
    let folder = args
        .run_dir
        .clone()
        .unwrap_or_else(|| config.output_dir.0.join(&config.name));
    let resume = match args.resume.as_str() {
        "auto" => Resume::Auto,
        "never" => Resume::Never,
        path => Resume::From(path.into()),
    };
    let leader = world.rank == 0;
    if leader {
        prepare(
            &folder,
            args,
            &loaded,
            &resume,
            &json!({
                "device": format!("{device:?}"),
                "gpu": torch_ext::device_name(device).ok().flatten(),
                "threads": threads,
                "world_size": world.size,
            }),
        )?;
    }
    if config.deterministic && device != tch::Device::Cpu {
        torch_ext::set_deterministic(true).map_err(CliFailure::other)?;
    }
    std::fs::create_dir_all(&folder)
        .map_err(|error| CliFailure::input(format!("--run-dir {}: {error}", folder.display())))?;
    let _outputs = telemetry::start_run(&RunOutputs {
        folder: &folder,
        rank: world.rank,
        verbosity: shared.verbosity(),
        trace: args.trace.as_deref(),
    })?;
    let group = world.connect(device)?;
    let options = RunOptions {
        folder: &folder,
        resume,
        device,
        threads,
    };
    let mut progress = TrainProgress::new(&folder);
    let end = trainer::run(config, &options, group, &mut progress).map_err(|error| {
        tracing::error!(target: TOLD, "{error}");
        loaded.failure(error)
    })?;
    progress.end(end);
    Ok(())
}

/// Makes the run folder, refuses a changed config, and writes what describes the run.
fn prepare(
    folder: &Path,
    args: &Args,
    loaded: &config::RunConfig,
    resume: &Resume,
    place: &Value,
) -> Result<(), CliFailure> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| CliFailure::other(format!("{path}: {error}"))
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| CliFailure::input(format!("--run-dir {}: {error}", folder.display())))?;
    let saved = folder.join("config.resolved.yaml");
    let continues = *resume != Resume::Never && trainer::has_checkpoint(folder);
    if continues && saved.exists() {
        let text = std::fs::read_to_string(&saved).map_err(failed(&saved))?;
        let before: Value = serde_saphyr::from_str(&text).map_err(|error| {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            CliFailure::input(format!("{}: {first}", saved.display()))
        })?;
        let changes = trainer::forbidden_changes(&before, &loaded.resolved);
        if !changes.is_empty() {
            return Err(CliFailure::input(format!(
                "{}: the run was started with another config: {}; change it back, or start another run with --run-dir or --resume never",
                folder.display(),
                changes.join("; ")
            )));
        }
    }
    let given = folder.join("config.yaml");
    // Read first: the config given may be the run folder's own.
    let as_given = std::fs::read(&args.config).map_err(failed(&args.config))?;
    std::fs::write(&given, as_given).map_err(failed(&given))?;
    std::fs::write(&saved, to_yaml(&loaded.resolved)?).map_err(failed(&saved))?;
    let environment = json!({
        "commit": commit(),
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_ext::version(),
        "machine": {"os": std::env::consts::OS, "arch": std::env::consts::ARCH, "cpu": cpu_name(), "cores": std::thread::available_parallelism().map_or(1, |n| n.get())},
        "run": place,
        "arguments": std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>(),
    });
    let path = folder.join("environment.json");
    std::fs::write(&path, format!("{environment:#}\n")).map_err(failed(&path))
}

fn to_yaml(value: &Value) -> Result<String, CliFailure> {
    serde_saphyr::to_string(value).map_err(CliFailure::other)
}

/// The checkout that the program lies in, if it lies in one.
fn commit() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let output = std::process::Command::new("git")
        .arg("-C")
        .arg(program.parent()?)
        .args(["rev-parse", "HEAD"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn cpu_name() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split(':').nth(1)?.trim().to_owned())
}
