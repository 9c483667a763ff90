//! VectorGym's judge: a vision-language model elsewhere that is shown pictures and says a number. The questions are in words
//! of this project's own; scale, temperature, length and reading of the answer are the released code's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use rewards::{ChatQuestion, ChatServer, ImageSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::TrainError;

/// A judge behind an OpenAI-compatible endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalJudgeConfig {
    /// Address up to the version, as `https://openrouter.ai/api/v1`.
    pub endpoint: String,
    /// The model's name there.
    pub model: String,
    /// Name of the environment variable with the key; absent: none is sent.
    pub api_key_env: Option<String>,
    /// `as_released`: from 1 to 10; `paper`: from 0 to 5. Either is taken to 0..100.
    pub variant: JudgeVariant,
    /// Questions under way at a time, 1 to 256.
    pub connections: usize,
    /// Milliseconds to wait for an answer, >= 1.
    pub timeout_ms: u64,
    /// How often a question that failed is asked again, at most 10.
    pub retries: u32,
}

/// The judge's scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JudgeVariant {
    /// 1 to 10.
    #[default]
    AsReleased,
    /// 0 to 5.
    Paper,
}

impl Default for EvalJudgeConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            model: "openai/gpt-4o".into(),
            api_key_env: None,
            variant: JudgeVariant::default(),
            connections: 16,
            timeout_ms: 180_000,
            retries: 5,
        }
    }
}

impl EvalJudgeConfig {
    /// The first value out of bounds, as `key: rule, got value`.
    ///
    /// # Errors
    /// The sentence.
    pub fn validate(&self) -> Result<(), String> {
        let Self {
            connections,
            timeout_ms,
            retries,
            ..
        } = self;
        if !(1..=256).contains(connections) {
            return Err(format!(
                "connections: must be from 1 to 256, got {connections}"
            ));
        }
        if *timeout_ms == 0 {
            return Err("timeout_ms: must be >= 1, got 0".into());
        }
        match *retries > 10 {
            true => Err(format!("retries: must be <= 10, got {retries}")),
            false => Ok(()),
        }
    }
}

impl JudgeVariant {
    fn bounds(self) -> (f64, f64) {
        match self {
            Self::AsReleased => (1.0, 10.0),
            Self::Paper => (0.0, 5.0),
        }
    }

    /// The number in an answer, 0..100; none where there is none within the scale.
    fn read(self, answer: &str) -> Option<f64> {
        let (low, high) = self.bounds();
        let answer = answer.to_lowercase();
        let named = ["score:", "rated", "rates", "rate"];
        let after = named.iter().filter_map(|word| {
            let rest = answer.split_once(word)?.1.trim_start();
            leading_number(rest)
        });
        let over = format!("/{high}");
        let before = [over.as_str(), " out of "].into_iter().filter_map(|word| {
            let front = answer.split_once(word)?.0;
            let start = front.rfind(|c: char| !c.is_ascii_digit() && c != '.');
            leading_number(&front[start.map_or(0, |at| at + 1)..])
        });
        let first = answer.find(|c: char| c.is_ascii_digit());
        let first = first.and_then(|at| leading_number(&answer[at..]));
        let mut all = after.chain(before).chain(first);
        let found = all.find(|number| (low..=high).contains(number))?;
        Some(found * 100.0 / high)
    }
}

/// Digits, and a point with digits behind it.
fn leading_number(text: &str) -> Option<f64> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
    let whole = digits(text);
    let rest = text[whole..].strip_prefix('.').map_or(0, digits);
    let end = if rest > 0 { whole + 1 + rest } else { whole };
    text[..end].parse().ok()
}

/// What a judge is asked about an item.
#[derive(Debug, Clone)]
pub struct JudgedItem {
    /// The task.
    pub task: String,
    /// The wish, the caption or the reference text.
    pub words: String,
    /// The prediction in words, for captions.
    pub answer: Option<String>,
    /// PNG files: the reference, where it is shown, then the prediction.
    pub pictures: Vec<Arc<[u8]>>,
}

