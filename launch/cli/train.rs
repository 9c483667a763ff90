//! `svgrl train`: the run folder, the ranks, the progress lines around [`trainer::run`].

use std::path::{Path, PathBuf};
use std::time::Duration;

use rollout::engine::SamplerEnd;
use serde_json::{Value, json};
use trainer::config::{Config, WandbConfig};
use trainer::plan::Hardware;
use trainer::{Interrupt, Observer, Resume, RunEnd, RunLock, RunOptions, SamplerSeat, World};

use super::export::{self, Tracker};
use super::train_progress::TrainProgress;
use super::{CliFailure, SharedFlags, config, plan};
use crate::spawn;
use crate::telemetry::{self, LINES, RunOutputs, RunProcess, TOLD};

/// `svgrl train`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl train configs/quickstart.yaml
  svgrl train configs/quickstart.yaml --set stages.rl.steps=20 --set seed=1 --run-dir runs/short
  svgrl train configs/quickstart.yaml --dry-run
  svgrl train configs/quickstart.yaml --gpus 8
  svgrl train configs/quickstart.yaml --accept-changes data,stages.rl.optimizer.learning_rate
  svgrl train configs/quickstart.yaml --resume runs/quickstart/checkpoints/rl/step_000100 --run-dir runs/other")]
pub struct Args {
    /// The config.
    config: PathBuf,
    /// Overrides a key: dotted, list elements by index or name, the value in YAML.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run folder; default: `<output_dir>/<name>`.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// `auto` continues a run folder that has a checkpoint; `never` starts over and moves the run that is there
    /// aside; a path continues from that checkpoint, one of another run in a folder of its own (--run-dir).
    #[arg(long, value_name = "auto|never|PATH", default_value = "auto")]
    resume: String,
    /// Continue although these differ from what the checkpoint was made of: dotted keys, or `data`, `model`,
    /// `tokenizer`, `encoders`, `templates`. Recorded in the run folder.
    #[arg(long, value_name = "KEY[,KEY..]", value_delimiter = ',')]
    accept_changes: Vec<String>,
    /// Validate, print the resolved config and the plan, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Train on this many GPUs of this machine, or with so many ranks on its CPU: the same as `svgrl launch
    /// --nproc-per-node N -- train ..`.
    #[arg(long, value_name = "N")]
    gpus: Option<usize>,
    /// Write a Chrome trace of the run's phases, decoding, renders, encoders and collectives: opens in
    /// Perfetto. Other ranks write beside it, their number in the name.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Runs the command; the exit status of a run that ended as it should, or was stopped.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<u8, CliFailure> {
    if let Some(ranks) = args.gpus {
        return launch(args, ranks);
    }
    let loaded = config::load_to_run(&args.config, &args.set, shared)?;
    let config = &loaded.config;
    if args.dry_run {
        if SamplerSeat::from_env()?.is_some() {
            // The ranks beside it say what it would take.
            return Ok(0);
        }
        let mut config = config.clone();
        trainer::settle_steps(&mut config).map_err(|error| loaded.failure(error))?;
        let here = Hardware::here(&loaded.config, 0)?;
        let plan = plan::made(&loaded, here, false)?;
        let resolved = serde_json::to_value(&config).map_err(CliFailure::other)?;
        println!("{}", to_yaml(&resolved)?);
        println!("{}", plan.text);
        return plan::fits(&plan).map(|()| 0);
    }
    if let Some(seat) = SamplerSeat::from_env()? {
        return sample(args, shared, &loaded, &seat);
    }
    trainer::check_placement(config, trainer::samplers_beside()?)?;
    let grace = Duration::try_from_secs_f64(config.grace_s).unwrap_or(Duration::MAX);
    let interrupt = Interrupt::listen(grace)?;
    let world = World::from_env()?;
    let device = config
        .device
        .resolve(world.local_rank)
        .map_err(CliFailure::input)?;
    let threads = trainer::threads(config.threads);
    let folder = args.folder(config);
    let leader = world.rank == 0;
    let documents = match leader {
        true => documents(
            &loaded,
            &json!({
                "device": format!("{device:?}"),
                "gpu": torch_ext::device_name(device).ok().flatten(),
                "threads": threads,
                "world_size": world.size,
            }),
        ),
        false => Vec::new(),
    };
    let resume = args.resume(world.attempt);
    let (_lock, aside) = match leader {
        true => hold(&folder, &resume, world.attempt)?,
        false => (None, None),
    };
    if config.deterministic && device != tch::Device::Cpu {
        torch_ext::set_deterministic(true).map_err(CliFailure::other)?;
    }
    let outputs = RunOutputs {
        folder: &folder,
        process: RunProcess::Rank(world.rank),
        verbosity: shared.verbosity(),
        trace: args.trace.as_deref(),
    };
    let open = || telemetry::start_run(&outputs);
    // Rank 0 has the folder already, and says in its log who is missing; others touch it once they belong to its run.
    let first = leader.then(open).transpose()?;
    let group = world.connect(config, &folder, device).map_err(recorded)?;
    let samplers = trainer::open_pool(config, &world, &folder).map_err(recorded)?;
    let _outputs = match first {
        Some(outputs) => outputs,
        None => open()?,
    };
    let mut progress = TrainProgress::new(&folder);
    if let Some(aside) = aside {
        progress.notice(&format!(
            "the run that was in {} is now {}",
            folder.display(),
            aside.display()
        ));
    }
    let options = RunOptions {
        folder: &folder,
        resume,
        device,
        threads,
        accept: &args.accept_changes,
        documents: &documents,
        samplers,
        interrupt,
    };
    let end = trainer::run(config, &options, group, &mut progress)
        .map_err(|error| recorded(loaded.failure(error)))?;
    progress.end(end);
    if let (RunEnd::Finished, true, Some(wandb)) = (end, leader, &config.tracking.wandb) {
        track(&folder, wandb);
    }
    Ok(match end {
        RunEnd::Finished | RunEnd::AlreadyFinished => 0,
        RunEnd::Interrupted(signal) => u8::try_from(128 + signal).unwrap_or(1),
    })
}

