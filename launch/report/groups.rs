//! Which groups of completions a page shows, the most telling first: a page holds so many bytes, and what does not
//! fit is left out from the end.

use std::collections::{HashMap, HashSet};

use super::rows::ReportRow;
use super::run_data::{EvaluationRows, ReportRun};

/// Prompts of the strip above the curves.
const STRIP: usize = 12;
/// Groups of a training step, of each task.
const TRAINING: usize = 6;
/// Prompts of a set's first and last evaluation, of each task.
const HELD_OUT: usize = 12;
/// The worst and the most improved prompts of a set's last evaluation, of each task.
const EXTREMES: usize = 4;

/// The completions of one prompt in one step.
#[derive(Debug, Clone)]
pub(super) struct RowGroup<'a> {
    pub(super) stage: &'a str,
    /// The held-out set; none of training.
    pub(super) set: Option<&'a str>,
    pub(super) step: u64,
    pub(super) rows: Vec<&'a ReportRow>,
    /// How much more its completions earn than those of the set's first evaluation.
    pub(super) gain: Option<f64>,
}

impl RowGroup<'_> {
    fn task(&self) -> &str {
        self.rows.first().map_or("", |row| row.task.as_str())
    }

    fn prompt(&self) -> &str {
        self.rows.first().map_or("", |row| row.prompt_id.as_str())
    }

    /// Mean total of those that were scored.
    fn mean(&self) -> Option<f64> {
        mean(&self.rows)
    }
}

fn mean(rows: &[&ReportRow]) -> Option<f64> {
    let totals: Vec<f64> = rows.iter().filter_map(|row| row.total).collect();
    (!totals.is_empty()).then(|| totals.iter().sum::<f64>() / totals.len() as f64)
}

/// A step's rows by their prompts, in order.
pub(super) fn by_prompt(rows: &[ReportRow]) -> Vec<Vec<&ReportRow>> {
    let mut groups: Vec<Vec<&ReportRow>> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for row in rows {
        let place = *places.entry(&row.prompt_id).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[place].push(row);
    }
    groups
}

/// The groups of a run that its page shows, the most telling first; those of the last evaluations of `asked` (set, task,
/// prompt) are among them in any case.
pub(super) fn chosen<'a>(run: &'a ReportRun, asked: &[(&str, &str, &str)]) -> Vec<RowGroup<'a>> {
    // The strip of every set comes before anything else, then the ends, then what lies between.
    let mut ranked: Vec<(usize, RowGroup<'_>)> = Vec::new();
    for (set, evaluations) in &run.sets {
        let asked = asked.iter().filter(|(of, ..)| of == set);
        let asked: Vec<(&str, &str)> = asked.map(|(_, task, prompt)| (*task, *prompt)).collect();
        ranked.extend(of_set(set, evaluations, &asked));
    }
    for stage in run.stages.iter().rev() {
        let last = stage.samples.len().saturating_sub(1);
        for (at, (step, rows)) in stage.samples.iter().enumerate() {
            let groups = by_prompt(rows).into_iter().map(|rows| RowGroup {
                stage: &stage.name,
                set: None,
                step: *step,
                rows,
                gain: None,
            });
            let few = of_each_task(groups.collect(), TRAINING);
            let rank = if at == last || at == 0 { 2 } else { 3 };
            ranked.extend(few.into_iter().map(|group| (rank, group)));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, group)| group).collect()
}

