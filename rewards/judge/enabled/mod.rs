//! Asking: a few threads send questions, no faster than allowed, and wait for answers.

mod answer;
mod count;
#[cfg(test)]
mod tests;

use super::{JudgeCount, JudgeReward};
use crate::error::RewardError;
use crate::http::Caller;
use crate::picture::Picture;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use count::Counter;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One judge and the threads that ask it. They end when it is dropped.
pub(crate) struct Judge {
    questions: Sender<(Value, Sender<f64>)>,
    inner: Arc<Inner>,
}

struct Inner {
    rule: JudgeReward,
    caller: Caller,
    count: Counter,
    /// When the next request may be sent.
    next: Mutex<Instant>,
}

impl Judge {
    /// Starts the threads.
    ///
    /// # Errors
    /// A key's variable that is not set; no threads.
    pub fn start(rule: &JudgeReward) -> Result<Judge, RewardError> {
        let read = |name: &String| {
            let problem = |e| RewardError::Config(format!("api_key_env: {name}: {e}"));
            std::env::var(name).map_err(problem)
        };
        let key = rule.api_key_env.as_ref().map(read).transpose()?;
        let timeout = Duration::from_millis(rule.timeout_ms);
        let inner = Arc::new(Inner {
            caller: Caller::new(&rule.endpoint, key, timeout, rule.retries),
            rule: rule.clone(),
            count: Counter::default(),
            next: Mutex::new(Instant::now()),
        });
        let (questions, receiver) = unbounded::<(Value, Sender<f64>)>();
        for i in 0..rule.connections {
            let (receiver, inner) = (receiver.clone(), inner.clone());
            std::thread::Builder::new()
                .name(format!("judge-{i}"))
                .spawn(move || {
                    for (question, reply) in receiver {
                        // Nobody may be waiting any more.
                        let _ = reply.send(inner.ask(&question));
                    }
                })?;
        }
        Ok(Judge { questions, inner })
    }

    /// Asks about pictures made for a prompt and a text; the value comes, whatever happens.
    pub fn ask(&self, [prompt, text]: [&str; 2], pictures: &[&Picture]) -> Receiver<f64> {
        let (reply, answer) = bounded(1);
        let rule = &self.inner.rule;
        let mut content = vec![json!({"type": "text", "text": fill(&rule.question, prompt, text)})];
        for picture in pictures {
            let url = format!(
                "data:image/png;base64,{}",
                STANDARD.encode(picture.to_png())
            );
            content.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        let question = json!({
            "model": rule.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": rule.max_tokens,
            "temperature": rule.temperature,
        });
        // The threads hold the receiver as long as the judge lives.
        let _ = self.questions.send((question, reply));
        answer
    }

    pub fn count(&self) -> JudgeCount {
        self.inner.count.read(self.inner.rule.price)
    }
}

impl Inner {
    fn ask(&self, question: &Value) -> f64 {
        self.wait_for_turn();
        // A second try is a request like others.
        let again = || {
            self.wait_for_turn();
            true
        };
        let answer = self
            .caller
            .call("/chat/completions", Some(question), &again);
        let answer = answer.unwrap_or_default();
        let used = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
        let words = &answer["choices"][0]["message"]["content"];
        let value = words.as_str().and_then(|words| self.rule.value(words));
        self.count.add(
            value.is_some(),
            [used("prompt_tokens"), used("completion_tokens")],
        );
        value.unwrap_or(self.rule.failure_value)
    }

    /// Requests are spread evenly over the minute.
    fn wait_for_turn(&self) {
        if self.rule.per_minute == 0 {
            return;
        }
        let gap = Duration::from_secs(60) / self.rule.per_minute;
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + gap;
            turn
        };
        std::thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}

/// The question with its placeholders filled in one pass, so that a prompt cannot hold one.
fn fill(question: &str, prompt: &str, text: &str) -> String {
    let mut out = String::new();
    let mut rest = question;
    while let Some(at) = rest.find('{') {
        out += &rest[..at];
        let tail = &rest[at..];
        let (value, length) = if tail.starts_with("{prompt}") {
            (prompt, "{prompt}".len())
        } else if tail.starts_with("{text}") {
            (text, "{text}".len())
        } else {
            ("{", 1)
        };
        out += value;
        rest = &tail[length..];
    }
    out + rest
}