/// Asks about every item, several at a time; answers come in the items' order: 0..100, or why there is none.
///
/// # Errors
/// An address that is none, a key that is not set.
pub fn ask_judge(
    config: &EvalJudgeConfig,
    items: &[JudgedItem],
) -> Result<Vec<Result<f64, String>>, TrainError> {
    let input = |error: String| TrainError::Input(format!("judge.{error}"));
    let key = config.api_key_env.as_ref().map(|name| {
        std::env::var(name).map_err(|error| input(format!("api_key_env: {name}: {error}")))
    });
    let patience = (Duration::from_millis(config.timeout_ms), config.retries);
    let server = ChatServer::new(&config.endpoint, &config.model, key.transpose()?, patience);
    let server = server.map_err(input)?;
    let next = AtomicUsize::new(0);
    let mut all: Vec<Result<f64, String>> = vec![Err("not asked".into()); items.len()];
    std::thread::scope(|scope| {
        let (sender, answers) = channel();
        for _ in 0..config.connections.min(items.len()) {
            let sender = sender.clone();
            let (next, server) = (&next, &server);
            scope.spawn(move || {
                while let Some((at, item)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    items.get(at).map(|item| (at, item))
                } {
                    let _ = sender.send((at, ask(server, config.variant, item)));
                }
            });
        }
        drop(sender);
        for (at, answer) in answers {
            all[at] = answer;
        }
    });
    Ok(all)
}

fn ask(server: &ChatServer, variant: JudgeVariant, item: &JudgedItem) -> Result<f64, String> {
    let pictures = item
        .pictures
        .iter()
        .cloned()
        .map(ImageSource::Png)
        .collect();
    let answer = server.ask(&ChatQuestion {
        text: question(item, variant),
        pictures,
        temperature: 0.0,
        top_p: 1.0,
        max_tokens: 500,
        seed: 0,
    });
    let answer = answer.map_err(|failure| failure.message)?;
    variant.read(&answer).ok_or_else(|| {
        let said: String = answer.chars().take(200).collect();
        format!("the judge's answer holds no number of its scale: {said:?}")
    })
}

/// What a judge is asked, by task.
fn question(item: &JudgedItem, variant: JudgeVariant) -> String {
    let (low, high) = variant.bounds();
    let words = &item.words;
    let what = match (item.task.as_str(), &item.answer) {
        ("sketch", _) => "The first picture is the drawing that a sketch stands for, the second one was made from the sketch. How close is the second to the first in its shapes, their places and its colours?".to_owned(),
        ("edit", _) => format!("A drawing was to be edited: {words}\nThe first picture is the right result, the second one was made. Does the second show the edit, and keep everything else as it is in the first?"),
        (_, Some(answer)) => format!("Two captions of one drawing. The right one: {words}\nThe one to judge: {answer}\nDoes it name the same things, with their shapes, colours and places?"),
        (_, None) => format!("The picture was to show: {words}\nHow well does it show everything that is asked for, and is it clear and well drawn?"),
    };
    format!(
        "{what}\nGive a number from {low} (nothing is right) to {high} (all is right). Answer by `score: NUMBER` on the first line, and say why in a sentence on the second."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_the_released_code_reads_them() {
        let read = |answer| JudgeVariant::AsReleased.read(answer);
        assert_eq!(read("Score: 8\nfine"), Some(80.0));
        assert_eq!(read("score: 7.5"), Some(75.0));
        assert_eq!(read("I give it 6/10."), Some(60.0));
        assert_eq!(read("rated 9"), Some(90.0));
        assert_eq!(read("4 out of 10"), Some(40.0));
        assert_eq!(read("3"), Some(30.0));
        assert_eq!(read("score: 0\nbut 2/10"), Some(20.0));
        assert_eq!(read("I cannot say"), None);
        assert_eq!(read("99"), None);
        assert_eq!(JudgeVariant::Paper.read("score: 0"), Some(0.0));
        assert_eq!(JudgeVariant::Paper.read("score: 4"), Some(80.0));
        assert_eq!(JudgeVariant::Paper.read("score: 8"), None);
    }
}
