//! Held-out evaluation: completions of rows that are never trained on, scored by their tasks.

use indexmap::IndexMap;
use rewards::Scorer;
use rollout::data::{Draw, Example};
use rollout::{Engine, Prompt, Sampling};

use super::kept_pictures::{KeptPicture, KeptPictures};
use crate::TrainError;
use crate::config::{EvalConfig, RolloutConfig, StageConfig, TaskConfig};
use crate::interrupt::Interrupt;
use crate::learn::Ranks;
use crate::metrics::Metrics;
use crate::prompt_builder::PromptBuilder;
use crate::rollout_batch::RolloutArgs;
use crate::rollouts::{LAST_STEP, RolloutWorkers, sample_and_score};
use crate::samples::{SampleRow, StepId, reward_metrics, sample_rows, to_leader};

/// Draw numbers of held-out prompts: apart from every training draw, the same at each evaluation.
const HELD_OUT: u64 = 1 << 62;

/// How a stage's evaluations sample, apart from temperature and greediness.
pub fn sampling(stage: &StageConfig) -> Sampling {
    let rollout = stage.algorithm.options().rollout();
    let sampling = rollout.map_or_else(Sampling::default, RolloutConfig::sampling);
    Sampling {
        max_new_tokens: match stage.common.eval.max_new_tokens {
            0 => sampling.max_new_tokens,
            longest => longest,
        },
        ..sampling
    }
}

/// What an evaluation needs besides the policy.
pub struct Evaluation<'a> {
    /// How many prompts and samples.
    pub config: &'a EvalConfig,
    /// Sampling of the stage; temperature and greediness are the evaluation's.
    pub sampling: Sampling,
    /// The rows.
    pub examples: &'a [Example],
    /// Makes prompts.
    pub builder: &'a PromptBuilder,
    /// What the tasks' completions look like.
    pub tasks: &'a IndexMap<String, TaskConfig>,
    /// Scores completions.
    pub scorer: &'a Scorer,
    /// The run's seed.
    pub seed: u64,
    /// The ranks that share the rows.
    pub ranks: &'a Ranks,
    /// Asks the evaluation to be dropped.
    pub interrupt: &'a Interrupt,
}

/// What an evaluation made of one set; empty on all ranks but 0.
pub struct SetScores {
    /// The set's name.
    pub name: &'static str,
    /// Its metrics, under their held-out names.
    pub metrics: Metrics,
    /// Its completions.
    pub rows: Vec<SampleRow>,
    /// Pictures of the first of them that render.
    pub pictures: Vec<KeptPicture>,
}

impl SetScores {
    /// Of a rank that has none.
    pub(crate) fn none(name: &'static str) -> Self {
        Self {
            name,
            metrics: Metrics::new(),
            rows: Vec::new(),
            pictures: Vec::new(),
        }
    }
}

/// One set of completions.
struct HeldOutSet {
    name: &'static str,
    sampling: Sampling,
    samples: usize,
    examples: Vec<Example>,
}

/// `count` of `examples`, evenly spread over them.
pub fn subsample(examples: Vec<Example>, count: usize) -> Vec<Example> {
    let total = examples.len();
    let count = count.min(total);
    let mut chosen: Vec<usize> = (0..count)
        .map(|index| index * total / count.max(1))
        .collect();
    chosen.dedup();
    let mut examples: Vec<Option<Example>> = examples.into_iter().map(Some).collect();
    chosen
        .into_iter()
        .filter_map(|index| examples[index].take())
        .collect()
}

/// The examples that show pictures, each with those of the next one of its task in turn; none of a
/// task that has but one.
fn swapped(examples: &[Example]) -> Vec<Example> {
    let shows = |example: &&Example| !example.images.is_empty();
    let mut out = Vec::new();
    for (at, example) in examples.iter().enumerate().filter(|(_, one)| shows(one)) {
        let others = examples[at + 1..]
            .iter()
            .chain(&examples[..at])
            .filter(shows);
        let mut alike = others.filter(|other| other.task == example.task);
        if let Some(other) = alike.find(|other| other.images != example.images) {
            out.push(Example {
                images: other.images.clone(),
                ..example.clone()
            });
        }
    }
    out
}

