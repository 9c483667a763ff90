//! A benchmark among a stage's evaluations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bounds::{BoundResult, ensure};
use crate::eval::{Benchmark, SuiteConfig};

/// A benchmark that the policy answers at every evaluation of the stage, judged as by `svgrl eval SUITE`: its numbers are
/// `eval/<suite>/<number>` and `eval/<suite>/<task>/<metric>` in metrics.jsonl, its answers the rows of
/// `RUN/samples/STAGE/eval/SUITE/step_NNNNNN.jsonl`. The networks that judge are loaded for each evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StageSuite {
    /// Which one.
    pub name: Benchmark,
    /// Items of each of its tasks that are asked about, evenly spread and the same each time; 0: all.
    #[serde(default)]
    pub items: usize,
    /// Name of the task in whose words drawings are asked for: `{prompt}` is what follows "Instruction: " in the suite's
    /// question, or all of it. Absent: the question as published, as a user's turn.
    #[serde(default)]
    pub task: Option<String>,
    /// The keys of a suite's config: `data`, `encoders`, `tokenizer`, `sampling` (temperature 0 is greedy), `judge`, ..; `device:
    /// auto` is the policy's. `threads`, `server`, `pictures`, `bootstrap` and `template` have no use here.
    pub with: SuiteConfig,
}

impl StageSuite {
    /// The name of the task under which a suite's questions are asked as they are published.
    pub fn own_task(&self) -> String {
        format!("suite {}", self.name.name())
    }

    /// # Errors
    /// `key: rule, got value`.
    pub(super) fn check(&self, known: &[&String]) -> BoundResult {
        self.with
            .validate()
            .map_err(|error| format!("with.{error}"))?;
        ensure(!self.with.data.as_os_str().is_empty(), || {
            "with.data: is needed: the suite's folder as it is published".into()
        })?;
        let default = SuiteConfig::default();
        let with = &self.with;
        for (key, given) in [
            ("threads", with.threads != default.threads),
            ("server", with.server != default.server),
            ("pictures", with.pictures != default.pictures),
            ("bootstrap", with.bootstrap != default.bootstrap),
            ("template", with.template != default.template),
        ] {
            ensure(!given, || format!("with.{key}: has no use inside training"))?;
        }
        match &self.task {
            Some(task) => ensure(known.contains(&task), || {
                format!("task: `{task}` is not in tasks {known:?}")
            }),
            None => Ok(()),
        }
    }
}
