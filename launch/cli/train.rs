//! `svgrl train`: the run folder, the ranks, the progress lines around [`trainer::run`].

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use trainer::config::StageCommon;
use trainer::metrics::{Metric, Metrics, keys};
use trainer::{Observer, Resume, RunEnd, RunOptions, World};

use super::{Failure, Shared, config};
use crate::progress::duration;
use crate::report;

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
}

/// Runs the command.
pub fn run(args: &Args, shared: &Shared) -> Result<(), Failure> {
    let loaded = config::load(&args.config, &args.set, shared)?;
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
        .map_err(Failure::input)?;
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
        torch_ext::set_deterministic(true).map_err(Failure::other)?;
    }
    let group = world.connect(device)?;
    let options = RunOptions {
        folder: &folder,
        resume,
        device,
        threads,
    };
    let mut console = Console::new(&folder, leader, shared)?;
    let end = trainer::run(config, &options, group, &mut console)
        .map_err(|error| loaded.failure(error))?;
    console.end(end);
    Ok(())
}

/// Makes the run folder, refuses a changed config, and writes what describes the run.
fn prepare(
    folder: &Path,
    args: &Args,
    loaded: &config::Loaded,
    resume: &Resume,
    place: &Value,
) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| Failure::other(format!("{path}: {error}"))
    };
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::input(format!("--run-dir {}: {error}", folder.display())))?;
    let saved = folder.join("config.resolved.yaml");
    let continues = *resume != Resume::Never && trainer::has_checkpoint(folder);
    if continues && saved.exists() {
        let text = std::fs::read_to_string(&saved).map_err(failed(&saved))?;
        let before: Value = serde_saphyr::from_str(&text).map_err(|error| {
            let error = error.to_string();
            let first = error.lines().next().unwrap_or_default();
            Failure::input(format!("{}: {first}", saved.display()))
        })?;
        let changes = trainer::forbidden_changes(&before, &loaded.resolved);
        if !changes.is_empty() {
            return Err(Failure::input(format!(
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

fn to_yaml(value: &Value) -> Result<String, Failure> {
    serde_saphyr::to_string(value).map_err(Failure::other)
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

/// Prints one line a step and keeps `train.log`, the report and the event files.
struct Console {
    leader: bool,
    quiet: bool,
    verbose: bool,
    terminal: bool,
    log: Option<std::fs::File>,
    folder: PathBuf,
    pace: Pace,
    /// When the scan of a source's files began.
    reading: Option<Instant>,
}

/// What time left is estimated from.
struct Pace {
    stage: String,
    since: Instant,
    first: u64,
}

impl Console {
    fn new(folder: &Path, leader: bool, shared: &Shared) -> Result<Self, Failure> {
        let path = folder.join("train.log");
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let log = leader
            .then(open)
            .transpose()
            .map_err(|error| Failure::other(format!("{}: {error}", path.display())))?;
        Ok(Self {
            leader,
            quiet: shared.quiet,
            verbose: shared.verbose,
            terminal: std::io::stderr().is_terminal(),
            log,
            folder: folder.to_owned(),
            pace: Pace {
                stage: String::new(),
                since: Instant::now(),
                first: 0,
            },
            reading: None,
        })
    }

    fn say(&mut self, line: &str, passing: bool) {
        if let Some(log) = &mut self.log {
            let _ = writeln!(log, "{line}");
        }
        if self.quiet || !self.leader {
            return;
        }
        match self.terminal && passing {
            true => eprint!("\r\x1b[K{line}"),
            false if self.terminal => eprintln!("\r\x1b[K{line}"),
            false => eprintln!("{line}"),
        }
    }

    fn end(&mut self, end: RunEnd) {
        match end {
            RunEnd::Finished => self.say(
                &format!("done: {}", self.folder.join("report.html").display()),
                false,
            ),
            RunEnd::AlreadyFinished => {}
            RunEnd::Interrupted => self.say(
                "stopped by a signal; the state is written, run the same command to continue",
                false,
            ),
        }
    }
}

impl Observer for Console {
    fn row(&mut self, stage: &StageCommon, step: u64, metrics: &Metrics) {
        if self.verbose {
            let all: Vec<String> = metrics
                .iter()
                .map(|(name, value)| format!("{name}={value:.6}"))
                .collect();
            self.say(&format!("{} {step}: {}", stage.name, all.join(" ")), false);
        }
        let brief = |shown: &[(&Metric, &str)]| -> String {
            let shown = shown.iter().filter_map(|(metric, label)| {
                metrics
                    .get(metric)
                    .map(|value| format!("{label} {value:.4}"))
            });
            shown.collect::<Vec<_>>().join("  ")
        };
        if let Some(set) = metrics.held_out_set() {
            let get = |metric| metrics.get_held_out(set, metric).unwrap_or(f64::NAN);
            let (reward, valid) = (get(&keys::REWARD_MEAN), get(&keys::VALID));
            self.say(
                &format!(
                    "{} step {step}: {set} reward {reward:.4}, valid {:.1} %",
                    stage.name,
                    100.0 * valid
                ),
                false,
            );
            return;
        }
        if self.pace.stage != stage.name {
            self.pace = Pace {
                stage: stage.name.clone(),
                since: Instant::now(),
                first: step,
            };
        }
        let seconds = metrics.get(&keys::TIME_STEP).unwrap_or(0.0);
        let each = match step - self.pace.first {
            0 => seconds,
            steps => self.pace.since.elapsed().as_secs_f64() / steps as f64,
        };
        let left = duration(each * (stage.steps - step) as f64);
        let shown = brief(&[
            (&keys::SFT_LOSS, "loss"),
            (&keys::REWARD_MEAN, "reward"),
            (&keys::VALID, "valid"),
            (&keys::TOKENS_MEAN, "tokens"),
            (&keys::KL_REF, "kl"),
            (&keys::GRAD_NORM, "grad"),
        ]);
        let line = format!(
            "{} {step}/{}  {shown}  {seconds:.2} s/step  {left} left",
            stage.name, stage.steps
        );
        self.say(&line, step < stage.steps);
    }

    fn checkpoint(&mut self, run: &Path) {
        if let Err(error) = report::write_rendered(run, &run.join("report.html")) {
            self.say(&format!("the report could not be written: {error}"), false);
        }
    }

    fn reading(&mut self, source: &str, done: u64, all: u64) {
        let since = *self.reading.get_or_insert_with(Instant::now);
        let left = since.elapsed().as_secs_f64() * (all - done) as f64 / done.max(1) as f64;
        let gib = |bytes: u64| bytes as f64 / f64::from(1u32 << 30);
        let line = format!(
            "reading {source}: {:.2} of {:.2} GiB, {} left",
            gib(done),
            gib(all),
            duration(left)
        );
        if done == all {
            self.reading = None;
        }
        // Plain output gets the beginning and the end, a terminal every change.
        if self.terminal || done == all {
            self.say(&line, done < all);
        }
    }

    fn notice(&mut self, text: &str) {
        self.say(text, false);
    }
}
