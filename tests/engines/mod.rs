//! Sampling by servers elsewhere, against stand-ins that speak vLLM's or SGLang's words. The real ones are met by
//! `make engine-test` (tests/engines/real.py).

mod adapters;
mod ahead;
pub mod crossing;
mod exchange;
mod faults;
mod handshake;
mod model_thread;
mod pictures;
mod recorded;
pub mod stand_in;
pub mod training;
mod weight_group;
pub mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use models::{Decoder, Tokenizer, save_folder};
use rollout::engine::{
    self, AheadOptions, EngineConfig, EngineOptions, PartialCompletions, ServersConfig,
    ServersOptions,
};
use rollout::{Completion, Engine, Request, RolloutError, Sampling, Submission};
use tch::Kind;

use crate::cli::program::scratch;
use crate::support::policy;
use model_thread::logprobs;
use stand_in::StandIn;
use words::Speech;

/// A policy in this process with the folder that its servers were started with.
struct Policy {
    model: Rc<Decoder>,
    tokenizer: Option<Arc<Tokenizer>>,
    folder: PathBuf,
}

/// Multiplies a policy's weights.
fn scale(model: &Decoder, by: f64) {
    tch::no_grad(|| {
        let _ = model
            .params
            .trainable()
            .shallow_clone()
            .multiply_scalar_(by);
    });
}

/// A small policy of random weights in a folder of its own; the learner's are others than the folder's.
fn small(name: &str) -> Policy {
    let tokenizer = policy::tokenizer();
    let load = |seed| {
        // Some rows of the head are no tokens.
        let model = policy::random(seed, 540);
        // An untrained policy is nearly uniform: it would not show what weights are whose.
        scale(&model, 2.0);
        model
    };
    let folder = scratch(name);
    save_folder(&load(1), Kind::Float, &folder).unwrap();
    tokenizer.export(&folder).unwrap();
    Policy {
        model: Rc::new(load(2)),
        tokenizer: Some(tokenizer),
        folder,
    }
}

/// How tests call servers: without patience.
fn quick() -> ServersConfig {
    ServersConfig {
        timeout_s: 20.0,
        deadline_s: 30.0,
        in_flight: 4,
        ..ServersConfig::default()
    }
}

impl Policy {
    fn server(&self, speech: Speech) -> StandIn {
        StandIn::start(speech, &self.folder)
    }

    /// Opens the engine that the first of `servers` speaks for.
    fn open(
        &self,
        servers: &[&StandIn],
        config: ServersConfig,
    ) -> Result<Box<dyn Engine>, RolloutError> {
        let engine = match servers[0].inside.speech {
            Speech::Sglang => EngineConfig::Sglang,
            _ => EngineConfig::Vllm,
        };
        self.open_as(engine, servers, config)
    }

    /// [`Self::open`], to sample ahead of the learner by one step.
    fn open_ahead(&self, server: &StandIn, partial: PartialCompletions) -> Box<dyn Engine> {
        let engine = match server.inside.speech {
            Speech::Sglang => EngineConfig::Sglang,
            _ => EngineConfig::Vllm,
        };
        let mut options = self.options(&[server], quick());
        options.servers.ahead = Some(AheadOptions { steps: 1, partial });
        engine::open(engine, options).unwrap()
    }

    fn open_as(
        &self,
        engine: EngineConfig,
        servers: &[&StandIn],
        config: ServersConfig,
    ) -> Result<Box<dyn Engine>, RolloutError> {
        engine::open(engine, self.options(servers, config))
    }

    fn options(&self, servers: &[&StandIn], config: ServersConfig) -> EngineOptions {
        EngineOptions {
            policy: self.model.clone(),
            images: None,
            tokenizer: self.tokenizer.clone(),
            slots: 0,
            cache_tokens: 0,
            servers: ServersOptions {
                endpoints: servers
                    .iter()
                    .map(|server| server.address.clone())
                    .collect(),
                config,
                ahead: None,
            },
        }
    }

    /// An engine that has been given the learner's weights once.
    fn synced(&self, servers: &[&StandIn], config: ServersConfig) -> Box<dyn Engine> {
        let mut engine = self.open(servers, config).unwrap();
        engine.sync(self.model.as_ref(), 1).unwrap();
        engine
    }

