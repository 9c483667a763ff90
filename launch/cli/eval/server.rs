//! A server that answers a suite's questions, several at a time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use rewards::{ChatQuestion, ChatServer};
use rollout::Sampling;
use trainer::TrainError;
use trainer::eval::{Answerer, EvalQuestion, ServerConfig, TakeAnswer};

use crate::cli::CliFailure;

/// A model behind an address.
pub struct ServerModel {
    server: ChatServer,
    endpoint: String,
    connections: usize,
    sampling: Sampling,
    seed: u64,
}

/// So many questions that reach nobody, from the first one on, end an evaluation.
const PATIENCE: usize = 20;

impl ServerModel {
    /// The model that `config` names behind `endpoint`.
    pub fn open(
        endpoint: &str,
        config: &ServerConfig,
        (sampling, seed): (Sampling, u64),
    ) -> Result<Self, CliFailure> {
        let key = config.api_key_env.as_ref().map(|name| {
            std::env::var(name)
                .map_err(|error| CliFailure::input(format!("server.api_key_env: {name}: {error}")))
        });
        let patience = (Duration::from_millis(config.timeout_ms), config.retries);
        let server = ChatServer::new(endpoint, &config.model, key.transpose()?, patience);
        Ok(Self {
            server: server.map_err(|error| CliFailure::input(format!("--{error}")))?,
            endpoint: endpoint.to_owned(),
            connections: config.connections,
            sampling,
            seed,
        })
    }

    fn question(&self, question: &EvalQuestion) -> ChatQuestion {
        ChatQuestion {
            text: question.text.clone(),
            pictures: question.picture.clone().into_iter().collect(),
            temperature: self.sampling.temperature,
            top_p: self.sampling.top_p,
            max_tokens: self.sampling.max_new_tokens,
            seed: rollout::mix(self.seed, question.draw) >> 33,
        }
    }
}

impl Answerer for ServerModel {
    fn answer(
        &mut self,
        questions: &[EvalQuestion],
        take: &mut TakeAnswer,
    ) -> Result<(), TrainError> {
        let own = &*self;
        let (next, ended) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let (sender, answers) = channel();
            for _ in 0..own.connections.min(questions.len()) {
                let sender = sender.clone();
                let (next, ended) = (&next, &ended);
                scope.spawn(move || {
                    while !ended.load(Ordering::Relaxed) {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(question) = questions.get(at) else {
                            break;
                        };
                        let answer = own.server.ask(&own.question(question));
                        if sender.send((at, answer)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let (mut reached, mut failed) = (false, 0);
            for (at, answer) in answers {
                let why = match &answer {
                    Err(failure) if !failure.reached => Some(failure.message.clone()),
                    _ => None,
                };
                match why {
                    None => reached = true,
                    Some(_) => failed += 1,
                }
                let none = !reached && failed >= PATIENCE.min(questions.len());
                let taken = match why.filter(|_| none) {
                    Some(why) => Err(TrainError::Other(format!(
                        "--endpoint {}: none of the first {failed} questions was answered: {why}",
                        own.endpoint
                    ))),
                    None => take(at, answer.map_err(|failure| failure.message)),
                };
                if taken.is_err() {
                    ended.store(true, Ordering::Relaxed);
                    return taken;
                }
            }
            Ok(())
        })
    }
}
