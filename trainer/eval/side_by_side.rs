//! Results of one suite beside each other: their numbers, and how far each is from the first, with intervals over
//! paired items: both results' numbers of an item are drawn together.

use std::collections::HashMap;
use std::path::Path;

use indexmap::IndexMap;
use serde::Serialize;
use serde_json::{Value, json};

use super::bootstrap::{Bootstrap, Interval, mean};
use super::item::{EvalItem, Mix};
use super::result::{column, mixed};
use super::write::{TextTable, exact, rounded};
use crate::TrainError;

/// A result as its folder holds it.
#[derive(Debug, Clone)]
pub struct StoredResult {
    /// What it is called beside others.
    pub name: String,
    suite: String,
    scores: Value,
    items: Vec<EvalItem>,
    headlines: IndexMap<String, Mix>,
}

impl StoredResult {
    /// Reads `folder/scores.json` and, where there is one, `folder/items.jsonl`.
    ///
    /// # Errors
    /// A file that is missing or is no result's, by file and line.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let input =
            |path: &Path, what: String| TrainError::Input(format!("{}: {what}", path.display()));
        let path = folder.join("scores.json");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            input(
                &path,
                format!("{error} (a folder that `svgrl eval .. --out` wrote is needed)"),
            )
        })?;
        let scores: Value = serde_json::from_str(&text)
            .map_err(|error| input(&path, format!("is not JSON: {error}")))?;
        let headlines = match scores.get("headlines") {
            Some(headlines) => serde_json::from_value(headlines.clone())
                .map_err(|error| input(&path, format!("headlines: {error}")))?,
            None => IndexMap::new(),
        };
        let list = folder.join("items.jsonl");
        let rows = match list.exists() {
            true => std::fs::read_to_string(&list).map_err(TrainError::io(&list))?,
            false => String::new(),
        };
        let mut items = Vec::new();
        for (number, line) in rows.lines().enumerate() {
            let place = list.with_file_name(format!("items.jsonl:{}", number + 1));
            let item = serde_json::from_str(line);
            items.push(item.map_err(|error| input(&place, error.to_string()))?);
        }
        Ok(Self {
            name: folder.display().to_string(),
            suite: scores["suite"].as_str().unwrap_or("").to_owned(),
            scores,
            items,
            headlines,
        })
    }

    /// Its rows: task, none for the suite's own, and metric.
    fn keys(&self) -> Vec<(Option<String>, String)> {
        let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
        let own = map(&self.scores);
        let numbers = own
            .iter()
            .filter(|(_, value)| value.is_number() || value.is_null());
        let mut keys: Vec<_> = numbers.map(|(key, _)| (None, key.clone())).collect();
        for (task, value) in map(&self.scores["tasks"]) {
            let metrics = map(&value["metrics"]);
            keys.extend(
                metrics
                    .keys()
                    .map(|metric| (Some(task.clone()), metric.clone())),
            );
        }
        keys
    }

    fn number(&self, (task, metric): &(Option<String>, String)) -> Option<f64> {
        match task {
            None => self.scores[metric].as_f64(),
            Some(task) => self.scores["tasks"][task]["metrics"][metric]["value"].as_f64(),
        }
    }
}

/// How far a result is from the first one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Its number less the first one's, over the items that both have measured.
    pub value: f64,
    /// Where the difference lies; none for numbers that are no means of items.
    pub interval: Option<Interval>,
    /// Items that both have measured; 0 for mixed numbers.
    pub items: usize,
}

/// One number of every result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SideRow {
    /// The task; none for the suite's own numbers.
    pub task: Option<String>,
    /// Metric or name.
    pub metric: String,
    /// Each result's number.
    pub values: Vec<Option<f64>>,
    /// Each further result against the first.
    pub differences: Vec<Option<Difference>>,
}

/// Results beside each other.
#[derive(Debug, Clone)]
pub struct SideBySide {
    names: Vec<String>,
    suite: String,
    /// A row for each number of the first result, then those that only others have.
    pub rows: Vec<SideRow>,
}

/// The drawn means of two results over their common items.
#[derive(Default)]
struct Paired {
    draws: [IndexMap<(String, String), Vec<f64>>; 2],
    counts: HashMap<(String, String), (f64, usize)>,
}

