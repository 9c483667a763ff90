//! Rewards and lengths of a step's completions, counted in equal bins.

use serde::Serialize;

use super::rows::ReportRow;

/// Bins of a histogram.
const BINS: usize = 24;

/// How often values fall into equal bins between two ends.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BinCounts {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) counts: Vec<u64>,
}

/// The histograms of one step's completions of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StepHistograms {
    pub(super) stage: String,
    /// The held-out set; none of training.
    pub(super) set: Option<String>,
    pub(super) step: u64,
    pub(super) task: String,
    pub(super) rewards: BinCounts,
    pub(super) lengths: BinCounts,
}

/// Steps with their rows: stage, set, step, rows.
pub(super) type StepRows<'a> = (&'a str, Option<&'a str>, u64, &'a [ReportRow]);

/// Histograms of some steps of one stage and set, by task; the bins of a task are the same in all of them.
pub(super) fn of_steps(steps: &[StepRows<'_>]) -> Vec<StepHistograms> {
    let mut tasks: Vec<&str> = Vec::new();
    for row in steps.iter().flat_map(|step| step.3) {
        if !tasks.contains(&row.task.as_str()) {
            tasks.push(&row.task);
        }
    }
    let mut out = Vec::new();
    for task in tasks {
        let of = |rows: &[ReportRow], value: &dyn Fn(&ReportRow) -> Option<f64>| -> Vec<f64> {
            let own = rows.iter().filter(|row| row.task == task);
            own.filter_map(value).collect()
        };
        let reward = |row: &ReportRow| row.total;
        let length = |row: &ReportRow| Some(row.token_ids.len() as f64);
        let ends = |value: &dyn Fn(&ReportRow) -> Option<f64>| {
            let all = steps.iter().flat_map(|step| of(step.3, value));
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        };
        let (rewards, lengths) = (ends(&reward), ends(&length));
        for (stage, set, step, rows) in steps {
            out.push(StepHistograms {
                stage: (*stage).to_owned(),
                set: set.map(str::to_owned),
                step: *step,
                task: task.to_owned(),
                rewards: counted(&of(rows, &reward), rewards),
                lengths: counted(&of(rows, &length), lengths),
            });
        }
    }
    out
}

fn counted(values: &[f64], (low, high): (f64, f64)) -> BinCounts {
    let (low, high) = match low < high {
        true => (low, high),
        // One value alone, or none.
        false if low.is_finite() => (low - 0.5, low + 0.5),
        false => (0.0, 1.0),
    };
    let mut counts = vec![0; BINS];
    for value in values {
        let at = ((value - low) / (high - low) * BINS as f64) as usize;
        counts[at.min(BINS - 1)] += 1;
    }
    BinCounts { low, high, counts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bin_and_the_ends_are_shared() {
        let row = |task: &str, total: Option<f64>, tokens: usize| ReportRow {
            task: task.to_owned(),
            total,
            token_ids: vec![0; tokens],
            ..ReportRow::default()
        };
        let first = [
            row("a", Some(0.0), 4),
            row("a", None, 4),
            row("b", Some(1.0), 9),
        ];
        let last = [row("a", Some(1.0), 28)];
        let all = of_steps(&[("rl", None, 1, &first), ("rl", None, 9, &last)]);
        assert_eq!(all.len(), 4);
        let sums: Vec<u64> = all
            .iter()
            .map(|one| one.rewards.counts.iter().sum())
            .collect();
        assert_eq!(sums, [1, 1, 1, 0]);
        assert_eq!((all[0].rewards.low, all[1].rewards.high), (0.0, 1.0));
        assert_eq!(
            (all[0].lengths.counts[0], all[1].lengths.counts[BINS - 1]),
            (2, 1)
        );
        // A task with one value has a bin around it.
        assert_eq!((all[2].rewards.low, all[2].rewards.high), (0.5, 1.5));
    }
}
