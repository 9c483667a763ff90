//! The client: a few threads send questions, no faster than allowed, and wait for answers.

use super::count::JudgeCounter;
use super::{JudgeCount, JudgeSetup, Question};
use crate::error::RewardError;
use crate::http::Caller;
use crate::scores::{Scores, Verdict};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One judge and the threads that ask it. They end when it is dropped.
pub(crate) struct JudgeClient {
    questions: Sender<JudgeRequest>,
    shared: Arc<JudgeShared>,
}

/// A request's body, and where the value in its answer goes.
struct JudgeRequest {
    body: Value,
    reply: Sender<Verdict>,
}

/// What its threads share.
struct JudgeShared {
    setup: JudgeSetup,
    caller: Caller,
    count: JudgeCounter,
    /// When the next request may be sent.
    next: Mutex<Instant>,
}

impl JudgeClient {
    /// Starts the threads.
    ///
    /// # Errors
    /// A key's variable that is not set; no threads.
    pub fn start(setup: JudgeSetup) -> Result<JudgeClient, RewardError> {
        let read = |name: &String| {
            let problem = |e| RewardError::Config(format!("api_key_env: {name}: {e}"));
            std::env::var(name).map_err(problem)
        };
        let key = setup.api_key_env.as_ref().map(read).transpose()?;
        let timeout = Duration::from_millis(setup.limits.timeout_ms);
        let connections = setup.limits.connections;
        let shared = Arc::new(JudgeShared {
            caller: Caller::new(&setup.endpoint, key, timeout, setup.limits.retries),
            setup,
            count: JudgeCounter::default(),
            next: Mutex::new(Instant::now()),
        });
        let (questions, receiver) = unbounded::<JudgeRequest>();
        for i in 0..connections {
            let (receiver, shared) = (receiver.clone(), shared.clone());
            std::thread::Builder::new()
                .name(format!("judge-{i}"))
                .spawn(move || {
                    for JudgeRequest { body, reply } in receiver {
                        // Nobody may be waiting any more.
                        let _ = reply.send(shared.ask(&body));
                    }
                })?;
        }
        Ok(JudgeClient { questions, shared })
    }

    /// Asks; the value comes, or why the judge could not be asked or understood.
    pub fn ask(&self, question: &Question) -> Receiver<Verdict> {
        let (reply, answer) = bounded(1);
        let mut content = vec![json!({"type": "text", "text": question.text})];
        for picture in &question.pictures {
            let url = format!(
                "data:image/png;base64,{}",
                STANDARD.encode(picture.to_png())
            );
            content.push(json!({"type": "image_url", "image_url": {"url": url}}));
        }
        let body = json!({
            "model": question.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": question.max_tokens,
            "temperature": question.temperature,
        });
        // The threads hold the receiver as long as the judge lives.
        let _ = self.questions.send(JudgeRequest { body, reply });
        answer
    }

    pub fn count(&self) -> JudgeCount {
        self.shared.count.read(self.shared.setup.price)
    }
}

impl JudgeShared {
    fn ask(&self, body: &Value) -> Verdict {
        self.wait_for_turn();
        // A second try is a request like others.
        let again = || {
            self.wait_for_turn();
            true
        };
        let answer = self.caller.call("/chat/completions", Some(body), &again);
        let count = |judged: bool, answer: &Value| {
            let used = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
            let tokens = [used("prompt_tokens"), used("completion_tokens")];
            self.count.add(judged, tokens);
        };
        let answer = answer.map_err(|error| {
            count(false, &Value::Null);
            Arc::from(error.message)
        })?;
        let words = &answer["choices"][0]["message"]["content"];
        let value = words.as_str().and_then(|words| (self.setup.read)(words));
        count(value.is_some(), &answer);
        value.map(Scores::of).ok_or_else(|| {
            let said = words
                .as_str()
                .map_or_else(|| words.to_string(), str::to_owned);
            let said: String = said.chars().take(200).collect();
            let endpoint = &self.setup.endpoint;
            format!("{endpoint}: the answer holds no score within the range: {said:?}").into()
        })
    }

    /// Requests are spread evenly over the minute.
    fn wait_for_turn(&self) {
        let per_minute = self.setup.limits.per_minute;
        if per_minute == 0 {
            return;
        }
        let gap = Duration::from_secs(60) / per_minute;
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + gap;
            turn
        };
        std::thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}
