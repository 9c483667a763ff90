//! Thoughts and drawing beside each other (CTRL-S): whether each planned step is there as a group.

use crate::options::reward_options;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::value::Value;

reward_options! {
    /// The share of the thoughts' drawing steps that have a group of their own: `min(groups, steps) / steps`, 0 without
    /// steps. Steps are the lines of the first `<think>` block that begin with a number (`1.`, `2)`, `Step 3:`, behind
    /// a dash or a star too); groups are the SVG's `<g>` elements. A metric for CTRL-S' answers, in which each step is a
    /// group. Invalid completions are left out of the metric.
    ThinkSteps (clip None) {}
}

impl RewardFn for ThinkSteps {
    type Kept = ();
    const INVALID: OfInvalid = OfInvalid::Unmeasured;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds::nothing_but(Subject::Svg)
    }

    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    fn prepare(&self, _: &ReferencePictures, _: &Tools) {}

    fn score(&self, cx: &ScoreContext, (): &()) -> Value {
        Value::Known(share(cx.completion(), cx.text()))
    }
}

fn share(completion: &str, svg: &str) -> f64 {
    let thoughts = completion
        .split_once("<think>")
        .map_or(completion, |(_, rest)| rest);
    let thoughts = thoughts.split("</think>").next().unwrap_or_default();
    let steps = thoughts.lines().filter(|line| is_step(line)).count();
    let group = |rest: &str| rest.starts_with([' ', '>', '\t', '\n', '\r', '/']);
    let groups = svg
        .match_indices("<g")
        .filter(|(at, _)| group(&svg[at + 2..]));
    match steps {
        0 => 0.0,
        steps => groups.count().min(steps) as f64 / steps as f64,
    }
}

/// Whether a line of thoughts begins a step.
fn is_step(line: &str) -> bool {
    let line = line.trim_start_matches([' ', '\t', '-', '*', '#']);
    let line = ["Step ", "step "]
        .iter()
        .find_map(|word| line.strip_prefix(word))
        .unwrap_or(line);
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    rest.len() < line.len() && rest.starts_with(['.', ')', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_lines_with_a_number_and_groups_their_elements() {
        let thoughts = "<think>Canvas: 128 x 128\nDrawing Steps:\n1. sky\n - 2) sun\nStep 3: 12 rays\n3 birds\n</think>";
        let svg = |groups: usize| format!("<svg>{}<glyph/></svg>", "<g><path/></g>".repeat(groups));
        for (groups, expected) in [(0, 0.0), (1, 1.0 / 3.0), (3, 1.0), (5, 1.0)] {
            assert_eq!(share(thoughts, &svg(groups)), expected, "{groups}");
        }
        assert_eq!(share("no thoughts", &svg(2)), 0.0);
        assert_eq!(
            share("1. sun</think> <svg/>", &svg(2)),
            1.0,
            "the prompt began the block"
        );
    }
}
