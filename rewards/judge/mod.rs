//! A reward that another model gives over an OpenAI-compatible HTTP endpoint: the picture and a
//! question in, a number out by a rule. A judge that fails gives the configured value; it never stops
//! a run. What it costs is counted.

#[cfg(not(feature = "client"))]
mod disabled;
#[cfg(feature = "client")]
mod enabled;
mod rule;

#[cfg(not(feature = "client"))]
pub(crate) use disabled::Judge;
#[cfg(feature = "client")]
pub(crate) use enabled::Judge;
pub use rule::{JsonRule, RegexRule, ScoreRule};

use crate::config::reward_options;

reward_options! {
    /// A score that a vision-language model gives to the picture, asked over an OpenAI-compatible endpoint; a
    /// judge that cannot be asked or understood gives `failure_value`.
    JudgeReward (clip None) {
        /// Address up to the version, such as `http://127.0.0.1:8000/v1`.
        endpoint: String = String::new(),
        /// The model's name there.
        model: String = String::new(),
        /// Name of the environment variable that holds the key; absent: none is sent.
        api_key_env: Option<String> = None,
        /// The question; `{prompt}` and `{text}` (`reference.text`, else the prompt) are replaced.
        question: String = QUESTION.to_owned(),
        /// Whether the reference's picture is sent as well, behind the completion's.
        with_reference: bool = false,
        /// How the answer's words become a number.
        score: ScoreRule = ScoreRule::default(),
        /// The lowest and highest score, mapped to 0 and 1; an answer outside is a failure.
        range: [f64; 2] = [0.0, 10.0],
        /// Tokens the answer may have.
        max_tokens: u32 = 256,
        /// The judge's sampling temperature.
        temperature: f64 = 0.0,
        /// Requests under way at the same time, at least 1.
        connections: usize = 8,
        /// Requests a minute; 0: as many as come.
        per_minute: u32 = 0,
        /// Milliseconds, at least 1, to wait for an answer.
        timeout_ms: u64 = 60_000,
        /// How often a failed request is sent again.
        retries: u32 = 3,
        /// The value of a completion that could not be judged.
        failure_value: f64 = 0.0,
        /// Price of a million tokens, of requests and of answers, for the count of costs.
        price: [f64; 2] = [0.0, 0.0],
    }
}

const QUESTION: &str = "The picture was drawn for the request: {text}\nHow well does it show what was asked for, and how well is it made? Answer with one number from 0 (not at all) to 10 (perfectly).";

impl JudgeReward {
    pub(crate) fn check(&self) -> Result<(), String> {
        crate::remote::check_endpoint(&self.endpoint)?;
        if self.model.is_empty() {
            return Err("model: is needed: the judge's name at the endpoint".into());
        }
        self.score.check().map_err(|e| format!("score.{e}"))?;
        let [low, high] = self.range;
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Err(format!(
                "range: the lower bound must be below the upper, got [{low}, {high}]"
            ));
        }
        let finite = [
            self.failure_value,
            self.temperature,
            self.price[0],
            self.price[1],
        ];
        if finite.iter().any(|value| !value.is_finite()) {
            return Err("failure_value, temperature, price: must be finite".into());
        }
        if self.connections == 0 || self.timeout_ms == 0 {
            return Err("connections, timeout_ms: must be >= 1".into());
        }
        Ok(())
    }
}

/// What judges have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct JudgeCount {
    /// Completions asked about.
    pub asked: u64,
    /// Of them, those that got the failure value.
    pub failed: u64,
    /// Tokens of requests and of answers, as the endpoint counts them.
    pub tokens: [u64; 2],
    /// Their price.
    pub cost: f64,
}

impl std::ops::AddAssign for JudgeCount {
    fn add_assign(&mut self, other: Self) {
        self.asked += other.asked;
        self.failed += other.failed;
        (0..2).for_each(|i| self.tokens[i] += other.tokens[i]);
        self.cost += other.cost;
    }
}
