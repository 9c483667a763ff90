//! Judges elsewhere: a vision-language model that is shown pictures and says a number. Scales, temperatures, lengths and the
//! reading of answers are the released codes'. What was answered is kept, so that nothing is asked, and paid for, twice.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use rewards::{ChatQuestion, ChatServer, ImageSource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::TrainError;
use crate::files::{make_folder, open_log};
use crate::inputs::hex_digest;

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
    /// Of vectorgym: `as_released`: from 1 to 10; `paper`: from 0 to 5; either is taken to 0..100. Of sgp-genbench, whose scale is
    /// 100, 50, 30 and 0: an answer without a score counts 0 by `as_released`, and is left out by `paper`.
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

/// What a judge answers by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgeScale {
    /// VectorGym's: a number within bounds.
    Number(JudgeVariant),
    /// SGP-CompBench's: one of four.
    Steps,
}

/// Scores of SGP-CompBench's scale.
const STEPS: [&str; 4] = ["100", "50", "30", "0"];

impl JudgeVariant {
    /// Its smallest and its largest number.
    pub fn bounds(self) -> (f64, f64) {
        match self {
            Self::AsReleased => (1.0, 10.0),
            Self::Paper => (0.0, 5.0),
        }
    }
}

impl JudgeScale {
    /// Temperature and longest answer with which it is asked.
    fn sampling(self) -> (f64, usize) {
        match self {
            Self::Number(_) => (0.0, 500),
            Self::Steps => (1.0, 2000),
        }
    }

    /// The number in an answer, 0..100; none where there is none within the scale.
    fn read(self, answer: &str) -> Option<f64> {
        match self {
            Self::Number(variant) => number(variant, answer),
            Self::Steps => step(answer),
        }
    }
}

/// The word behind `SCORE:` where it is one of the scale's, else the last number that is.
fn step(answer: &str) -> Option<f64> {
    let named = answer.split_once("SCORE:");
    let named = named.and_then(|(_, rest)| rest.split_whitespace().next());
    let mut numbers = answer.split(|c: char| !c.is_ascii_digit());
    let last = numbers.rfind(|number| STEPS.contains(number));
    let found = named.filter(|word| STEPS.contains(word)).or(last)?;
    found.parse().ok()
}

fn number(variant: JudgeVariant, answer: &str) -> Option<f64> {
    let (low, high) = variant.bounds();
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
    /// The task and the item's id.
    pub item: (String, String),
    /// Which of the item's questions it is.
    pub part: String,
    /// The question.
    pub text: String,
    /// What it is answered by.
    pub scale: JudgeScale,
    /// PNG files, in the order that the question names them.
    pub pictures: Vec<Arc<[u8]>>,
}

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JudgeFailure {
    /// Nobody answered; asked again, somebody may.
    NoAnswer(String),
    /// The answer holds no number of the scale.
    Nonsense(String),
}

impl std::fmt::Display for JudgeFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::NoAnswer(why) | Self::Nonsense(why)) = self;
        f.write_str(why)
    }
}

/// A judge's answers that are kept.
struct AnswerLog {
    known: HashMap<String, f64>,
    file: Option<(File, PathBuf)>,
}

impl AnswerLog {
    /// Those in a result's folder; none are kept without one.
    fn open(folder: Option<&Path>) -> Result<Self, TrainError> {
        let mut own = Self {
            known: HashMap::new(),
            file: None,
        };
        let Some(folder) = folder else {
            return Ok(own);
        };
        make_folder(folder)?;
        let path = folder.join("judged.jsonl");
        for line in std::fs::read_to_string(&path).unwrap_or_default().lines() {
            let row: Value = serde_json::from_str(line).unwrap_or_default();
            if let (Some(key), Some(score)) = (row["key"].as_str(), row["score"].as_f64()) {
                own.known.insert(key.to_owned(), score);
            }
        }
        own.file = Some((open_log(&path)?, path));
        Ok(own)
    }

    fn keep(&mut self, key: &str, item: &JudgedItem, score: f64) -> Result<(), TrainError> {
        let Some((file, path)) = &mut self.file else {
            return Ok(());
        };
        let (task, id) = &item.item;
        let row = json!({"key": key, "task": task, "id": id, "part": item.part, "score": score});
        let line = format!("{row}\n");
        file.write_all(line.as_bytes())
            .map_err(TrainError::io(&*path))
    }
}

