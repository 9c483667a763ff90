//! How a making of pairs went, for people.

use std::collections::BTreeMap;

use serde_json::Value;

use super::row;

/// What became of prompts and candidates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairCounts {
    /// Prompts that were drawn.
    pub prompts: usize,
    /// Those that gave a pair.
    pub pairs: usize,
    /// The others, by the reason's word.
    pub dropped: BTreeMap<String, usize>,
    /// Completions that were scored or could not be.
    pub candidates: usize,
    /// Those whose form is not the asked one, or that do not render.
    pub invalid: usize,
    /// Prompts of which a judge of all candidates scored some not, or none.
    pub misjudged: usize,
}

impl PairCounts {
    /// Of rows of a journal.
    pub(crate) fn of<'a>(rows: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut counts = Self::default();
        for row in rows {
            counts.prompts += 1;
            match row[row::DROPPED].as_str() {
                None => counts.pairs += 1,
                Some(why) => *counts.dropped.entry(why.to_owned()).or_default() += 1,
            }
            counts.misjudged += usize::from(row[row::JUDGE_FAILURE].is_string());
            let candidates = row[row::CANDIDATES].as_array();
            for candidate in candidates.into_iter().flatten() {
                counts.candidates += 1;
                counts.invalid += usize::from(candidate["valid"] != Value::Bool(true));
            }
        }
        counts
    }
}

impl std::fmt::Display for PairCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            prompts,
            pairs,
            dropped,
            candidates,
            invalid,
            misjudged,
        } = self;
        write!(f, "{pairs} pairs of {prompts} prompts")?;
        let words = |why: &str| match why {
            "tie" => "best and worst score alike".to_owned(),
            "margin" => "differ by less than min_margin".to_owned(),
            "same_text" => "best and worst are the same text".to_owned(),
            "unrenderable" => "no candidate renders".to_owned(),
            "unscored" => "fewer than two candidates were scored".to_owned(),
            "long_prompt" => "the prompt is too long".to_owned(),
            other => other.to_owned(),
        };
        let listed: Vec<String> = dropped
            .iter()
            .map(|(why, count)| format!("{count}: {}", words(why)))
            .collect();
        if !listed.is_empty() {
            write!(f, "; dropped {}", listed.join(", "))?;
        }
        write!(f, "; {invalid} of {candidates} candidates do not render")?;
        match misjudged {
            0 => Ok(()),
            _ => write!(
                f,
                "; of {misjudged} prompts the judge gave some candidates no score (`judge_failure` in their rows)"
            ),
        }
    }
}
