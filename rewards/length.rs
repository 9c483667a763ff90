//! Rewards on the length of the SVG code (the think text does not count).

use crate::config::reward_options;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a length counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Characters.
    Chars,
    /// Tokens of the policy's tokenizer.
    Tokens,
    /// Characters that are neither white space nor within comments.
    NonSpace,
}

impl Unit {
    /// The length of `svg`; `tokens` counts tokens.
    pub(crate) fn count(self, svg: &str, tokens: Option<&dyn Fn(&str) -> usize>) -> f64 {
        let count = match self {
            Unit::Chars => svg.chars().count(),
            Unit::Tokens => tokens.map_or(0, |count| count(svg)),
            Unit::NonSpace => non_space(svg),
        };
        count as f64
    }
}

fn non_space(svg: &str) -> usize {
    let visible = |s: &str| s.chars().filter(|c| !c.is_whitespace()).count();
    let (mut rest, mut count) = (svg, 0);
    while let Some((before, comment)) = rest.split_once("<!--") {
        count += visible(before);
        match comment.split_once("-->") {
            Some((_, after)) => rest = after,
            // An open comment is no comment: it counts as written.
            None => return count + 4 + visible(comment),
        }
    }
    count + visible(rest)
}

reward_options! {
    /// CTRL-S' R_eff: `1 - (max(0, L - L_ref / 2) / L_ref)^2`: full at half the reference's length or
    /// less, 0.75 at equal, 0 at 1.5 times, unbounded below unless clipped.
    CodeEfficiency (clip None) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::Chars,
    }
}

impl CodeEfficiency {
    pub(crate) fn value(length: f64, reference: f64) -> f64 {
        1.0 - ((length - reference / 2.0).max(0.0) / reference).powi(2)
    }
}

reward_options! {
    /// The ratio rule against length collapse (RLRF's reward code): with `q = L / L_ref`, -1 below one
    /// half, else `1 - (q - 1)^2`.
    LengthRatio (clip Some([-1.0, 1.0])) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::Chars,
    }
}

impl LengthRatio {
    pub(crate) fn value(length: f64, reference: f64) -> f64 {
        let ratio = length / reference;
        if ratio < 0.5 {
            -1.0
        } else {
            1.0 - (ratio - 1.0).powi(2)
        }
    }
}

reward_options! {
    /// SGP-RL's length reward: `max(0, min(1, 1 - L / max_length))`, without a reference.
    LengthLinear (clip None) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::NonSpace,
        /// The length, above 0, from which the reward is 0.
        max_length: f64 = 6000.0,
    }
}

impl LengthLinear {
    pub(crate) fn value(&self, length: f64) -> f64 {
        (1.0 - length / self.max_length).clamp(0.0, 1.0)
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.max_length > 0.0 {
            Ok(())
        } else {
            Err(format!("max_length: must be > 0, got {}", self.max_length))
        }
    }
}

reward_options! {
    /// The length itself, of the SVG's code or of a text: a metric that papers report. As a reward give it a
    /// negative weight. Invalid completions are left out of the metric.
    SvgLength (clip None) {
        /// What length counts: `chars`, `tokens` or `non_space`.
        unit: Unit = Unit::Chars,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_efficiency_has_the_papers_values() {
        let got: Vec<f64> = [10.0, 50.0, 100.0, 150.0, 200.0]
            .map(|l| CodeEfficiency::value(l, 100.0))
            .to_vec();
        assert_eq!(got, [1.0, 1.0, 0.75, 0.0, -1.25]);
    }

    #[test]
    fn length_ratio_punishes_collapse() {
        let got: Vec<f64> = [49.0, 50.0, 100.0, 200.0]
            .map(|l| LengthRatio::value(l, 100.0))
            .to_vec();
        assert_eq!(got, [-1.0, 0.75, 1.0, 0.0]);
    }

    #[test]
    fn length_linear_stays_between_zero_and_one() {
        let rule = LengthLinear::default();
        assert_eq!(
            [0.0, 3000.0, 6000.0, 9000.0].map(|l| rule.value(l)),
            [1.0, 0.5, 0.0, 0.0]
        );
    }

    #[test]
    fn units_count_what_they_say() {
        let svg = "<a> <!-- x --> é</a>";
        assert_eq!(Unit::Chars.count(svg, None), 20.0);
        assert_eq!(Unit::NonSpace.count(svg, None), 8.0);
        assert_eq!(Unit::Tokens.count(svg, Some(&|s| s.len())), 21.0);
        assert_eq!(Unit::NonSpace.count("a <!-- b", None), 6.0);
    }
}
