//! `svgrl eval`: benchmarks.

mod held_out;
mod local;
mod run_model;
mod server;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::Device;
use trainer::config::DeviceName;
use trainer::eval::{
    Answerer, Benchmark, Bootstrap, BootstrapConfig, EvalProgress, SideBySide, StoredResult,
    SuiteConfig, SuiteSource, VectorGymScores, write_json, write_tables,
};
use trainer::{config_check, files};

use held_out::HeldOutArgs;
use local::LocalModel;
use server::ServerModel;

use super::{CliFailure, SharedFlags};
use crate::progress::Bar;
use crate::telemetry;

/// `svgrl eval`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl eval sarena-icon --config sarena.yaml --predictions runs/internsvg --out results/internsvg
  svgrl eval sarena-icon --config sarena.yaml --model runs/sft/checkpoints/sft/final --out results/own
  svgrl eval sophia-refine --config sophia.yaml --endpoint http://127.0.0.1:8000/v1 --out results/served
  svgrl eval vectorgym --components published.json --out results/vectorgym
  svgrl eval configs/quickstart.yaml --checkpoint runs/quickstart/checkpoints/rl/final --out scores
  svgrl eval compare results/first results/second --out results/both
The config of a suite:
  data: SArena/Icon              # as it is published; paths are relative to this file
  encoders: {clip_l14: DIR, clip_b32: DIR, dinov2: DIR, lpips: DIR, inception: FILE}
  tokenizer: DIR                 # whose tokens are counted
  pictures: auto                 # given: images/{id}.png of the predictions; drawn: their SVGs, drawn here
  device: auto                   # threads, batch (items a pass), deadline_ms, bootstrap: {samples: 1000, confidence: 0.95}
  sampling: {temperature: 0, max_new_tokens: 4000}   # of --model, --run, --endpoint; absent: the suite's published values
  template: \"Think first. {instruction}\"             # in place of a drawing's own words ({question})
  server: {model: NAME, api_key_env: VARIABLE, connections: 32}        # of --endpoint
  judge: {endpoint: URL, model: NAME, variant: as_released}            # of vectorgym; paper: a scale of 0 to 5; of sgp-genbench