impl SideBySide {
    /// Compares `results` with the first of them.
    ///
    /// # Errors
    /// Fewer than two, or results of several suites.
    pub fn of(results: &[StoredResult], bootstrap: Bootstrap) -> Result<Self, TrainError> {
        let [first, others @ ..] = results else {
            return Err(TrainError::Input(
                "compare: needs two results at least".into(),
            ));
        };
        if others.is_empty() {
            return Err(TrainError::Input(
                "compare: needs two results at least".into(),
            ));
        }
        if let Some(other) = others.iter().find(|other| other.suite != first.suite) {
            let of = |result: &StoredResult| match result.suite.as_str() {
                "" => "published components".to_owned(),
                suite => suite.to_owned(),
            };
            return Err(TrainError::Input(format!(
                "compare: {} is of {}, {} of {}",
                first.name,
                of(first),
                other.name,
                of(other)
            )));
        }
        let mut keys = first.keys();
        for key in others.iter().flat_map(StoredResult::keys) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let pairs: Vec<Paired> = others
            .iter()
            .map(|other| Paired::of([first, other], &keys, bootstrap))
            .collect();
        let row = |key: &(Option<String>, String)| {
            let difference = |(other, paired): (&StoredResult, &Paired)| {
                paired.difference([first, other], key, bootstrap)
            };
            SideRow {
                task: key.0.clone(),
                metric: key.1.clone(),
                values: results.iter().map(|result| result.number(key)).collect(),
                differences: others.iter().zip(&pairs).map(difference).collect(),
            }
        };
        Ok(Self {
            names: results.iter().map(|result| result.name.clone()).collect(),
            suite: first.suite.clone(),
            rows: keys.iter().map(row).collect(),
        })
    }

    /// `scores.json`.
    pub fn to_json(&self) -> Value {
        json!({"suite": self.suite, "results": self.names, "rows": self.rows})
    }

    /// For people; a difference whose interval holds no 0 has a star.
    pub fn markdown(&self) -> String {
        let difference = |difference: &Option<Difference>| match difference {
            None => vec!["-".into()],
            Some(difference) => {
                let signed = format!("{:+.4}", difference.value);
                vec![match difference.interval {
                    None => signed,
                    Some(Interval { low, high }) => {
                        let star = if low > 0.0 || high < 0.0 { " *" } else { "" };
                        format!("{signed} [{low:+.4}, {high:+.4}]{star}")
                    }
                }]
            }
        };
        self.table(
            rounded,
            &|name| vec![format!("{name} - first")],
            &difference,
        )
        .markdown()
    }

    /// For machines.
    pub fn csv(&self) -> String {
        let heads = |name: &str| {
            let head = |what: &str| format!("{name} difference{what}");
            ["", " low", " high", " items"].map(head).to_vec()
        };
        let difference = |difference: &Option<Difference>| {
            let interval = difference
                .as_ref()
                .and_then(|difference| difference.interval);
            vec![
                exact(difference.as_ref().map(|difference| difference.value)),
                exact(interval.map(|interval| interval.low)),
                exact(interval.map(|interval| interval.high)),
                exact(
                    difference
                        .as_ref()
                        .map(|difference| difference.items as f64),
                ),
            ]
        };
        self.table(exact, &heads, &difference).csv()
    }

    fn table(
        &self,
        number: fn(Option<f64>) -> String,
        heads: &dyn Fn(&str) -> Vec<String>,
        cells: &dyn Fn(&Option<Difference>) -> Vec<String>,
    ) -> TextTable {
        let mut head: Vec<String> = vec!["task".into(), "metric".into()];
        head.extend(self.names.iter().cloned());
        head.extend(self.names[1..].iter().flat_map(|name| heads(name)));
        let row = |row: &SideRow| {
            let mut line = vec![row.task.clone().unwrap_or_default(), row.metric.clone()];
            line.extend(row.values.iter().map(|value| number(*value)));
            line.extend(row.differences.iter().flat_map(cells));
            line
        };
        TextTable {
            head,
            rows: self.rows.iter().map(row).collect(),
        }
    }
}

impl Paired {
    fn of(
        pair: [&StoredResult; 2],
        keys: &[(Option<String>, String)],
        bootstrap: Bootstrap,
    ) -> Self {
        let mut paired = Self::default();
        let mut tasks: IndexMap<&str, Vec<&str>> = IndexMap::new();
        for (task, metric) in keys {
            if let Some(task) = task {
                tasks.entry(task).or_default().push(metric);
            }
        }
        for (task, metrics) in tasks {
            let own = |item: &&EvalItem| item.task == task;
            let second: HashMap<&str, &EvalItem> = pair[1]
                .items
                .iter()
                .filter(own)
                .map(|item| (item.id.as_str(), item))
                .collect();
            let common: Vec<[&EvalItem; 2]> = pair[0]
                .items
                .iter()
                .filter(own)
                .filter_map(|item| Some([item, second.get(item.id.as_str())?]))
                .collect();
            let mut columns = Vec::new();
            for metric in &metrics {
                let mut both =
                    [0, 1].map(|side| column(common.iter().map(|pair| pair[side]), metric));
                let missing: Vec<bool> = (0..common.len())
                    .map(|at| both.iter().any(|column| column[at].is_nan()))
                    .collect();
                for column in &mut both {
                    for (value, missing) in column.iter_mut().zip(&missing) {
                        *value = if *missing { f64::NAN } else { *value };
                    }
                }
                columns.extend(both);
            }
            let mut draws = bootstrap.means(task, &columns).into_iter();
            for (metric, both) in metrics.iter().zip(columns.chunks_exact(2)) {
                let key = (task.to_owned(), (*metric).to_owned());
                let means = [mean(&both[0]), mean(&both[1])];
                if let [(Some(a), count), (Some(b), _)] = means {
                    paired.counts.insert(key.clone(), (b - a, count));
                }
                for side in &mut paired.draws {
                    side.insert(key.clone(), draws.next().unwrap_or_default());
                }
            }
        }
        paired
    }

