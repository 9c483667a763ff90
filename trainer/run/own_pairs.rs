//! The pairs that a stage makes of its own first policy's completions, or finds made in the run folder.

use std::collections::HashMap;
use std::sync::Arc;

use models::Decoder;
use rollout::Engine;
use rollout::data::{Catalog, Cursor, SourceSummary};
use rollout::prompt::RowDemands;
use serde_json::{Value, json};

use super::Run;
use super::output::RunOutput;
use crate::TrainError;
use crate::checkpoint::Checkpoint;
use crate::config::{JudgeSees, PairsConfig, StageConfig};
use crate::learn::PhaseKind;
use crate::pairs::{CandidateJury, MadeWith, MakingPlan, PairCounts, PairJournal, PairMaking};
use crate::weights_digest::weights_digest;

/// Sets the numbers of candidates apart from those of the stage's evaluations.
const CANDIDATES: u64 = 0x7061_6972;

impl Run<'_> {
    /// The catalog of the stage's own pairs, made with `engine` where they are not there yet; `None` when a
    /// signal came first.
    ///
    /// # Errors
    /// A bad row, the engine's, the scorer's, the file system's, a lost rank; no pair at all.
    pub(super) fn own_pairs(
        &self,
        output: &mut RunOutput,
        index: usize,
        (engine, policy, seed): (&mut dyn Engine, &Decoder, u64),
        start: Option<&Checkpoint>,
    ) -> Result<Option<Arc<Catalog>>, TrainError> {
        let stage = &self.config.stages[index];
        let Some(pairs) = stage.algorithm.options().pairs() else {
            return Ok(Some(self.catalog.clone()));
        };
        self.begin_writing(output)?;
        self.options.interrupt.begin();
        self.ranks.enter_phase(
            PhaseKind::Once,
            &format!("{} making of pairs", stage.name()),
        )?;
        let plan = self.making_plan(stage, pairs, seed);
        let path = self.options.folder.join("pairs");
        let path = path.join(format!("{}.jsonl", stage.name()));
        let (mut journal, before) = PairJournal::open(&path, &self.ranks)?;
        let begun = start.is_some_and(|start| start.state.step > 0);
        if begun && !journal.is_whole(plan.prompts) {
            return Err(TrainError::Input(format!(
                "{}: the pairs that the stage `{}` learns from are not all there: bring the file back, or start over with --resume never",
                path.display(),
                stage.name()
            )));
        }
        if !begun {
            let made = self.made_with(stage, pairs, &plan, policy)?;
            let same = before.as_ref() == Some(&made);
            if !same || !journal.is_whole(plan.prompts) {
                journal.begin(&made, !same, self.ranks.is_leader())?;
                let mut cursor = Cursor::new(self.catalog.clone(), &stage.common.curriculum, seed)?;
                let jury = match (&pairs.judge, pairs.judge_sees) {
                    (Some(judge), JudgeSees::All) => {
                        Some(CandidateJury::open(judge, self.config.scorings())?)
                    }
                    _ => None,
                };
                let mut making = PairMaking {
                    config: pairs,
                    plan: &plan,
                    builder: &self.builder,
                    engine,
                    scorer: &self.scorer,
                    jury: jury.as_ref(),
                    ranks: &self.ranks,
                    interrupt: &self.options.interrupt,
                };
                let what = format!("{}: prompts for pairs", stage.name());
                let whole = making.make(&mut cursor, &mut journal, &mut |done, all| {
                    output.observer.preparing(&what, done, all);
                })?;
                if !whole {
                    return Ok(None);
                }
            }
            let counts = PairCounts::of(journal.rows());
            output
                .observer
                .notice(&format!("{}: {counts} ({})", stage.name(), path.display()));
        }
        let rows: Vec<(String, Value)> = journal.rows().iter().map(with_task).collect();
        let catalog = Catalog::of_pairs(stage.name(), &rows, &self.inserted()?)?;
        Ok(Some(Arc::new(catalog)))
    }

    fn making_plan(&self, stage: &StageConfig, pairs: &PairsConfig, seed: u64) -> MakingPlan {
        let prompts = match pairs.prompts {
            0 => self.rows_of(stage).map(|source| source.train).sum(),
            count => count,
        };
        MakingPlan {
            prompts,
            portion: stage.common.batch.size,
            longest: stage.algorithm.options().length_bounds().prompt.1,
            seed: rollout::mix(seed, CANDIDATES),
            scored_by: pairs.scored_by(stage.name()),
        }
    }

    /// The sources that a stage draws from.
    fn rows_of<'a>(&self, stage: &'a StageConfig) -> impl Iterator<Item = SourceSummary> + 'a {
        let drawn = &stage.common.curriculum.sources;
        let all = self.catalog.summary().into_iter();
        all.filter(move |source| drawn.is_empty() || drawn.contains(&source.name))
    }

    /// What decides the pairs.
    fn made_with(
        &self,
        stage: &StageConfig,
        pairs: &PairsConfig,
        plan: &MakingPlan,
        policy: &Decoder,
    ) -> Result<MadeWith, TrainError> {
        let sources = self
            .rows_of(stage)
            .map(|source| (source.name, source.digest));
        let sources: Vec<(String, String)> = sources.collect();
        let inputs = &self.start.provenance.inputs;
        Ok(MadeWith {
            policy: weights_digest(policy)?,
            options: json!({
                "pairs": pairs,
                "seed": plan.seed,
                "longest": plan.longest,
                "curriculum": stage.common.curriculum,
                "tasks": self.config.scorings(),
                "sources": sources,
                "tokenizer": inputs.tokenizer,
                "templates": inputs.templates,
                "encoders": inputs.encoders,
                "ranks": self.ranks.size(),
            }),
            portion: plan.portion,
            prompts: plan.prompts,
        })
    }

    /// Names that the templates of each task insert.
    fn inserted(&self) -> Result<HashMap<String, Vec<String>>, TrainError> {
        let tasks = self.config.tasks.iter().map(|(name, task)| {
            let demands = RowDemands::new(&task.prompt_config())
                .map_err(|error| TrainError::Input(format!("tasks.{name}.{error}")))?;
            Ok((name.clone(), demands.inserted()))
        });
        tasks.collect()
    }
}

/// A row of the journal with its task.
fn with_task(row: &Value) -> (String, Value) {
    let task = row["task"].as_str().unwrap_or_default();
    (task.to_owned(), row.clone())
}