    /// Requests of a few words.
    fn requests(&self, samples: usize) -> Vec<Request> {
        let words = ["a red circle", "two blue squares", "a green star"];
        let request = |(group, words): (usize, &&str)| Request {
            group,
            ids: self.tokenizer.as_ref().unwrap().encode(words).into(),
            images: None,
            samples,
            draw: group as u64 + 10,
            lengths: None,
        };
        words.iter().enumerate().map(request).collect()
    }

    /// Whether every log-probability is the learner's, and every completion there.
    fn check(&self, asked: &[Request], completions: &Completions, temperature: f64) {
        let expected: usize = asked.iter().map(|request| request.samples).sum();
        assert_eq!(completions.len(), expected);
        for ((group, _), completion) in completions {
            let own = logprobs(
                &self.model,
                (&asked[*group].ids, &completion.ids),
                temperature,
            );
            assert_eq!(own.len(), completion.logprobs.len());
            let gaps = own
                .iter()
                .zip(&completion.logprobs)
                .map(|(a, b)| (a - b).abs());
            let most = gaps.fold(0.0, f32::max);
            assert!(most < 1e-4, "{most}");
        }
    }

    /// What the engine in this process makes of it.
    fn here(&self, submission: Submission) -> Completions {
        let mut engine = policy::engine(&self.model, self.tokenizer.as_ref(), 0);
        sample(engine.as_mut(), submission).unwrap()
    }
}

type Completions = BTreeMap<(usize, usize), Completion>;

/// All completions, each of which must come once.
fn sample(engine: &mut dyn Engine, submission: Submission) -> Result<Completions, RolloutError> {
    engine.submit(submission)?;
    let mut completions = Completions::new();
    while let Some(finished) = engine.next()? {
        let before = completions.insert((finished.group, finished.index), finished.completion);
        assert!(before.is_none(), "a completion came twice");
    }
    Ok(completions)
}

fn submission(requests: Vec<Request>, sampling: Sampling) -> Submission {
    Submission {
        requests,
        sampling,
        seed: 5,
    }
}

fn short() -> Sampling {
    Sampling {
        max_new_tokens: 12,
        ..Sampling::default()
    }
}