/// What tells a question to a judge from others.
fn key(config: &EvalJudgeConfig, item: &JudgedItem) -> String {
    let mut hasher = Sha256::new();
    let scale = format!("{:?}", item.scale);
    let words = [&config.endpoint, &config.model, &item.text, &scale];
    let pictures = item.pictures.iter().map(|picture| &picture[..]);
    for part in words
        .map(|word| word.as_bytes())
        .into_iter()
        .chain(pictures)
    {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hex_digest(hasher)
}

/// Asks about every item, several at a time, what the answers in `folder` do not say yet; answers come in the items' order:
/// 0..100, or why there is none.
///
/// # Errors
/// An address that is none, a key that is not set, answers that cannot be kept.
pub fn ask_judge(
    config: &EvalJudgeConfig,
    items: &[JudgedItem],
    folder: Option<&Path>,
) -> Result<Vec<Result<f64, JudgeFailure>>, TrainError> {
    let input = |error: String| TrainError::Input(format!("judge.{error}"));
    let secret = config.api_key_env.as_ref().map(|name| {
        std::env::var(name).map_err(|error| input(format!("api_key_env: {name}: {error}")))
    });
    let patience = (Duration::from_millis(config.timeout_ms), config.retries);
    let secret = secret.transpose()?;
    let server = ChatServer::new(&config.endpoint, &config.model, secret, patience);
    let server = server.map_err(input)?;
    let mut log = AnswerLog::open(folder)?;
    let keys: Vec<String> = items.iter().map(|item| key(config, item)).collect();
    let unasked = || Err(JudgeFailure::NoAnswer("not asked".into()));
    let known = keys.iter().map(|key| log.known.get(key).copied());
    let mut all: Vec<Result<f64, JudgeFailure>> =
        known.map(|score| score.map_or_else(unasked, Ok)).collect();
    let open: Vec<usize> = (0..items.len()).filter(|&at| all[at].is_err()).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, answers) = channel();
        for _ in 0..config.connections.min(open.len()) {
            let sender = sender.clone();
            let (next, server, open) = (&next, &server, &open);
            scope.spawn(move || {
                while let Some(&at) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender.send((at, ask(server, &items[at]))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (at, answer) in answers {
            if let Ok(score) = answer {
                log.keep(&keys[at], &items[at], score)?;
            }
            all[at] = answer;
        }
        Ok::<(), TrainError>(())
    })?;
    Ok(all)
}

fn ask(server: &ChatServer, item: &JudgedItem) -> Result<f64, JudgeFailure> {
    let pictures = item.pictures.iter().cloned();
    let (temperature, max_tokens) = item.scale.sampling();
    let answer = server.ask(&ChatQuestion {
        text: item.text.clone(),
        pictures: pictures.map(ImageSource::Png).collect(),
        temperature,
        top_p: 1.0,
        max_tokens,
        seed: 0,
    });
    let answer = answer.map_err(|failure| JudgeFailure::NoAnswer(failure.message))?;
    item.scale.read(&answer).ok_or_else(|| {
        let said: String = answer.chars().take(200).collect();
        let why = format!("the judge's answer holds no number of its scale: {said:?}");
        JudgeFailure::Nonsense(why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_where_the_released_code_reads_them() {
        let read = |answer| JudgeScale::Number(JudgeVariant::AsReleased).read(answer);
        assert_eq!(read("Score: 8\nfine"), Some(80.0));
        assert_eq!(read("score: 7.5"), Some(75.0));
        assert_eq!(read("I give it 6/10."), Some(60.0));
        assert_eq!(read("rated 9"), Some(90.0));
        assert_eq!(read("4 out of 10"), Some(40.0));
        assert_eq!(read("3"), Some(30.0));
        assert_eq!(read("score: 0\nbut 2/10"), Some(20.0));
        assert_eq!(read("I cannot say"), None);
        assert_eq!(read("99"), None);
        let paper = |answer| JudgeScale::Number(JudgeVariant::Paper).read(answer);
        assert_eq!(paper("score: 0"), Some(0.0));
        assert_eq!(paper("score: 4"), Some(80.0));
        assert_eq!(paper("score: 8"), None);
    }

    #[test]
    fn one_of_four_scores_is_read_where_the_released_code_reads_it() {
        let read = |answer| JudgeScale::Steps.read(answer);
        assert_eq!(read("REASONING: 2 of 3\nSCORE: 50"), Some(50.0));
        assert_eq!(read("SCORE: 70, or 30"), Some(30.0));
        assert_eq!(read("SCORE: 100."), Some(100.0));
        assert_eq!(read("50 at first, then 30"), Some(30.0));
        assert_eq!(read("SCORE: 0"), Some(0.0));
        assert_eq!(read("70"), None);
        assert_eq!(read("no idea"), None);
    }
}