/// What ends the run, after a word in its logs.
fn recorded(failure: impl Into<CliFailure>) -> CliFailure {
    let failure = failure.into();
    tracing::error!(target: TOLD, "{failure}");
    failure
}

/// Replays a finished run into W&B, or says how to do it later: what a tracker lacks is no fault of the run.
fn track(folder: &Path, wandb: &WandbConfig) {
    let told = export::replay(Tracker::Wandb, folder, &wandb.project, &wandb.python);
    match told {
        Ok(said) => tracing::info!(target: LINES, "tracking.{said}"),
        Err(failure) => tracing::warn!(
            target: LINES,
            "tracking.wandb: {failure}; later: svgrl export wandb {} --project {}",
            folder.display(),
            wandb.project
        ),
    }
}

/// Starts `ranks` local ranks of this very command line, without its `--gpus`.
fn launch(args: &Args, ranks: usize) -> Result<u8, CliFailure> {
    if args.dry_run {
        return Err(CliFailure::input(
            "--gpus: with --dry-run nothing is started (svgrl plan CONFIG --gpus 8xH200 plans for other hardware)",
        ));
    }
    if std::env::var_os("WORLD_SIZE").is_some() {
        return Err(CliFailure::input(
            "--gpus: this process is a rank already (WORLD_SIZE is set); what started it says how many there are",
        ));
    }
    let mut words = std::env::args().skip(1);
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        match word.strip_prefix("--gpus") {
            Some("") => drop(words.next()),
            Some(rest) if rest.starts_with('=') => {}
            _ => command.push(word),
        }
    }
    let launched = spawn::run(&spawn::Args::local(ranks, command));
    launched.map_err(|error| match error {
        spawn::LaunchError::Usage(_) => CliFailure::input("--gpus: must be at least 1, got 0"),
        other => other.into(),
    })
}

