//! A row of the journal: the question, every candidate with its score, and the pair, where there is one, as
//! TRL's conversational preferences have it.

use rollout::data::{Draw, conversation_row};
use serde_json::{Map, Value, json};

use super::choose::{NoPair, choose};
use crate::rollout_batch::ScoredGroup;

/// Why a row has no pair.
pub(super) const DROPPED: &str = "dropped";
/// All completions with their scores.
pub(super) const CANDIDATES: &str = "candidates";
/// Why a judge of all candidates gave some no score.
pub(super) const JUDGE_FAILURE: &str = "judge_failure";
/// The task that the question belongs to.
pub(super) const TASK: &str = "task";

/// The row of a prompt that was too long to be sampled.
pub(super) fn long_prompt(draw: &Draw, question: &str) -> Value {
    let mut row = begin(draw, question);
    end(&mut row, Err(NoPair::LongPrompt), &[]);
    Value::Object(row)
}

/// The row of a prompt whose candidates are scored.
pub(super) fn scored(draw: &Draw, question: &str, scored: &ScoredGroup, min_margin: f64) -> Value {
    let completions = &scored.group.completions;
    let choice = choose(completions, &scored.rewards, min_margin);
    let texts: Vec<&str> = completions
        .iter()
        .map(|completion| completion.text.as_deref().unwrap_or_default())
        .collect();
    let mut row = begin(draw, question);
    let pair = choice.map(|choice| (choice, texts[choice.chosen], texts[choice.rejected]));
    let candidates = completions.iter().zip(&scored.rewards).zip(&texts);
    let candidates: Vec<Value> = candidates
        .map(|((completion, reward), text)| {
            json!({
                "text": text,
                "total": reward.total,
                "parts": reward.parts,
                "valid": reward.valid,
                "reason": reward.reason,
                "unscored": reward.unscored,
                "finish_reason": completion.finish,
            })
        })
        .collect();
    end(&mut row, pair, &candidates);
    Value::Object(row)
}

/// The row with why a judge of all candidates left some without a score.
pub(super) fn with_failure(mut row: Value, failure: Option<String>) -> Value {
    if let Some(why) = failure {
        row[JUDGE_FAILURE] = json!(why);
    }
    row
}

fn begin(draw: &Draw, question: &str) -> Map<String, Value> {
    let mut row = conversation_row(&draw.example, question);
    row.insert(TASK.to_owned(), json!(draw.example.task));
    row.insert("draw".to_owned(), json!(draw.draw));
    row
}

fn end(
    row: &mut Map<String, Value>,
    pair: Result<(super::choose::Choice, &str, &str), NoPair>,
    candidates: &[Value],
) {
    let answer = |text: &str| json!([{"role": "assistant", "content": text}]);
    let mut set = |key: &str, value: Value| drop(row.insert(key.to_owned(), value));
    match pair {
        Ok((choice, chosen, rejected)) => {
            set("chosen", answer(chosen));
            set("rejected", answer(rejected));
            set("margin", json!(choice.margin));
            set("chosen_index", json!(choice.chosen));
            set("rejected_index", json!(choice.rejected));
        }
        Err(why) => {
            set("chosen", Value::Null);
            set("rejected", Value::Null);
            set(DROPPED, json!(why.word()));
        }
    }
    set(CANDIDATES, json!(candidates));
}
