//! How a stage makes pairs of its own policy's completions.

use rewards::rules::judge::Judge;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, at_least, ensure, not_negative};
use super::sampling::RolloutConfig;

/// Pairs that a stage makes before its first step: candidates are sampled from the policy that it starts
/// with and scored; of each prompt the best and the worst become a pair. All of them, with every score, go
/// to the run folder (`pairs/<stage>.jsonl`), where an interrupted making goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PairsConfig {
    /// Completions of each prompt, >= 2.
    pub candidates: usize,
    /// Prompts that are drawn from the stage's sources; 0: as many as they have rows to train on.
    pub prompts: usize,
    /// Name of the task whose rubric scores the candidates; absent: each row's own task.
    pub rubric: Option<String>,
    /// A judge that scores them in the place of a rubric: the keys of the reward `judge`.
    pub judge: Option<Judge>,
    /// Whether the judge is asked about each candidate alone (`one`) or about all of a prompt's in one question (`all`), as
    /// IntroSVG's script asks it: then `question` is asked once, its end naming the pictures and the form of the answer,
    /// `"image_2_score": NUMBER` for each; `score`, `with_reference`, `price` and `{svg}` have no use.
    pub judge_sees: JudgeSees,
    /// Smallest difference of two totals that makes a pair, >= 0; equal ones make none in any case.
    pub min_margin: f64,
    /// How candidates are sampled, and what evaluations of the stage take over; `candidates` stands in the
    /// place of `group_size`.
    pub rollout: RolloutConfig,
}

impl Default for PairsConfig {
    fn default() -> Self {
        Self {
            candidates: 5,
            prompts: 0,
            rubric: None,
            judge: None,
            judge_sees: JudgeSees::One,
            min_margin: 0.0,
            rollout: RolloutConfig::default(),
        }
    }
}

/// What a judge of candidates sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeSees {
    /// One candidate a question.
    #[default]
    One,
    /// All of a prompt's.
    All,
}

/// What scores candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ScoredBy {
    /// Each row's own task.
    OwnTask,
    /// This task.
    Task(String),
    /// The judge of this stage.
    Judge(String),
}

impl ScoredBy {
    /// The scorer's name for what scores a row of the task `own`.
    pub(crate) fn task(&self, own: &str) -> String {
        match self {
            Self::OwnTask => own.to_owned(),
            Self::Task(task) => task.clone(),
            Self::Judge(stage) => format!("{stage}: {own}"),
        }
    }
}

impl PairsConfig {
    /// What scores the candidates of the stage `stage`.
    pub(crate) fn scored_by(&self, stage: &str) -> ScoredBy {
        match (&self.rubric, &self.judge) {
            (_, Some(_)) => ScoredBy::Judge(stage.to_owned()),
            (Some(task), None) => ScoredBy::Task(task.clone()),
            (None, None) => ScoredBy::OwnTask,
        }
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        let prompts = match self.prompts {
            0 => "every prompt".to_owned(),
            count => format!("{count} prompts"),
        };
        let by = match (&self.judge, &self.rubric) {
            (Some(judge), _) if self.judge_sees == JudgeSees::All => {
                format!("the judge {} together", judge.model)
            }
            (Some(judge), _) => format!("the judge {}", judge.model),
            (None, Some(task)) => format!("the rubric of {task}"),
            (None, None) => "each row's own rubric".to_owned(),
        };
        format!(
            "pairs made of {prompts} x {} candidates scored by {by}",
            self.candidates
        )
    }

    /// # Errors
    /// `key: rule, got value`.
    pub(super) fn check(&self) -> BoundResult {
        let rollout = &self.rollout;
        at_least("candidates", self.candidates, 2)?;
        not_negative("min_margin", self.min_margin)?;
        ensure(self.rubric.is_none() || self.judge.is_none(), || {
            "rubric, judge: one of them scores the candidates; leave the other out".into()
        })?;
        if self.judge_sees == JudgeSees::All {
            let judge = self.judge.as_ref();
            let judge = judge.ok_or("judge_sees: `all` needs a judge")?;
            let default = Judge::default();
            for (key, given) in [
                ("score", judge.score != default.score),
                ("with_reference", judge.with_reference),
                ("price", judge.price != default.price),
                ("question", judge.question.contains("{svg}")),
            ] {
                ensure(!given, || {
                    format!("judge.{key}: has no use with judge_sees: all")
                })?;
            }
        }
        ensure(rollout.max_staleness == 0, || {
            "rollout.max_staleness: pairs are made before the first step, there is nothing to be ahead of".into()
        })?;
        let other = RolloutConfig::default().group_size;
        let asked = rollout.group_size;
        ensure(asked == other || asked == self.candidates, || {
            format!(
                "rollout.group_size: `candidates` says how many ({}), got {asked}",
                self.candidates
            )
        })?;
        rollout.check()
    }
}
