//! A reward that a vision-language model gives over an OpenAI-compatible endpoint: the picture and a question in, a
//! number out by a rule. What it could not judge is unscorable, unless a value is set for that.

use crate::endpoint::check_endpoint;
use crate::judge::{JudgeLimits, JudgeSetup, Question, ScoreRule};
use crate::options::reward_options;
use crate::picture::Picture;
use crate::rules::rule::{
    OfInvalid, ReferencePictures, Reported, RewardFn, RewardNeeds, ScoreContext, Subject, Tools,
};
use crate::rules::value::{Awaited, Value};
use std::sync::Arc;

reward_options! {
    /// A score that a vision-language model gives to the picture, asked over an OpenAI-compatible endpoint; what it
    /// cannot be asked about, or is not understood about, is unscorable (`rubric.unscored`).
    Judge (clip None) {
        /// Address up to the version, such as `http://127.0.0.1:8000/v1`.
        endpoint: String = String::new(),
        /// The model's name there.
        model: String = String::new(),
        /// Name of the environment variable that holds the key; absent: none is sent.
        api_key_env: Option<String> = None,
        /// The question; `{prompt}` (the row's own prompt), `{text}` (`reference.text`, else the prompt) and `{svg}` (the
        /// SVG's source) are replaced.
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
        /// The value of a completion that could not be judged; absent: as `rubric.unscored` says.
        failure_value: Option<f64> = None,
        /// Price of a million tokens, of requests and of answers, for the count of costs.
        price: [f64; 2] = [0.0, 0.0],
    }
}

const QUESTION: &str = "The picture was drawn for the request: {text}\nHow well does it show what was asked for, and how well is it made? Answer with one number from 0 (not at all) to 10 (perfectly).";

impl RewardFn for Judge {
    /// The reference's picture, where it is sent.
    type Kept = Option<Arc<Picture>>;
    const INVALID: OfInvalid = OfInvalid::FailureValue;
    const REPORTED: &'static [Reported] = &[];

    fn needs(&self) -> RewardNeeds<'_> {
        RewardNeeds {
            reference_picture: self.with_reference,
            ..RewardNeeds::nothing_but(Subject::Svg)
        }
    }

    fn check(&self) -> Result<(), String> {
        check_endpoint(&self.endpoint)?;
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
            self.failure_value.unwrap_or(0.0),
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

    fn judge(&self) -> Option<JudgeSetup> {
        let rule = self.clone();
        Some(JudgeSetup {
            endpoint: self.endpoint.clone(),
            api_key_env: self.api_key_env.clone(),
            limits: JudgeLimits {
                connections: self.connections,
                per_minute: self.per_minute,
                timeout_ms: self.timeout_ms,
                retries: self.retries,
            },
            price: self.price,
            read: Box::new(move |answer| rule.value(answer)),
        })
    }

    fn prepare(&self, reference: &ReferencePictures, _: &Tools) -> Option<Arc<Picture>> {
        self.with_reference.then(|| reference.picture().clone())
    }

    fn score(&self, cx: &ScoreContext, kept: &Option<Arc<Picture>>) -> Value {
        let judge = cx.tools.judge.expect("one was started for this reward");
        let own = &cx.pictures().drawn.picture;
        let question = Question {
            model: &self.model,
            text: fill(&self.question, [cx.prompt(), cx.wish(), cx.text()]),
            pictures: std::iter::once(own)
                .chain(kept)
                .map(|picture| &**picture)
                .collect(),
            max_tokens: self.max_tokens,
            temperature: self.temperature,
        };
        Value::Awaited(Awaited::Asked {
            answer: judge.ask(&question),
            failure_value: self.failure_value,
        })
    }
}

impl Judge {
    /// The number in an answer, on a scale of 0 to 1; none when there is none within the range.
    fn value(&self, answer: &str) -> Option<f64> {
        let [low, high] = self.range;
        let score = self.score.number(answer)?;
        (low..=high)
            .contains(&score)
            .then(|| (score - low) / (high - low))
    }
}

/// The question with its placeholders filled in one pass, so that a prompt cannot hold one.
fn fill(question: &str, [prompt, text, svg]: [&str; 3]) -> String {
    let values = [("{prompt}", prompt), ("{text}", text), ("{svg}", svg)];
    let mut out = String::new();
    let mut rest = question;
    while let Some(at) = rest.find('{') {
        out += &rest[..at];
        let tail = &rest[at..];
        let known = values.iter().find(|(name, _)| tail.starts_with(name));
        let (name, value) = known.copied().unwrap_or(("{", "{"));
        out += value;
        rest = &tail[name.len()..];
    }
    out + rest
}

#[cfg(all(test, feature = "client"))]
mod tests;
