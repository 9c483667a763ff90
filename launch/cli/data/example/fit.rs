//! Fitting a policy to its example's own rows by supervised training, until at least three in ten of its completions
//! render: reinforcement has nothing to learn from a policy that never draws.

use std::fs;
use std::path::Path;

use torch_ext::ProcessGroup;
use trainer::config::{Config, StageCommon, StageConfig};
use trainer::metrics::{Metrics, keys};
use trainer::{Interrupt, Observer, Resume, RunEnd, RunHeader, RunOptions};

use super::super::super::{CliFailure, SharedFlags, config};
use super::folder::ExampleFolder;

/// The share of completions that must render.
const RENDERED: f64 = 0.3;
/// Times that the fit is made twice as long before it is given up.
const TRIES: usize = 3;

/// How the policy of a system is fitted: 200 steps of supervised training in the place of the system's own stages.
pub struct FitPlan {
    /// Longest row, in tokens.
    pub max_tokens: usize,
    /// Longest completion of the evaluation that says which share renders, and how many there are.
    pub evaluated: (usize, usize),
    /// A source for it, by the name `answers`, where the system's own rows hold nothing to imitate: YAML.
    pub answers: Option<&'static str>,
}

impl FitPlan {
    /// The stage: YAML.
    fn stage(&self) -> String {
        let (max_tokens, (longest, prompts)) = (self.max_tokens, self.evaluated);
        let sources = match self.answers {
            Some(_) => "[answers]",
            None => "[]",
        };
        format!(
            "\
name: fit
algorithm: sft
steps: 200
max_tokens: {max_tokens}
batch: {{size: 16}}
curriculum: {{sources: {sources}}}
optimizer: {{learning_rate: 4.0e-3, warmup: 0.05}}
eval: {{prompts: {prompts}, greedy: false, max_new_tokens: {longest}, pictures: 0}}
checkpoint: {{every: 0}}
"
        )
    }
}

/// Keeps the share of held-out completions that rendered last.
#[derive(Default)]
struct LastShare(Option<f64>);

impl Observer for LastShare {
    fn row(&mut self, _: &StageCommon, _: u64, metrics: &Metrics) {
        let of_set = metrics.get_held_out("heldout", &keys::VALID);
        self.0 = of_set.or(self.0);
    }

    fn checkpoint(&mut self, _: &Path) {}

    fn reading(&mut self, _: &str, _: u64, _: u64) {}

    fn preparing(&mut self, _: &str, _: u64, _: u64) {}

    fn notice(&mut self, _: &str) {}
    fn begins(&mut self, _: &RunHeader<'_>) {}
}

/// Trains the policy that `config.yaml` names, and puts the result in its place.
///
/// # Errors
/// A policy that still does not draw; the run's.
pub fn fit(folder: &ExampleFolder, plan: &FitPlan, shared: &SharedFlags) -> Result<(), CliFailure> {
    let mut config = config::load(&folder.join("config.yaml"), &[], shared)?.config;
    let mut stage: StageConfig =
        serde_saphyr::from_str(&plan.stage()).map_err(CliFailure::other)?;
    if let Some(answers) = plan.answers {
        let source = serde_saphyr::from_str(answers).map_err(CliFailure::other)?;
        config.data.sources.insert("answers".to_owned(), source);
        config.resolve_paths(&folder.join(""));
    }
    let run = folder.join("fit");
    fs::create_dir_all(&run)
        .map_err(|error| CliFailure::other(format!("{}: {error}", run.display())))?;
    for attempt in 0..TRIES {
        let rendered = train(&mut config, stage.clone(), &run)?;
        if !shared.quiet {
            let share = rendered.unwrap_or(0.0) * 100.0;
            eprintln!(
                "fitted for {} steps: {share:.0} % of its completions render",
                stage.common.steps
            );
        }
        if rendered.is_some_and(|share| share >= RENDERED) {
            return keep(folder, &config, &run);
        }
        if attempt + 1 < TRIES {
            stage.common.steps *= 2;
        }
    }
    Err(CliFailure::other(format!(
        "the policy does not draw after {} steps of fitting; another --seed may",
        stage.common.steps
    )))
}

/// Runs the stage in `run`, or goes on with it, and says which share of completions rendered.
fn train(config: &mut Config, stage: StageConfig, run: &Path) -> Result<Option<f64>, CliFailure> {
    config.stages = vec![stage];
    config
        .settle()
        .and_then(|()| config.validate())
        .map_err(CliFailure::other)?;
    let options = RunOptions {
        folder: run,
        resume: Resume::Auto,
        device: config.device.resolve(0).map_err(CliFailure::input)?,
        threads: trainer::threads(config.threads),
        accept: &[],
        documents: &[],
        samplers: None,
        interrupt: Interrupt::never(),
    };
    let mut share = LastShare::default();
    match trainer::run(config, &options, ProcessGroup::Solo, &mut share)? {
        RunEnd::Interrupted(_) => Err(CliFailure::other("interrupted")),
        RunEnd::Finished | RunEnd::AlreadyFinished => Ok(share.0),
    }
}

/// Moves the fitted weights to where the policy is, and takes away what is left.
fn keep(folder: &ExampleFolder, config: &Config, run: &Path) -> Result<(), CliFailure> {
    let problem = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| CliFailure::other(format!("{}: {error}", path.display()))
    };
    let stage = config.stages[0].name();
    let made = run.join("checkpoints").join(stage).join("final");
    let policy = config.model.path.as_deref().unwrap_or(Path::new(""));
    for name in ["config.json", "model.safetensors"] {
        fs::rename(made.join(name), policy.join(name)).map_err(problem(&made))?;
    }
    fs::remove_dir_all(folder.join("fit")).map_err(problem(run))
}
