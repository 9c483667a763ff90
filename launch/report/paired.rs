//! Differences between runs, prompt by prompt: the last evaluation of each, and the completions of the same prompts.

use std::collections::HashMap;

use serde::Serialize;

use super::rows::ReportRow;
use super::run_data::{EvaluationRows, ReportRun};

/// How much more one run earns than another on the same prompts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PairedDifference {
    /// Numbers of the runs on the page; the difference is the second less the first.
    pub(super) runs: (usize, usize),
    pub(super) set: String,
    /// A task, or none for all.
    pub(super) task: Option<String>,
    /// `total` or the name of a part.
    pub(super) part: String,
    /// Prompts that both have.
    pub(super) prompts: usize,
    pub(super) first: f64,
    pub(super) second: f64,
    /// Mean over prompts, and its standard error; none of a single prompt.
    pub(super) difference: f64,
    pub(super) error: Option<f64>,
}

/// What two runs' last evaluations of a set are.
pub(super) struct SetOfTwo<'a> {
    /// The second run's number on the page; the first is 0.
    pub(super) at: usize,
    pub(super) set: &'a String,
    pub(super) own: &'a EvaluationRows,
    pub(super) theirs: &'a EvaluationRows,
}

/// The sets that every further run shares with the first.
pub(super) fn sets_of_two(runs: &[ReportRun]) -> impl Iterator<Item = SetOfTwo<'_>> {
    let first = runs.first();
    let others = runs.iter().enumerate().skip(1);
    others.flat_map(move |(at, other)| {
        let sets = first.into_iter().flat_map(|first| &first.sets);
        sets.filter_map(move |(set, evaluations)| {
            Some(SetOfTwo {
                at,
                set,
                own: evaluations.last()?,
                theirs: other.sets.get(set)?.last()?,
            })
        })
    })
}

/// The differences of every further run to the first.
pub(super) fn differences(runs: &[ReportRun]) -> Vec<PairedDifference> {
    let mut out = Vec::new();
    for SetOfTwo {
        at,
        set,
        own,
        theirs,
    } in sets_of_two(runs)
    {
        let (own, theirs) = (by_prompt(&own.rows), by_prompt(&theirs.rows));
        let mut keys: Vec<&PartOfPrompt<'_>> =
            own.keys().filter(|key| theirs.contains_key(*key)).collect();
        keys.sort();
        let mut groups: Vec<(Option<&str>, &str)> = Vec::new();
        for (part, task, _) in &keys {
            for group in [(None, *part), (Some(*task), *part)] {
                if !groups.contains(&group) {
                    groups.push(group);
                }
            }
        }
        let tasks = groups
            .iter()
            .filter(|(task, part)| task.is_some() && *part == TOTAL);
        let several = tasks.count() > 1;
        groups.retain(|(task, _)| several || task.is_none());
        // Totals first.
        groups.sort_by_key(|(task, part)| (*part != TOTAL, task.is_some()));
        for (task, part) in groups {
            let pairs: Vec<(f64, f64)> = keys
                .iter()
                .filter(|(of, own, _)| *of == part && task.is_none_or(|task| task == *own))
                .map(|key| (own[*key], theirs[*key]))
                .collect();
            out.push(difference((0, at), (set, task, part), &pairs));
        }
    }
    out
}

const TOTAL: &str = "total";

/// Part, task and prompt.
type PartOfPrompt<'a> = (&'a str, &'a str, &'a str);

/// Mean of each part over a prompt's completions.
fn by_prompt(rows: &[ReportRow]) -> HashMap<PartOfPrompt<'_>, f64> {
    let mut sums: HashMap<PartOfPrompt<'_>, (f64, f64)> = HashMap::new();
    for row in rows {
        let parts = row
            .parts
            .iter()
            .map(|(name, value)| (name.as_str(), *value));
        for (part, value) in parts.chain([(TOTAL, row.total)]) {
            if let Some(value) = value {
                let key = (part, row.task.as_str(), row.prompt_id.as_str());
                let sum = sums.entry(key).or_default();
                *sum = (sum.0 + value, sum.1 + 1.0);
            }
        }
    }
    sums.into_iter()
        .map(|(key, (sum, count))| (key, sum / count))
        .collect()
}

fn difference(
    runs: (usize, usize),
    (set, task, part): (&str, Option<&str>, &str),
    pairs: &[(f64, f64)],
) -> PairedDifference {
    let count = pairs.len() as f64;
    let mean = |value: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(value).sum::<f64>() / count;
    let difference = mean(&|(first, second)| second - first);
    let squares: f64 = pairs
        .iter()
        .map(|(first, second)| (second - first - difference).powi(2))
        .sum();
    PairedDifference {
        runs,
        set: set.to_owned(),
        task: task.map(str::to_owned),
        part: part.to_owned(),
        prompts: pairs.len(),
        first: mean(&|pair| pair.0),
        second: mean(&|pair| pair.1),
        difference,
        error: (pairs.len() > 1).then(|| (squares / (count - 1.0) / count).sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_of_prompts_that_both_have() {
        let pairs = [(0.0, 0.5), (1.0, 1.25), (0.5, 0.75)];
        let found = difference((0, 1), ("heldout", None, TOTAL), &pairs);
        assert_eq!((found.prompts, found.first), (3, 0.5));
        assert!((found.difference - 1.0 / 3.0).abs() < 1e-12);
        // The deviations are 1/6, -1/12, -1/12.
        let error = ((1.0 / 36.0 + 2.0 / 144.0) / 2.0 / 3.0f64).sqrt();
        assert!((found.error.unwrap() - error).abs() < 1e-12);
        assert_eq!(
            difference((0, 1), ("heldout", None, TOTAL), &pairs[..1]).error,
            None
        );
    }
}