/// Samples for the ranks of the run until that ends; the process's exit status. Signals end it at once: it has nothing to
/// write.
fn sample(
    args: &Args,
    shared: &SharedFlags,
    loaded: &config::RunConfig,
    seat: &SamplerSeat,
) -> Result<u8, CliFailure> {
    let config = &loaded.config;
    let device = config.device.resolve(seat.local_rank);
    let device = device.map_err(CliFailure::input)?;
    trainer::threads(config.threads);
    let folder = args.folder(config);
    // The run folder is in order once rank 0 can be reached.
    let desk = seat.reach(config)?;
    if config.deterministic && device != tch::Device::Cpu {
        torch_ext::set_deterministic(true).map_err(CliFailure::other)?;
    }
    let _outputs = telemetry::start_run(&RunOutputs {
        folder: &folder,
        process: RunProcess::Sampler(seat.number),
        verbosity: shared.verbosity(),
        trace: args.trace.as_deref(),
    })?;
    let end = seat.sample(desk, config, &folder, device);
    let end = end.map_err(|error| {
        tracing::error!(target: TOLD, "sampler {}: {error}", seat.number);
        loaded.failure(error)
    })?;
    match end {
        SamplerEnd::RunEnded => Ok(0),
        SamplerEnd::GivenUp => {
            tracing::warn!(target: TOLD, "sampler {}: rank 0 has given it up", seat.number);
            Ok(LOST)
        }
        SamplerEnd::TurnedAway(why) => Err(CliFailure::other(why)),
    }
}

impl Args {
    /// The run folder.
    fn folder(&self, config: &Config) -> PathBuf {
        let own = || config.output_dir.0.join(&config.name);
        self.run_dir.clone().unwrap_or_else(own)
    }

    /// Where to continue. What the flag says is said to the first attempt: one that torchrun or Slurm starts after
    /// it goes on from where that came.
    fn resume(&self, attempt: u64) -> Resume {
        match self.resume.as_str() {
            _ if attempt > 0 => Resume::Auto,
            "auto" => Resume::Auto,
            "never" => Resume::Never,
            path => Resume::From(path.into()),
        }
    }
}

/// The exit status of a sampler that another one may take the place of.
const LOST: u8 = 75;

/// How long a restart waits for the attempt before it to leave the run folder.
const ATTEMPT: Duration = Duration::from_secs(120);

/// The run folder's lock, and where a run that lay there has gone.
type Held = (Option<RunLock>, Option<PathBuf>);

/// Takes the run folder for this process; a run that starts over moves the one before it aside.
fn hold(folder: &Path, resume: &Resume, attempt: u64) -> Result<Held, CliFailure> {
    let lock = match attempt {
        0 => RunLock::take(folder)?,
        // The attempt before may still be writing its state.
        _ => RunLock::take_within(folder, ATTEMPT)?,
    };
    let (lock, aside) = match resume {
        Resume::Never => trainer::move_aside(folder, lock)?,
        Resume::Auto | Resume::From(_) => (lock, None),
    };
    Ok((Some(lock), aside))
}

/// What describes the run besides its resolved config, by file name.
fn documents(loaded: &config::RunConfig, place: &Value) -> Vec<(String, Vec<u8>)> {
    let environment = json!({
        "commit": commit(),
        "version": env!("CARGO_PKG_VERSION"),
        "libtorch": torch_ext::version(),
        "machine": {"os": std::env::consts::OS, "arch": std::env::consts::ARCH, "cpu": cpu_name(), "cores": std::thread::available_parallelism().map_or(1, |n| n.get())},
        "run": place,
        "arguments": std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>(),
    });
    // As they were read, before the run folder is touched: the config given may be the folder's own.
    let mut all = loaded.files();
    all.push((
        "environment.json".to_owned(),
        format!("{environment:#}\n").into_bytes(),
    ));
    all
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
