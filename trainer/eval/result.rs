//! A suite's result: its items, what is computed of all items together, and the numbers that stand above them.

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::bootstrap::{Bootstrap, Interval, mean};
use super::item::{EvalItem, Mix};
use super::judging_time::JudgingTime;

/// What an evaluation found.
#[derive(Debug, Clone, Default)]
pub struct SuiteResult {
    /// The suite's name.
    pub suite: String,
    /// Each task's metrics, in the order of tables.
    pub tasks: IndexMap<String, Vec<String>>,
    /// Every item of every task.
    pub items: Vec<EvalItem>,
    /// Numbers of all items of a task together (FID), or why there is none, by task and metric.
    pub whole: IndexMap<(String, String), Result<f64, String>>,
    /// The suite's own numbers.
    pub headlines: IndexMap<String, Mix>,
    /// What was left out and why, a sentence each.
    pub notes: Vec<String>,
    /// What judging pictures took; not written.
    pub spent: JudgingTime,
}

/// One number of a result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultRow {
    /// The task; none for the suite's own numbers.
    pub task: Option<String>,
    /// Metric or name.
    pub metric: String,
    /// The number.
    pub value: Option<f64>,
    /// Where it lies; none for numbers that are no means.
    pub interval: Option<Interval>,
    /// Items in it.
    pub items: usize,
    /// Items that should be in it and could not be measured.
    pub left_out: usize,
}

/// A result with its numbers.
#[derive(Debug, Clone)]
pub struct SuiteScores {
    /// The result.
    pub result: SuiteResult,
    /// The suite's own numbers, then each task's.
    pub rows: Vec<ResultRow>,
    bootstrap: Bootstrap,
}

/// A metric's numbers of `items`, NaN where there is none.
pub(super) fn column<'a>(items: impl IntoIterator<Item = &'a EvalItem>, metric: &str) -> Vec<f64> {
    let value = |item: &EvalItem| item.values.get(metric).copied().unwrap_or(f64::NAN);
    items.into_iter().map(value).collect()
}

/// For each task the means of its metrics over every draw.
type DrawnMeans = IndexMap<(String, String), Vec<f64>>;

impl SuiteResult {
    /// The items of a task.
    pub fn of_task<'a>(&'a self, task: &'a str) -> impl Iterator<Item = &'a EvalItem> {
        self.items.iter().filter(move |item| item.task == task)
    }

    /// With numbers and intervals.
    pub fn scored(self, bootstrap: Bootstrap) -> SuiteScores {
        let mut drawn = DrawnMeans::new();
        let mut rows = Vec::new();
        for (task, metrics) in &self.tasks {
            let columns: Vec<Vec<f64>> = metrics
                .iter()
                .map(|metric| column(self.of_task(task), metric))
                .collect();
            let draws = bootstrap.means(task, &columns);
            for ((metric, column), draws) in metrics.iter().zip(&columns).zip(draws) {
                let failed = |item: &&EvalItem| item.failures.contains_key(metric);
                let left_out = self.of_task(task).filter(failed).count();
                let key = (task.clone(), metric.clone());
                let (value, items) = match self.whole.get(&key) {
                    Some(whole) => {
                        let all = self.of_task(task).count();
                        (whole.as_ref().ok().copied(), all - left_out)
                    }
                    None => mean(column),
                };
                rows.push(ResultRow {
                    task: Some(task.clone()),
                    metric: metric.clone(),
                    value,
                    interval: bootstrap.interval(&draws),
                    items,
                    left_out,
                });
                drawn.insert(key, draws);
            }
        }
        let known = |task: &str, metric: &str| {
            let row = rows
                .iter()
                .find(|row| row.task.as_deref() == Some(task) && row.metric == metric);
            row.and_then(|row| row.value)
        };
        let headline = |(name, mix): (&String, &Mix)| ResultRow {
            task: None,
            metric: name.clone(),
            value: mix.value(known),
            interval: bootstrap.interval(&mixed(mix, &drawn, bootstrap.samples)),
            items: 0,
            left_out: 0,
        };
        let mut all: Vec<ResultRow> = self.headlines.iter().map(headline).collect();
        all.extend(rows);
        SuiteScores {
            result: self,
            rows: all,
            bootstrap,
        }
    }
}

/// A mixed number over every draw; NaN where one of its means is missing.
pub(super) fn mixed(mix: &Mix, drawn: &DrawnMeans, samples: usize) -> Vec<f64> {
    let at = |sample: usize| {
        let mean = |task: &str, metric: &str| {
            let draws = drawn.get(&(task.to_owned(), metric.to_owned()))?;
            draws.get(sample).copied()
        };
        mix.value(mean).unwrap_or(f64::NAN)
    };
    (0..samples).map(at).collect()
}

