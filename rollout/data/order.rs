//! A stage's `curriculum`, as it stands in YAML.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most buckets of one curriculum: each is a line of every checkpoint.
const MOST_BUCKETS: usize = 1000;

/// In which order a stage draws its prompts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CurriculumConfig {
    /// `shuffled`: a fresh order each epoch. `sorted`: by ascending length of the reference within
    /// each task, the same in each epoch. Or a section: from short references to long ones, or by
    /// the rewards observed. In each, tasks are drawn in proportion.
    pub order: Order,
    /// Names of the sources that the stage draws from; all of them when empty.
    pub sources: Vec<String>,
}

/// Order within a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Order {
    /// Of all rows.
    Plain(PlainOrder),
    /// Of buckets of rows whose references are of similar length.
    Bucketed(BucketedOrder),
}

impl Default for Order {
    fn default() -> Self {
        Self::Plain(PlainOrder::Shuffled)
    }
}

/// Order of all rows of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlainOrder {
    /// A fresh order each epoch, from the seed.
    #[default]
    Shuffled,
    /// Short references first.
    Sorted,
}

/// Order by buckets of reference length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum BucketedOrder {
    /// From short references to long ones: one bucket after the other, each shuffled. Within a
    /// bucket tasks are drawn by how many rows of it they have, or by their sources' weights.
    Staged(StagedOrder),
    /// Buckets whose completions still differ in reward are drawn more often. A bucket's spread Q is
    /// a running mean of the mean absolute deviation of a group's total rewards from their mean, zero
    /// where all are equally good or bad: Q <- (1 - rate) Q + rate (this step's mean over groups).
    /// Of each task's draws a bucket with the share n of its rows gets
    /// uniform n + (1 - uniform) n exp(Q / temperature) / sum; one not yet seen counts as the best.
    /// After Chen et al. 2025, "Self-Evolving Curriculum for LLM Reasoning" (arXiv 2505.14970), with
    /// the raw deviation for the advantage. Tasks keep their proportions: their rewards are not of
    /// one scale. One number per bucket and task is all the state, so that any number of rows fits.
    /// Only for stages that score completions (`grpo`).
    Observed(ObservedOrder),
}

/// Short references first, bucket by bucket.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StagedOrder {
    /// A number of buckets of reference length, each with as many of a task's rows as the others; or
    /// the buckets' upper bounds in characters, ascending, one more taking what is longer.
    pub buckets: Buckets,
    /// How many prompts are drawn in each bucket before the next one's turn, a number for each
    /// bucket, >= 1 (those left out for their length count); empty: as many as the bucket has rows.
    pub draws: Vec<u64>,
    /// What is drawn after the last bucket's turn.
    pub then: Then,
}

/// After the last bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// All rows, shuffled, to the stage's end.
    #[default]
    All,
    /// The last bucket, again and again.
    Last,
}

/// Buckets by what their completions earn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObservedOrder {
    /// A number of buckets of reference length, each with as many of a task's rows as the others; or
    /// the buckets' upper bounds in characters, ascending, one more taking what is longer.
    pub buckets: Buckets,
    /// Share of a step's observation in the running mean, in (0, 1].
    pub rate: f64,
    /// Difference of spread that makes a bucket e times as likely, in units of reward; > 0.
    pub temperature: f64,
    /// Share of the draws that is spread over all rows alike, in [0, 1].
    pub uniform: f64,
}

impl Default for ObservedOrder {
    fn default() -> Self {
        Self {
            buckets: Buckets::default(),
            rate: 0.3,
            temperature: 0.05,
            uniform: 0.1,
        }
    }
}

/// How rows are put into buckets by the length of their reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Buckets {
    /// Equal parts of each task's rows.
    Count(usize),
    /// Upper bounds, in characters.
    Bounds(Vec<u32>),
}

impl Default for Buckets {
    fn default() -> Self {
        Self::Count(4)
    }
}

impl Buckets {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Bounds(bounds) => bounds.len() + 1,
        }
    }

    fn check(&self) -> Result<(), String> {
        let count = self.count();
        if !(2..=MOST_BUCKETS).contains(&count) {
            return Err(format!(
                "order.buckets: must be 2 to {MOST_BUCKETS} buckets (a number, or bounds between them), got {count}"
            ));
        }
        let Self::Bounds(bounds) = self else {
            return Ok(());
        };
        match bounds.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(format!(
                "order.buckets: bounds must ascend, got {} after {}",
                pair[1], pair[0]
            )),
            None => Ok(()),
        }
    }
}

impl CurriculumConfig {
    /// Checks bounds.
    ///
    /// # Errors
    /// `key: rule, got value`.
    pub fn check(&self) -> Result<(), String> {
        match &self.order {
            Order::Plain(_) => Ok(()),
            Order::Bucketed(BucketedOrder::Staged(staged)) => {
                staged.buckets.check()?;
                let (count, given) = (staged.buckets.count(), staged.draws.len());
                if given != 0 && given != count {
                    return Err(format!(
                        "order.draws: must have a number for each of the {count} buckets, got {given}"
                    ));
                }
                match staged.draws.iter().position(|draws| *draws == 0) {
                    Some(at) => Err(format!("order.draws.{at}: must be >= 1, got 0")),
                    None => Ok(()),
                }
            }
            Order::Bucketed(BucketedOrder::Observed(observed)) => {
                observed.buckets.check()?;
                let (rate, uniform) = (observed.rate, observed.uniform);
                if !(rate > 0.0 && rate <= 1.0) {
                    return Err(format!("order.rate: must be in (0, 1], got {rate}"));
                }
                let temperature = observed.temperature;
                if !(temperature.is_finite() && temperature > 0.0) {
                    return Err(format!("order.temperature: must be > 0, got {temperature}"));
                }
                if !(0.0..=1.0).contains(&uniform) {
                    return Err(format!("order.uniform: must be in [0, 1], got {uniform}"));
                }
                Ok(())
            }
        }
    }

    /// Whether draws depend on rewards.
    pub fn observes(&self) -> bool {
        matches!(self.order, Order::Bucketed(BucketedOrder::Observed(_)))
    }
}
