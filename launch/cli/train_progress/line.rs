//! The line of a step: what was learnt and rewarded, task by task, in [`WIDTH`] columns.

use trainer::config::StageCommon;
use trainer::metrics::{Metric, Metrics, keys};

use crate::progress::duration;

/// Columns that a step's line takes at most.
pub(super) const WIDTH: usize = 100;

/// Numbers that a step is told by, with their words; the last ones give way first where there is no room.
const TOLD: [(&Metric, &str); 8] = [
    (&keys::DPO_LOSS, "loss"),
    (&keys::DPO_ACCURACY, "accuracy"),
    (&keys::DPO_MARGIN, "margin"),
    (&keys::SFT_LOSS, "loss"),
    (&keys::VALID, "valid"),
    (&keys::TOKENS_MEAN, "tokens"),
    (&keys::KL_REF, "kl"),
    (&keys::GRAD_NORM, "grad"),
];

/// The line of `step`, which took `seconds`; `left` are those that the stage still needs.
pub(super) fn step_line(
    (stage, step): (&StageCommon, u64),
    metrics: &Metrics,
    (seconds, left): (f64, f64),
) -> String {
    let head = format!("{} {step}/{}", stage.name, stage.steps);
    let tail = format!("{} s/step  {} left", number(seconds), duration(left));
    // Two spaces on each side of what stands between.
    let room = WIDTH.saturating_sub(width(&head) + width(&tail) + 2);
    let mut parts: Vec<String> = rewards(metrics, (room * 2 / 3).max(44).min(room))
        .into_iter()
        .collect();
    let is_pairs = metrics.get(&keys::DPO_LOSS).is_some();
    for (metric, label) in TOLD {
        let Some(value) = metrics.get(metric) else {
            continue;
        };
        let label = match is_pairs && metric == &keys::SFT_LOSS {
            true => "nll",
            false => label,
        };
        let part = match metric == &keys::VALID {
            true => format!("valid {:.0} %", 100.0 * value),
            false => format!("{label} {}", number(value)),
        };
        let taken: usize = parts.iter().map(|part| width(part) + 2).sum();
        if taken + width(&part) + 2 <= room {
            parts.push(part);
        }
    }
    // A stage's name may be longer than the line.
    clipped(&format!("{head}  {}  {tail}", parts.join("  ")))
}

/// The mean reward, and that of each task where there are several; as many of these as `room` allows.
fn rewards(metrics: &Metrics, room: usize) -> Option<String> {
    let total = metrics.get(&keys::REWARD_MEAN)?;
    let mut text = format!("reward {}", number(total));
    let tasks: Vec<(&str, f64)> = metrics
        .iter()
        .filter(|(name, _)| keys::declared(name) == Some(&keys::REWARD_TASK))
        .filter_map(|(name, value)| Some((keys::REWARD_TASK.names(name).next()?, value)))
        .collect();
    if tasks.len() < 2 {
        return Some(text);
    }
    let mut told: Vec<String> = Vec::new();
    // Brackets and what closes them.
    let mut taken = width(&text) + 3;
    for (at, (task, value)) in tasks.iter().enumerate() {
        let part = format!("{task} {}", number(*value));
        let rest = match tasks.len() - at - 1 {
            0 => 0,
            _ => ", +99 more".len(),
        };
        if taken + width(&part) + rest > room {
            told.push(format!("+{} more", tasks.len() - at));
            break;
        }
        taken += width(&part) + 2;
        told.push(part);
    }
    let told = format!(" ({})", told.join(", "));
    if width(&text) + width(&told) <= room {
        text.push_str(&told);
    }
    Some(text)
}

/// Four figures or fewer.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        size if size > 0.0 && size < 0.001 => format!("{value:.1e}"),
        _ => format!("{value:.3}"),
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn clipped(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        None => line.to_owned(),
        Some(_) => {
            let kept: String = line.chars().take(WIDTH - 1).collect();
            kept + "…"
        }
    }
}

#[cfg(test)]
mod tests {
    use trainer::config::{AlgorithmConfig, GrpoConfig, StageConfig};

    use super::*;

    fn line(name: &str, tasks: &[&str]) -> String {
        let mut stage = StageConfig::new(AlgorithmConfig::Grpo(GrpoConfig::default())).common;
        stage.name = name.into();
        stage.steps = 100_000;
        let mut metrics = Metrics::new();
        metrics.set(&keys::REWARD_MEAN, -0.512_34);
        for (at, task) in tasks.iter().enumerate() {
            metrics.set_of(&keys::REWARD_TASK, &[task], at as f64 / 10.0);
        }
        metrics.set(&keys::VALID, 0.987);
        metrics.set(&keys::TOKENS_MEAN, 1234.5);
        metrics.set(&keys::KL_REF, 0.000_012_3);
        metrics.set(&keys::GRAD_NORM, 0.25);
        step_line((&stage, 12_345), &metrics, (61.25, 86_400.0 * 3.0))
    }

    #[test]
    fn a_line_has_a_reward_a_task_and_fits() {
        assert_eq!(
            line("rl", &["draw"]),
            "rl 12345/100000  reward -0.512  valid 99 %  tokens 1234  kl 1.2e-5  grad 0.250  61.25 s/step  72h00m left"
                .replace("  grad 0.250", "")
        );
        let two = line("rl", &["draw", "edit"]);
        assert!(
            two.contains("reward -0.512 (draw 0.000, edit 0.100)  valid 99 %"),
            "{two}"
        );
        let many = [
            "text_to_svg",
            "image_to_svg",
            "edit",
            "describe",
            "icons",
            "logos",
        ];
        let long = "reinforcement_learning_with_everything";
        for (name, told) in [
            ("rl", "(text_to_svg 0.000, +5 more)"),
            (long, "reward -0.512"),
        ] {
            let many = line(name, &many);
            assert!(width(&many) <= WIDTH && many.contains(told), "{many}");
            assert!(many.ends_with("61.25 s/step  72h00m left"), "{many}");
        }
        assert_eq!(width(&line(&"long".repeat(40), &[])), WIDTH);
    }
}