impl Evaluation<'_> {
    /// The scores of each set: sampled, and greedy if asked for. `None` when a signal's grace ran out on any rank.
    ///
    /// # Errors
    /// The engine's, a bad row, a lost rank.
    pub fn run(
        &self,
        engine: &mut dyn Engine,
        id: &StepId,
    ) -> Result<Option<Vec<SetScores>>, TrainError> {
        let mut out = Vec::new();
        for set in self.sets() {
            let Some(rows) = self.rows(engine, id, &set)? else {
                return Ok(None);
            };
            let metrics = reward_metrics(&rows, &|task| self.builder.draws(task));
            let pictures = self.kept(&rows)?;
            out.push(SetScores {
                name: set.name,
                metrics: metrics.held_out(set.name),
                rows,
                pictures,
            });
        }
        Ok(Some(out))
    }

    /// Pictures of the first drawings that render.
    fn kept(&self, rows: &[SampleRow]) -> Result<Vec<KeptPicture>, TrainError> {
        let drawn = |row: &&SampleRow| row.valid && self.builder.draws(&row.task);
        if !rows.iter().any(|row| drawn(&row)) {
            return Ok(Vec::new());
        }
        let mut kept = KeptPictures::new(self.config.pictures)?;
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| drawn(row)) {
            let task = self.tasks.get(&row.task);
            let completion = task.and_then(|task| task.completion.as_ref());
            let svg = completion.and_then(|shape| shape.extract(&row.completion).ok());
            if svg.is_some_and(|svg| !kept.add(at, svg)) {
                break;
            }
        }
        Ok(kept.pictures)
    }

    fn sets(&self) -> Vec<HeldOutSet> {
        let sampled = |name, examples| HeldOutSet {
            name,
            sampling: Sampling {
                temperature: self.config.temperature,
                ..self.sampling.clone()
            },
            samples: self.config.samples,
            examples,
        };
        let mut sets = vec![sampled(EvalConfig::SAMPLED, self.examples.to_vec())];
        if self.config.greedy {
            sets.push(HeldOutSet {
                name: EvalConfig::GREEDY,
                sampling: Sampling {
                    temperature: 0.0,
                    ..self.sampling.clone()
                },
                samples: 1,
                examples: self.examples.to_vec(),
            });
        }
        let swapped = swapped(self.examples);
        if self.config.swap_images && !swapped.is_empty() {
            sets.push(sampled(EvalConfig::SWAPPED, swapped));
        }
        sets
    }

    /// The set's rows of all ranks, on rank 0.
    fn rows(
        &self,
        engine: &mut dyn Engine,
        id: &StepId,
        set: &HeldOutSet,
    ) -> Result<Option<Vec<SampleRow>>, TrainError> {
        let own = set.examples.iter().enumerate();
        let own = own.skip(self.ranks.rank()).step_by(self.ranks.size());
        let prompts: Vec<Prompt> = own
            .map(|(index, example)| {
                let mut prompt = self.builder.prompt(&Draw {
                    example: example.clone(),
                    draw: HELD_OUT + index as u64,
                    bucket: None,
                })?;
                if let Some(task) = &self.config.rubric {
                    prompt.task.clone_from(task);
                }
                Ok::<_, TrainError>(prompt)
            })
            .collect::<Result<_, _>>()?;
        let args = RolloutArgs {
            sampling: set.sampling.clone(),
            seed: self.seed,
            samples: set.samples,
            step: LAST_STEP,
            measure: true,
        };
        let mut workers = RolloutWorkers {
            engine,
            scorer: self.scorer,
            interrupt: self.interrupt,
        };
        let groups = sample_and_score(&mut workers, prompts, args)?;
        let dropped = self.ranks.any(groups.is_none())?;
        let Some(groups) = groups.filter(|_| !dropped) else {
            return Ok(None);
        };
        let own = groups.iter().map(|scored| sample_rows(id, scored, None));
        to_leader(self.ranks, own.collect()).map(Some)
    }
}