fn of_set<'a>(
    set: &'a str,
    evaluations: &'a [EvaluationRows],
    asked: &[(&str, &str)],
) -> Vec<(usize, RowGroup<'a>)> {
    let Some((first, last)) = evaluations.first().zip(evaluations.last()) else {
        return Vec::new();
    };
    let before: HashMap<(&str, &str), f64> = by_prompt(&first.rows)
        .iter()
        .filter_map(|rows| {
            let row = rows.first()?;
            Some(((row.task.as_str(), row.prompt_id.as_str()), mean(rows)?))
        })
        .collect();
    let groups = |of: &'a EvaluationRows| -> Vec<RowGroup<'a>> {
        let groups = by_prompt(&of.rows).into_iter().map(|rows| RowGroup {
            stage: &of.stage,
            set: Some(set),
            step: of.step,
            rows,
            gain: None,
        });
        let gained = groups.map(|group| {
            let start = before.get(&(group.task(), group.prompt()));
            let gain = group.mean().zip(start).map(|(now, start)| now - start);
            let gain = gain.filter(|_| !std::ptr::eq(of, first));
            RowGroup { gain, ..group }
        });
        gained.collect()
    };
    let strip: Vec<(String, String)> = round_robin(groups(last), STRIP)
        .iter()
        .map(|group| (group.task().to_owned(), group.prompt().to_owned()))
        .collect();
    let of_strip = |group: &RowGroup<'_>| {
        let own =
            |(task, prompt): &(String, String)| task == group.task() && prompt == group.prompt();
        strip.iter().any(own)
    };
    // The same prompts of the first and the last evaluation.
    let mut shown: HashSet<(String, String)> = HashSet::new();
    let mut keep = |groups: Vec<RowGroup<'_>>| {
        shown.extend(
            groups
                .iter()
                .map(|group| (group.task().to_owned(), group.prompt().to_owned())),
        );
    };
    keep(of_each_task(groups(last), HELD_OUT));
    let mut worst = groups(last);
    worst.sort_by(|a, b| a.mean().unwrap_or(0.0).total_cmp(&b.mean().unwrap_or(0.0)));
    keep(of_each_task(worst, EXTREMES));
    let mut improved = groups(last);
    improved.sort_by(|a, b| b.gain.unwrap_or(0.0).total_cmp(&a.gain.unwrap_or(0.0)));
    keep(of_each_task(improved, EXTREMES));
    let mut out = Vec::new();
    for (at, evaluation) in evaluations.iter().enumerate() {
        let end = at == 0 || at + 1 == evaluations.len();
        for group in groups(evaluation) {
            let one = (group.task().to_owned(), group.prompt().to_owned());
            let is_asked =
                at + 1 == evaluations.len() && asked.contains(&(group.task(), group.prompt()));
            match (of_strip(&group) || is_asked, end && shown.contains(&one)) {
                (true, _) => out.push((0, group)),
                (false, true) => out.push((1, group)),
                (false, false) => {}
            }
        }
    }
    out
}

/// The first groups of each task.
fn of_each_task(groups: Vec<RowGroup<'_>>, most: usize) -> Vec<RowGroup<'_>> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut few = groups;
    few.retain(|group| {
        let count = counts.entry(group.task().to_owned()).or_default();
        *count += 1;
        *count <= most
    });
    few
}

/// So many groups, of the tasks in turn.
fn round_robin(groups: Vec<RowGroup<'_>>, most: usize) -> Vec<RowGroup<'_>> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut turns: Vec<(usize, RowGroup<'_>)> = groups
        .into_iter()
        .map(|group| {
            let count = counts.entry(group.task().to_owned()).or_default();
            *count += 1;
            (*count, group)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    turns
        .into_iter()
        .take(most)
        .map(|(_, group)| group)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(step: u64, totals: &[f64]) -> EvaluationRows {
        let rows = totals.iter().enumerate().map(|(at, total)| ReportRow {
            prompt_id: format!("p{at}"),
            task: if at % 2 == 0 { "a" } else { "b" }.to_owned(),
            total: Some(*total),
            ..ReportRow::default()
        });
        EvaluationRows {
            stage: "rl".to_owned(),
            step,
            rows: rows.collect(),
        }
    }

    #[test]
    fn the_worst_and_the_most_improved_are_among_many() {
        let mut before = vec![0.5; 200];
        let mut after = vec![0.75; 200];
        (before[151], after[151]) = (0.0, 1.0);
        after[180] = -1.0;
        let all = [
            evaluation(0, &before),
            evaluation(5, &vec![0.6; 200]),
            evaluation(9, &after),
        ];
        let found = of_set("heldout", &all, &[]);
        let at = |prompt: &str, step: u64| {
            let mut own = found.iter();
            own.find(|(_, group)| group.prompt() == prompt && group.step == step)
        };
        assert_eq!(at("p151", 9).unwrap().1.gain, Some(1.0));
        assert_eq!(at("p180", 9).unwrap().1.mean(), Some(-1.0));
        // Their beginnings stand with them, and the strip's prompts at every evaluation.
        assert_eq!(at("p151", 0).unwrap().1.gain, None);
        assert!(at("p151", 5).is_none() && at("p0", 5).is_some());
        assert_eq!(
            found.iter().filter(|(rank, _)| *rank == 0).count(),
            3 * STRIP
        );
        // What is asked for is there, in the last evaluation alone.
        let asked = of_set("heldout", &all, &[("b", "p77")]);
        let at_77 = asked.iter().filter(|(_, group)| group.prompt() == "p77");
        let steps: Vec<(usize, u64)> = at_77.map(|(rank, group)| (*rank, group.step)).collect();
        assert_eq!(steps, [(0, 9)]);
        // Both tasks are in it.
        assert!(at("p1", 5).is_some());
    }
}