impl SuiteScores {
    /// `scores.json`: the suite's own numbers under their names, then everything else.
    pub fn to_json(&self) -> Value {
        let result = &self.result;
        let mut root = Map::new();
        root.insert("suite".into(), json!(result.suite));
        for row in self.rows.iter().filter(|row| row.task.is_none()) {
            root.insert(row.metric.clone(), json!(row.value));
        }
        let of_suite = self.rows.iter().filter(|row| row.task.is_none());
        let intervals: Map<String, Value> = of_suite
            .map(|row| (row.metric.clone(), json!(row.interval)))
            .collect();
        root.insert("intervals".into(), Value::Object(intervals));
        let Bootstrap {
            samples,
            confidence,
            seed,
        } = self.bootstrap;
        root.insert(
            "bootstrap".into(),
            json!({"samples": samples, "confidence": confidence, "seed": seed}),
        );
        let mut tasks = Map::new();
        for task in result.tasks.keys() {
            let items = result.of_task(task).count();
            let valid = result.of_task(task).filter(|item| item.valid).count();
            let mut metrics = Map::new();
            for row in self
                .rows
                .iter()
                .filter(|row| row.task.as_ref() == Some(task))
            {
                let key = (task.clone(), row.metric.clone());
                let why = result
                    .whole
                    .get(&key)
                    .and_then(|whole| whole.as_ref().err());
                let mut number = json!({"value": row.value, "interval": row.interval, "items": row.items, "left_out": row.left_out});
                if let (Some(why), Some(number)) = (why, number.as_object_mut()) {
                    number.insert("reason".into(), json!(why));
                }
                metrics.insert(row.metric.clone(), number);
            }
            let share = valid as f64 / items as f64;
            tasks.insert(
                task.clone(),
                json!({"items": items, "valid": valid, "valid_frac": share, "reasons": reasons(result.of_task(task)), "metrics": metrics}),
            );
        }
        root.insert("tasks".into(), Value::Object(tasks));
        root.insert("headlines".into(), json!(result.headlines));
        root.insert("notes".into(), json!(result.notes));
        Value::Object(root)
    }
}

/// How often each reason stands against an item, most frequent first.
fn reasons<'a>(items: impl Iterator<Item = &'a EvalItem>) -> IndexMap<&'a str, usize> {
    let mut counts: IndexMap<&str, usize> = IndexMap::new();
    for item in items {
        if let Some(reason) = &item.reason {
            // What follows the first colon is the one document's.
            let kind = reason.split(": ").next().unwrap_or(reason);
            *counts.entry(kind).or_default() += 1;
        }
    }
    counts.sort_by(|_, a, _, b| b.cmp(a));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(task: &str, id: usize, score: f64) -> EvalItem {
        let mut item = EvalItem::new(task, &id.to_string(), None);
        item.put("score", score);
        item
    }

    #[test]
    fn failures_are_counted_and_left_out_of_means_and_mixed_numbers_need_all_means() {
        let mut items: Vec<_> = (0..4).map(|id| item("a", id, id as f64)).collect();
        items.push(item("a", 4, f64::NAN));
        items.push(EvalItem::new(
            "a",
            "5",
            Some("malformed_xml: line 3".into()),
        ));
        let result = SuiteResult {
            tasks: IndexMap::from([("a".into(), vec!["score".into(), "none".into()])]),
            items,
            headlines: IndexMap::from([
                (
                    "twice".into(),
                    Mix {
                        constant: 1.0,
                        ..Mix::default()
                    }
                    .and(2.0, "a", "score"),
                ),
                ("missing".into(), Mix::default().and(1.0, "a", "none")),
            ]),
            ..SuiteResult::default()
        };
        let bootstrap = Bootstrap {
            samples: 50,
            confidence: 0.9,
            seed: 0,
        };
        let scores = result.scored(bootstrap);
        let json = scores.to_json();
        assert_eq!(json["twice"], json!(4.0));
        assert_eq!(json["missing"], Value::Null);
        let task = &json["tasks"]["a"];
        assert_eq!((&task["items"], &task["valid"]), (&json!(6), &json!(5)));
        assert_eq!(task["reasons"], json!({"malformed_xml": 1}));
        let score = &task["metrics"]["score"];
        assert_eq!(
            (&score["items"], &score["left_out"]),
            (&json!(4), &json!(1))
        );
        let interval = scores.rows[0].interval.unwrap();
        assert!(interval.low < 4.0 && 4.0 < interval.high);
        let own = scores.rows[2].interval.unwrap();
        assert!((interval.low - (1.0 + 2.0 * own.low)).abs() < 1e-12);
    }
}