    fn difference(
        &self,
        [first, other]: [&StoredResult; 2],
        key: &(Option<String>, String),
        bootstrap: Bootstrap,
    ) -> Option<Difference> {
        let apart = |a: &[f64], b: &[f64]| {
            let each: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
            bootstrap.interval(&each)
        };
        let plain = || Some(other.number(key)? - first.number(key)?);
        let Some(task) = &key.0 else {
            let mixes = [first, other].map(|result| result.headlines.get(&key.1));
            let interval = match mixes {
                [Some(a), Some(b)] if a == b => {
                    let drawn = |side: usize| mixed(a, &self.draws[side], bootstrap.samples);
                    apart(&drawn(0), &drawn(1))
                }
                _ => None,
            };
            return Some(Difference {
                value: plain()?,
                interval,
                items: 0,
            });
        };
        let key = (task.clone(), key.1.clone());
        match self.counts.get(&key) {
            Some((value, items)) => Some(Difference {
                value: *value,
                interval: apart(&self.draws[0][&key], &self.draws[1][&key]),
                items: *items,
            }),
            None => Some(Difference {
                value: plain()?,
                interval: None,
                items: 0,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::result::SuiteResult;
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap {
        samples: 400,
        confidence: 0.95,
        seed: 1,
    };

    /// Two results whose items differ widely from each other, and little between the results.
    fn results(folder: &Path) -> [StoredResult; 2] {
        [0.0, 0.01].map(|gain| {
            let item = |id: usize| {
                let mut item = EvalItem::new("draw", &id.to_string(), None);
                item.put(
                    "score",
                    (id * 37 % 101) as f64 + gain + 0.001 * (id % 3) as f64 * gain,
                );
                if id == 5 && gain > 0.0 {
                    item.values.clear();
                    item.fail("score", "lost");
                }
                item
            };
            let result = SuiteResult {
                suite: "test".into(),
                tasks: IndexMap::from([("draw".into(), vec!["score".into(), "fid".into()])]),
                items: (0..60).map(item).collect(),
                whole: IndexMap::from([(("draw".into(), "fid".into()), Ok(3.0 - gain))]),
                headlines: IndexMap::from([(
                    "final".into(),
                    Mix::default().and(2.0, "draw", "score"),
                )]),
                ..SuiteResult::default()
            };
            let own = folder.join(gain.to_string());
            result.scored(BOOTSTRAP).write(&own).unwrap();
            StoredResult::read(&own).unwrap()
        })
    }

    #[test]
    fn paired_items_show_a_difference_that_single_intervals_hide() {
        let folder = tempfile::tempdir().unwrap();
        let results = results(folder.path());
        let found = SideBySide::of(&results, BOOTSTRAP).unwrap();
        let row = |metric: &str| found.rows.iter().find(|row| row.metric == metric).unwrap();
        let own = &results[0].scores["tasks"]["draw"]["metrics"]["score"]["interval"];
        assert!(own["high"].as_f64().unwrap() - own["low"].as_f64().unwrap() > 10.0);
        let score = row("score").differences[0].clone().unwrap();
        let interval = score.interval.unwrap();
        assert_eq!(score.items, 59);
        assert!(
            interval.low > 0.0099 && interval.high < 0.0101,
            "{interval:?}"
        );
        let mixed = row("final").differences[0].clone().unwrap();
        let twice = mixed.interval.unwrap();
        assert!((twice.low - 2.0 * interval.low).abs() < 1e-9, "{twice:?}");
        let fid = row("fid").differences[0].clone().unwrap();
        assert!((fid.value + 0.01).abs() < 1e-12 && fid.interval.is_none());
        assert!(found.markdown().contains("] *"), "{}", found.markdown());
        assert_eq!(found.csv().lines().count(), 4);
    }

    #[test]
    fn one_result_and_several_suites_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let [first, mut second] = results(folder.path());
        let told =
            |results: &[StoredResult]| SideBySide::of(results, BOOTSTRAP).unwrap_err().to_string();
        assert!(told(std::slice::from_ref(&first)).contains("two results"));
        second.suite = "other".into();
        assert!(told(&[first, second]).contains("is of test"));
        let missing = StoredResult::read(&folder.path().join("none")).unwrap_err();
        assert!(missing.to_string().contains("scores.json"), "{missing}");
    }
}