Predictions lie as the released scripts leave them: text2svg/, img2svg/, edit/TASK/ with output.jsonl, svg/ and images/;
understanding/ with rows {\"id\", \"result\"}; of sophia-refine in the folder itself; of vectorgym in sketch/, edit/ and text/, a
folder an item, and caption/output.jsonl with rows {\"id\", \"answer\", \"reference\"}; of sgp-genbench in object/, scene/ and
composition/, as the released scripts leave them or with rows {\"id\", \"answer\"}, ids of the first two being PROMPT/SAMPLE.
An evaluation that was interrupted goes on where it was: items and judges' answers of before, in scored.jsonl and judged.jsonl
of --out, are taken over where prediction, reference, networks and judge are the same.
A result is scores.json, items.jsonl, table.md and table.csv in --out; what was left out is told, and stands in scores.json.")]
pub struct Args {
    /// sarena-icon, sarena-illustration, sarena-chemistry, sophia-refine, vectorgym or sgp-genbench; a config, for its own
    /// held-out evaluation; or `compare`, for results side by side.
    suite: String,
    /// With `compare`: folders of results; the first is what the others are compared with.
    #[arg(value_name = "DIR")]
    results: Vec<PathBuf>,
    /// What the suite is judged with.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Predictions in the published layout.
    #[arg(long, value_name = "DIR")]
    predictions: Option<PathBuf>,
    /// VectorGym's published components, 0 to 100: {"sketch": {"judge", "mse", "dino", "lpips"}, "edit": {..}, "text":
    /// {"judge", "clip", "dino"}, "caption": {"judge", "bge_m3", "rouge_l"}}.
    #[arg(long, value_name = "FILE.json")]
    components: Option<PathBuf>,
    /// The folder of the result.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Overrides of the suite's config, as for `train`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A model folder that is asked the suite's questions; its answers are kept in the folder `predictions` of --out, and an
    /// evaluation that was interrupted goes on from them.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The same of a run's last stage: its best checkpoint, or its final one.
    #[arg(long, value_name = "RUN")]
    run: Option<PathBuf>,
    /// The same of an OpenAI-compatible server: its address up to the version.
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// With a config: a checkpoint of a run, or any policy's folder.
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// With a config: the stage whose `eval` section counts; default: the checkpoint's own, else the last that evaluates.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
}

/// Runs the command; the exit status of an evaluation that was made, or stopped by a signal.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<u8, CliFailure> {
    if args.out.exists() && !args.out.is_dir() {
        let out = args.out.display();
        return Err(CliFailure::input(format!(
            "--out {out}: is a file, not a folder"
        )));
    }
    if args.suite != "compare" && !args.results.is_empty() {
        return Err(CliFailure::input(format!(
            "{}: folders of results are for `compare` (predictions are named by --predictions)",
            args.results[0].display()
        )));
    }
    if is_config(&args.suite) {
        return held_out(args, shared);
    }
    match args.suite.as_str() {
        "compare" => compare(args, shared).map(|()| 0),
        "vectorgym" => vectorgym(args, shared).map(|()| 0),
        name => match Benchmark::named(name) {
            Some(named) => suite(named, args, shared).map(|()| 0),
            None => {
                let known = Benchmark::ALL.map(Benchmark::name).join(", ");
                Err(CliFailure::input(format!(
                    "{name}: is no suite; known are {known}, a config (FILE.yaml), and `compare` for results"
                )))
            }
        },
    }
}

/// Whether a config is meant: a file of YAML.
fn is_config(suite: &str) -> bool {
    let end = Path::new(suite).extension().and_then(|end| end.to_str());
    matches!(end, Some("yaml" | "yml"))
}

/// A config's own evaluation.
fn held_out(args: &Args, shared: &SharedFlags) -> Result<u8, CliFailure> {
    let own = ["--checkpoint", "--stage", "--set"];
    refuse_stray(args, &own, "beside a config")?;
    let Some(checkpoint) = &args.checkpoint else {
        return Err(CliFailure::input(
            "--checkpoint: is needed with a config: what is evaluated",
        ));
    };
    let asked = HeldOutArgs {
        config: Path::new(&args.suite),
        checkpoint,
        out: &args.out,
        stage: args.stage.as_deref(),
        set: &args.set,
    };
    held_out::run(&asked, shared)
}

/// Refuses flags that mean nothing where only `allowed` do.
fn refuse_stray(args: &Args, allowed: &[&str], place: &str) -> Result<(), CliFailure> {
    let given = [
        ("--config", args.config.is_some()),
        ("--predictions", args.predictions.is_some()),
        ("--components", args.components.is_some()),
        ("--model", args.model.is_some()),
        ("--run", args.run.is_some()),
        ("--endpoint", args.endpoint.is_some()),
        ("--set", !args.set.is_empty()),
        ("--checkpoint", args.checkpoint.is_some()),
        ("--stage", args.stage.is_some()),
    ];
    match given
        .iter()
        .find(|(flag, given)| *given && !allowed.contains(flag))
    {
        Some((flag, _)) => Err(CliFailure::input(format!("{flag}: means nothing {place}"))),
        None => Ok(()),
    }
}

/// Results beside each other.
fn compare(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    refuse_stray(args, &[], "to `compare`")?;
    let results: Result<Vec<StoredResult>, _> = args
        .results
        .iter()
        .map(|folder| StoredResult::read(folder))
        .collect();
    let found = SideBySide::of(&results?, bootstrap(BootstrapConfig::default(), shared))?;
    let markdown = found.markdown();
    write_tables(&args.out, &markdown, &found.csv())?;
    write_json(&args.out.join("scores.json"), &found.to_json())?;
    if !shared.quiet {
        print!("{markdown}");
    }
    Ok(())
}

fn bootstrap(config: BootstrapConfig, shared: &SharedFlags) -> Bootstrap {
    config.seeded(shared.seed.unwrap_or(0))
}

/// VectorGym's score: of published components, or of predictions.
fn vectorgym(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let Some(components) = &args.components else {
        return suite(Benchmark::VectorGym, args, shared);
    };
    refuse_stray(args, &["--components"], "beside --components")?;
    let scores = VectorGymScores::read(components)?;
    let markdown = scores.markdown();
    write_tables(&args.out, &markdown, &scores.csv())?;
    write_json(&args.out.join("scores.json"), &scores.to_json())?;
    if !shared.quiet {
        print!("{markdown}");
    }
    Ok(())
}

/// What a suite of predictions needs.
struct Asked {
    config: SuiteConfig,
    device: Device,
    /// Whether it names the suite's folder.
    named: bool,
}

/// Reads the suite's config.
fn asked(path: &Path, args: &Args, shared: &SharedFlags) -> Result<Asked, CliFailure> {
    let loaded =
        config_check::load_located::<SuiteConfig>(path, &args.set).map_err(CliFailure::input)?;
    let mut config = loaded.config;
    if let Some(device) = &shared.device {
        config.device = DeviceName(device.clone());
        let named = config.device.check();
        named.map_err(|error| CliFailure::input(format!("--{error}")))?;
    }
    let wrong = |error: String| {
        let (key, problem) = error.split_once(": ").unwrap_or(("", &error));
        CliFailure::input(loaded.document.problem(key, problem))
    };
    config.validate().map_err(wrong)?;
    let device = config.device.resolve(0).map_err(wrong)?;
    let named = !config.data.as_os_str().is_empty();
    config.resolve_paths(path.parent().unwrap_or(Path::new("")));
    Ok(Asked {
        config,
        device,
        named,
    })
}

/// Judges predictions that are there, or that a model makes.
fn suite(suite: Benchmark, args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let name = suite.name();
    let sources = [
        "--config",
        "--set",
        "--predictions",
        "--model",
        "--run",
        "--endpoint",
    ];
    refuse_stray(args, &sources, &format!("to {name}"))?;
    let Some(path) = &args.config else {
        return Err(CliFailure::input(format!(
            "--config FILE: is needed by {name}"
        )));
    };
    let Asked {
        config,
        device,
        named,
    } = asked(path, args, shared)?;
    let data = config.data.as_path();
    if !named && (suite.needs_data() || args.predictions.is_none()) {
        let said = "data: is needed: the suite's folder as it is published";
        return Err(CliFailure::input(said));
    }
    if named && !data.exists() {
        let said = format!("data: {}: no such folder", data.display());
        return Err(CliFailure::input(said));
    }
    telemetry::start_command(shared.verbosity())?;
    trainer::threads(config.threads);
    let mut tasks = suite.read(SuiteSource {
        data: named.then_some(data),
        predictions: args.predictions.as_deref(),
        samples: config.sampling.samples,
    });
    let unused = tasks.unused(&config, args.predictions.is_none());
    for key in unused {
        tasks.notes.push(format!("{key}: has no use here"));
    }
    let mut bar = Bar::new("eval", 0, true);
    let mut progress = |step: EvalProgress| match step {
        EvalProgress::Begin(items) => bar = Bar::new("eval", items as u64, shared.quiet),
        EvalProgress::Judged(items) => bar.advance(items as u64),
    };
    let mut result = match &args.predictions {
        Some(predictions) => {
            refuse_stray(args, &sources[..3], "beside --predictions")?;
            if !predictions.is_dir() {
                let said = format!("--predictions {}: no such folder", predictions.display());
                return Err(CliFailure::input(said));
            }
            tasks.judge((&config, device), (predictions, &args.out), &mut progress)?
        }
        None => {
            let (asked, mut model) = answerer(suite, (&config, device), args, shared)?;
            tasks.sample(
                (&config, device),
                (&args.out, &asked),
                &mut *model,
                &mut progress,
            )?
        }
    };
    bar.finish();
    if shared.verbose {
        let [whole, networks] =
            [result.spent.whole, result.spent.networks].map(|t| t.as_secs_f64());
        eprintln!("eval: {whole:.2} s, of which networks computed {networks:.2} s");
    }
    result.headlines = suite.headlines(&result);
    let scores = result.scored(bootstrap(config.bootstrap, shared));
    scores.write(&args.out)?;
    if !shared.quiet {
        tell(&scores.result.notes);
        print!("{}", scores.markdown());
    }
    Ok(())
}

/// Who answers, and what is noted of that.
fn answerer(
    suite: Benchmark,
    (config, device): (&SuiteConfig, Device),
    args: &Args,
    shared: &SharedFlags,
) -> Result<(Value, Box<dyn Answerer>), CliFailure> {
    let sampling = suite.sampling(&config.sampling);
    let seed = shared.seed.unwrap_or(0);
    let mut noted = json!({
        "suite": suite.name(),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_new_tokens": sampling.max_new_tokens,
        "seed": seed,
        "template": config.template,
    });
    let model = match (&args.model, &args.run, &args.endpoint) {
        (Some(model), None, None) => model.clone(),
        (None, Some(run), None) => run_model::checkpoint(run)?,
        (None, None, Some(endpoint)) => {
            noted["endpoint"] = json!(endpoint);
            noted["model"] = json!(config.server.model);
            let server = ServerModel::open(endpoint, &config.server, (sampling, seed))?;
            return Ok((noted, Box::new(server)));
        }
        (None, None, None) => {
            return Err(CliFailure::input(format!(
                "{}: needs --predictions, --model, --run or --endpoint",
                suite.name()
            )));
        }
        _ => {
            return Err(CliFailure::input(
                "--model, --run and --endpoint: one of them answers, not several",
            ));
        }
    };
    noted["model"] = json!(files::real(&model));
    noted["dtype"] = json!(format!("{:?}", shared.kind()));
    let local = LocalModel::open(&model, device, shared, (sampling, config.sampling.slots))?;
    Ok((noted, Box::new(local)))
}

/// Most sentences about a suite's files that are printed; scores.json has all.
const TOLD: usize = 20;

fn tell(notes: &[String]) {
    notes.iter().take(TOLD).for_each(|note| eprintln!("{note}"));
    if notes.len() > TOLD {
        eprintln!("(and {} more: `notes` in scores.json)", notes.len() - TOLD);
    }
}
