//! What the stages' bounds on lengths do to the rows that they train on.

use crate::config::StageConfig;

/// A bound in tokens and how many rows are over it.
pub struct Bound {
    /// Key within the stage.
    pub key: &'static str,
    /// Tokens.
    pub most: usize,
    /// Rows that are over it.
    pub over: usize,
}

/// A stage's bounds against the measured rows.
pub struct StageSurvey {
    /// The stage's.
    pub name: String,
    sources: Vec<String>,
    /// Measured rows to train on whose tokens are known.
    pub rows: usize,
    /// Of prompts; rows over it are passed over.
    pub prompts: Bound,
    /// Of answers, the ending token included.
    pub answers: Bound,
    /// The longest prompt and the longest answer that it works with.
    pub longest: LongestTokens,
    /// Whether the bound on answers is on prompt and answer together, and cuts off what is over it.
    pub cuts: bool,
    /// Whether its rows are pairs, whose longer answer counts.
    pairs: bool,
}

/// The longest parts of the rows that a stage works with, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LongestTokens {
    /// Prompts.
    pub prompt: usize,
    /// Answers, the ending token included.
    pub answer: usize,
}

/// What a row measures, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTokens {
    /// Its prompt.
    pub prompt: usize,
    /// The answer to imitate, without the token that ends it.
    pub answer: Option<usize>,
    /// The answer that a pair rejects, likewise.
    pub rejected: Option<usize>,
}

impl StageSurvey {
    /// Of a stage, before any row was counted.
    pub fn of(stage: &StageConfig) -> Self {
        let bound = |(key, most)| Bound { key, most, over: 0 };
        let bounds = stage.algorithm.options().length_bounds();
        Self {
            name: stage.name().to_owned(),
            sources: stage.common.curriculum.sources.clone(),
            rows: 0,
            prompts: bound(bounds.prompt),
            answers: bound(bounds.answer),
            longest: LongestTokens::default(),
            cuts: bounds.cuts,
            pairs: stage.algorithm.options().needs().pair,
        }
    }

    /// Counts a row of `source`.
    pub fn count(&mut self, source: &str, row: RowTokens) {
        if !self.sources.is_empty() && !self.sources.iter().any(|own| own == source) {
            return;
        }
        self.rows += 1;
        if row.prompt > self.prompts.most {
            self.prompts.over += 1;
            return;
        }
        let before = if self.cuts { row.prompt } else { 0 };
        let answer = match self.pairs {
            true => row.answer.max(row.rejected),
            false => row.answer,
        };
        let over = answer.is_some_and(|answer| before + answer + 1 > self.answers.most);
        let most = self.answers.most.saturating_sub(before);
        let answer = answer.map_or(0, |answer| (answer + 1).min(most));
        self.longest.prompt = self.longest.prompt.max(row.prompt);
        self.longest.answer = self.longest.answer.max(answer);
        self.answers.over += usize::from(over);
    }

    /// One sentence for each bound that rows are over.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let Self { name, rows, .. } = self;
        let Bound { key, most, over } = self.prompts;
        if over > 0 {
            sentences.push(format!(
                "stage {name}: {over} of {rows} prompts are longer than {key} allows ({most} tokens) and are passed over"
            ));
        }
        let Bound { key, most, over } = self.answers;
        if over > 0 {
            sentences.push(match self.cuts {
                true => format!(
                    "stage {name}: {over} of {rows} sequences are longer than {key} ({most} tokens) and are cut off"
                ),
                false => format!(
                    "stage {name}: {over} of {rows} references are longer than {key} ({most} tokens) lets completions be"
                ),
            });
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AlgorithmConfig, DpoConfig, GrpoConfig, SftConfig};

    fn row(prompt: usize, answer: Option<usize>) -> RowTokens {
        RowTokens {
            prompt,
            answer,
            rejected: Some(3),
        }
    }

    #[test]
    fn bounds_are_counted_as_the_stages_apply_them() {
        let sft = AlgorithmConfig::Sft(SftConfig {
            max_tokens: 10,
            ..SftConfig::default()
        });
        let mut sft = StageSurvey::of(&StageConfig::new(sft));
        // Six and three and the end fit; one more is cut off; ten leave no room.
        for (prompt, answer) in [(6, 3), (6, 4), (10, 1)] {
            sft.count("any", row(prompt, Some(answer)));
        }
        assert_eq!((sft.rows, sft.prompts.over, sft.answers.over), (3, 1, 1));
        let dpo = AlgorithmConfig::Dpo(DpoConfig {
            max_tokens: 9,
            ..DpoConfig::default()
        });
        let mut dpo = StageSurvey::of(&StageConfig::new(dpo));
        // The rejected answer is the longer one.
        for (prompt, answer) in [(5, 2), (6, 2), (9, 1)] {
            dpo.count("any", row(prompt, Some(answer)));
        }
        assert_eq!((dpo.rows, dpo.prompts.over, dpo.answers.over), (3, 1, 1));
        let mut grpo = GrpoConfig::default();
        grpo.rollout.max_prompt_tokens = 5;
        grpo.rollout.max_new_tokens = 4;
        let mut stage = StageConfig::new(AlgorithmConfig::Grpo(grpo));
        stage.common.curriculum.sources = vec!["a".into()];
        let mut grpo = StageSurvey::of(&stage);
        grpo.count("b", row(9, Some(9)));
        for (prompt, answer) in [(5, Some(3)), (5, Some(4)), (6, Some(9)), (1, None)] {
            grpo.count("a", row(prompt, answer));
        }
        assert_eq!((grpo.rows, grpo.prompts.over, grpo.answers.over), (4, 1, 1));
        assert_eq!(grpo.sentences().len(), 2);
    }
}