/// The sentence of an error.
#[track_caller]
fn said<T>(result: Result<T, RolloutError>) -> String {
    match result {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

const SPEECHES: [Speech; 3] = [Speech::Vllm, Speech::VllmProcessed, Speech::Sglang];

#[test]
fn completions_of_servers_have_the_learner_s_log_probabilities_and_are_ended_as_here() {
    let policy = small("engines_alike");
    for speech in SPEECHES {
        let server = policy.server(speech);
        let mut engine = policy.synced(&[&server], quick());
        assert!(engine.stats().servers.unwrap().probe_gap < 1e-4);
        let asked = policy.requests(4);
        let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
        policy.check(&asked, &drawn, 1.0);
        let distinct: std::collections::BTreeSet<&Vec<i64>> =
            drawn.values().map(|it| &it.ids).collect();
        assert!(
            distinct.len() > 9,
            "siblings are drawn with seeds of their own"
        );
        let again = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
        assert_eq!(
            drawn, again,
            "{speech:?}: the same draws, other completions"
        );
        // Greedily, with what ends a completion, as the local engine to the last byte.
        let texts: Vec<String> = drawn.values().filter_map(|it| it.text.clone()).collect();
        let piece: String = texts
            .concat()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(1)
            .collect();
        for include_stop in [false, true] {
            let greedy = Sampling {
                temperature: 0.0,
                stop: vec![piece.clone(), "<|im_end|>".into()],
                include_stop,
                max_new_tokens: 40,
                ..Sampling::default()
            };
            let there = sample(
                engine.as_mut(),
                submission(policy.requests(1), greedy.clone()),
            )
            .unwrap();
            let here = policy.here(submission(policy.requests(1), greedy));
            for (place, own) in &here {
                let theirs = &there[place];
                assert_eq!(
                    (&own.ids, &own.text, own.finish),
                    (&theirs.ids, &theirs.text, theirs.finish)
                );
            }
        }
    }
}

#[test]
fn log_probabilities_are_under_temperature_alone_or_the_submission_is_refused() {
    let policy = small("engines_temperature");
    let warm = Sampling {
        temperature: 0.5,
        ..short()
    };
    let nucleus = Sampling {
        top_p: 0.5,
        ..short()
    };
    let cases = [
        (
            Speech::Vllm,
            Err("--logprobs-mode processed_logprobs"),
            Ok(()),
        ),
        (
            Speech::VllmProcessed,
            Ok(()),
            Err("without --logprobs-mode"),
        ),
        (Speech::Sglang, Ok(()), Ok(())),
    ];
    for (speech, at_half, at_nucleus) in cases {
        let server = policy.server(speech);
        let mut engine = policy.synced(&[&server], quick());
        for (sampling, expected) in [(&warm, at_half), (&nucleus, at_nucleus)] {
            let asked = policy.requests(2);
            let result = sample(engine.as_mut(), submission(asked.clone(), sampling.clone()));
            match expected {
                Ok(()) => policy.check(&asked, &result.unwrap(), sampling.temperature),
                Err(part) => {
                    let said = said(result);
                    assert!(
                        said.contains(part) && said.contains(&server.address),
                        "{said}"
                    );
                }
            }
        }
    }
}

#[test]
fn no_server_has_more_under_way_than_it_may_and_several_share_the_work() {
    let policy = small("engines_in_flight");
    let servers = [policy.server(Speech::Vllm), policy.server(Speech::Vllm)];
    servers
        .iter()
        .for_each(|server| server.slow_down(std::time::Duration::from_millis(30)));
    let config = ServersConfig {
        in_flight: 3,
        ..quick()
    };
    let mut engine = policy.synced(&[&servers[0], &servers[1]], config);
    let asked = policy.requests(8);
    policy.check(
        &asked,
        &sample(engine.as_mut(), submission(asked.clone(), short())).unwrap(),
        1.0,
    );
    for server in &servers {
        assert_eq!(server.most_under_way(), 3);
        assert!(server.bodies().len() > 8, "{}", server.bodies().len());
    }
}

#[test]
fn servers_on_the_learner_s_gpus_sleep_while_it_learns() {
    let policy = small("engines_asleep");
    for (speech, sleep, wake) in [
        (Speech::Vllm, "/sleep?level=1", "/wake_up"),
        (
            Speech::Sglang,
            "/release_memory_occupation",
            "/resume_memory_occupation",
        ),
    ] {
        let server = policy.server(speech);
        let config = ServersConfig {
            sleep: true,
            ..quick()
        };
        let mut engine = policy.synced(&[&server], config);
        sample(engine.as_mut(), submission(policy.requests(1), short())).unwrap();
        let last = |server: &StandIn| server.told().last().unwrap().0.clone();
        assert_eq!(last(&server), sleep);
        engine.sync(policy.model.as_ref(), 2).unwrap();
        let told: Vec<String> = server.told().into_iter().map(|(path, _)| path).collect();
        let at = |name: &str| told.iter().rposition(|path| path == name);
        let update = told
            .iter()
            .rposition(|path| path.contains("update_weight") || path.contains("/update_weights"));
        assert!(at(sleep) < at(wake) && at(wake) < update, "{told:?}");
        sample(engine.as_mut(), submission(policy.requests(1), short())).unwrap();
        assert!(server.inside.asleep.load(Ordering::SeqCst));
        drop(engine);
        assert!(
            !server.inside.asleep.load(Ordering::SeqCst),
            "the next run would find it asleep"
        );
    }
}

#[test]
fn a_vllm_that_a_killed_run_left_asleep_is_woken_at_the_start() {
    let policy = small("engines_left_asleep");
    let server = policy.server(Speech::Vllm);
    server.inside.asleep.store(true, Ordering::SeqCst);
    let mut engine = policy.synced(&[&server], quick());
    let asked = policy.requests(1);
    let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
    policy.check(&asked, &drawn, 1.0);
}
