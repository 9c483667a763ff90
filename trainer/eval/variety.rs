//! How different a prompt's drawings are: 1 minus the mean cosine of each two of them, of DINOv2's class tokens, as SGP-RL's
//! evaluation computes it; a prompt of which fewer than two were drawn has 0.

use std::collections::HashMap;

use indexmap::IndexMap;

use super::item::EvalItem;
use super::networks::cosine;
use super::picture_metric::PictureMetric;
use super::picture_task::PictureTask;

/// The mean of all networks' diversities.
pub const DIVERSITY: &str = "diversity";

/// A prompt's items are `<prompt>/<place>`.
pub fn prompt_of(id: &str) -> &str {
    id.rsplit_once('/').map_or(id, |(prompt, _)| prompt)
}

/// The task of prompts that belongs to a task of their drawings.
pub fn task_of_prompts(task: &str) -> String {
    format!("{task}/prompts")
}

/// For each task of several drawings a prompt: the task of its prompts, that one's metrics, and its items.
pub fn of(
    tasks: &[PictureTask],
    features: &[(String, String, PictureMetric, Vec<f32>)],
) -> Vec<(String, Vec<String>, Vec<EvalItem>)> {
    let of_task = |task: &PictureTask| {
        let class_tokens = task.metrics.iter().copied().filter(|metric| {
            metric
                .network()
                .is_some_and(|network| network.is_class_token())
        });
        let metrics: Vec<PictureMetric> = class_tokens.collect();
        if metrics.is_empty() {
            return None;
        }
        let mut drawn: HashMap<(&str, PictureMetric), Vec<&[f32]>> = HashMap::new();
        for (own, id, metric, values) in features {
            if *own == task.name {
                let key = (prompt_of(id), *metric);
                drawn.entry(key).or_default().push(values);
            }
        }
        let name = task_of_prompts(&task.name);
        let mut items: IndexMap<&str, EvalItem> = IndexMap::new();
        for row in &task.rows {
            let prompt = prompt_of(&row.id);
            items.entry(prompt).or_insert_with(|| {
                let mut item = EvalItem::new(&name, prompt, None);
                let own = metrics.iter().map(|metric| {
                    let all = drawn.get(&(prompt, *metric));
                    (metric, all.map_or(0.0, |all| spread(all)))
                });
                let own: Vec<_> = own.collect();
                let sum: f64 = own.iter().map(|(_, value)| value).sum();
                item.put(DIVERSITY, sum / own.len() as f64);
                for (metric, value) in own {
                    item.put(&of_metric(*metric), value);
                }
                item
            });
        }
        let names = metrics.iter().map(|metric| of_metric(*metric));
        let names = std::iter::once(DIVERSITY.to_owned()).chain(names);
        Some((name.clone(), names.collect(), items.into_values().collect()))
    };
    tasks.iter().filter_map(of_task).collect()
}

fn of_metric(metric: PictureMetric) -> String {
    format!("{DIVERSITY}/{}", metric.name())
}

/// 1 minus the mean cosine of each two.
fn spread(all: &[&[f32]]) -> f64 {
    let pairs = all
        .iter()
        .enumerate()
        .flat_map(|(at, a)| all[at + 1..].iter().map(move |b| cosine(a, b)));
    let (sum, count) = pairs.fold((0.0, 0usize), |(sum, count), like| (sum + like, count + 1));
    match count {
        0 => 0.0,
        count => 1.0 - sum / count as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawings_that_are_alike_are_no_variety_and_one_alone_has_none() {
        let (x, y) = ([1.0, 0.0], [0.0, 2.0]);
        assert_eq!(spread(&[&x, &x]), 0.0);
        assert_eq!(spread(&[&x, &y]), 1.0);
        // Of three pairs one is alike.
        assert!((spread(&[&x, &y, &x]) - (1.0 - 1.0 / 3.0)).abs() < 1e-12);
        assert_eq!((spread(&[&x]), spread(&[])), (0.0, 0.0));
        assert_eq!((prompt_of("a/b/3"), prompt_of("a")), ("a/b", "a"));
    }
}
