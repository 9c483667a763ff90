//! Held-out evaluation: completions of rows that are never trained on, scored by their tasks.

use rewards::Scorer;
use rollout::data::{Draw, Example};
use rollout::{LocalEngine, Prompt, Sampling};

use crate::config::EvalConfig;
use crate::grpo::{Collect, collect};
use crate::interrupt::Interrupt;
use crate::learner::Learner;
use crate::metrics::Metrics;
use crate::prompts::Prompts;
use crate::samples::{Place, SampleRow, reward_metrics};
use crate::{TrainError, exchange, replica};

/// Draw numbers of held-out prompts: apart from every training draw, the same at each evaluation.
const HELD_OUT: u64 = 1 << 62;

/// What an evaluation needs besides the policy.
pub struct Evaluation<'a> {
    /// How many prompts and samples.
    pub config: &'a EvalConfig,
    /// Sampling of the stage; temperature and greediness are the evaluation's.
    pub sampling: Sampling,
    /// The rows.
    pub examples: &'a [Example],
    /// Makes prompts.
    pub prompts: &'a Prompts<'a>,
    /// Scores completions.
    pub scorer: &'a Scorer,
    /// The run's seed and the number of slots.
    pub seed: (u64, usize),
    /// Asks the evaluation to be dropped.
    pub interrupt: &'a Interrupt,
}

/// `count` of `examples`, evenly spread over them.
pub fn spread(examples: Vec<Example>, count: usize) -> Vec<Example> {
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
    /// One row of metrics for each set: sampled, and greedy if asked for. `None` when a signal's
    /// grace ran out on any rank.
    ///
    /// # Errors
    /// The engine's, a bad row, a lost rank.
    pub fn run(
        &self,
        learner: &Learner,
        place: &Place,
    ) -> Result<Option<Vec<Metrics>>, TrainError> {
        let sampled = Sampling {
            temperature: self.config.temperature,
            ..self.sampling.clone()
        };
        let mut sets = vec![("heldout", sampled.clone(), self.config.samples)];
        if self.config.greedy {
            sets.push((
                "heldout_greedy",
                Sampling {
                    temperature: 0.0,
                    ..self.sampling.clone()
                },
                1,
            ));
        }
        let mut shown: Vec<_> = sets
            .into_iter()
            .map(|(set, sampling, samples)| (set, sampling, samples, self.examples.to_vec()))
            .collect();
        let swapped = swapped(self.examples);
        if self.config.swap_images && !swapped.is_empty() {
            shown.push(("heldout_swapped", sampled, self.config.samples, swapped));
        }
        shown
            .into_iter()
            .map(|(set, sampling, samples, examples)| {
                let Some(rows) = self.rows(learner, place, (&examples, sampling, samples))? else {
                    return Ok(None);
                };
                let metrics = reward_metrics(&rows.iter().collect::<Vec<_>>());
                let named = metrics
                    .into_iter()
                    .map(|(name, value)| (format!("eval/{set}/{name}"), value));
                Ok(Some(named.collect()))
            })
            .collect()
    }

    fn rows(
        &self,
        learner: &Learner,
        place: &Place,
        (examples, sampling, samples): (&[Example], Sampling, usize),
    ) -> Result<Option<Vec<SampleRow>>, TrainError> {
        let (rank, size) = (learner.group.rank(), learner.group.size());
        let own: Vec<Prompt> = examples
            .iter()
            .enumerate()
            .skip(rank)
            .step_by(size)
            .map(|(index, example)| {
                self.prompts.prompt(&Draw {
                    example: example.clone(),
                    draw: HELD_OUT + index as u64,
                    bucket: None,
                })
            })
            .collect::<Result<_, _>>()?;
        let mut engine = LocalEngine::new(
            &learner.model,
            Some(self.prompts.tokenizer()),
            sampling,
            self.seed,
        )?;
        let how = Collect {
            model: &learner.model,
            samples,
            step: place.step,
            measure: true,
            policy_version: place.policy_version,
            interrupt: self.interrupt,
        };
        let collected = collect(&mut engine, self.scorer, own, &how)?;
        let dropped = [f64::from(collected.is_none())];
        let dropped = replica::sum_numbers(&learner.group, learner.device(), &dropped)?[0] > 0.0;
        let Some((groups, _)) = collected.filter(|_| !dropped) else {
            return Ok(None);
        };
        let own = groups
            .iter()
            .map(|scored| exchange::SharedGroup::new(place, scored, Vec::new()))
            .collect();
        let all = exchange::all_groups(&learner.group, learner.device(), own)?;
        Ok(Some(all.into_iter().flat_map(|group| group.rows).collect()))
    }
}
