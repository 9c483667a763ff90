//! An engine of another process is an `impl Engine` and nothing else: the step that learns from it
//! does not know that its completions came over HTTP.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;
use models::{Decoder, Recompute};
use rewards::rules::Chrf;
use rewards::{
    CompletionConfig, Reference, RewardConfig, RewardsConfig, RubricConfig, Scorer, TaskScoring,
};
use rollout::data::{CursorState, Spread};
use rollout::engine::{Capabilities, EngineStats, WeightBlocks};
use rollout::{Completion, Engine, FinishReason, Finished, Prompt, Request, RolloutError};
use rollout::{Sampling, Submission, VersionSpan};
use serde_json::{Value, json};
use tch::{Device, Tensor};
use trainer::config::{AlgorithmOptions, GrpoConfig, RolloutConfig};
use trainer::queue::BatchQueue;
use trainer::{Algorithm, Interrupt, LoadedPrompts, Loader, PromptRequest, ReferencePolicy};
use trainer::{DrawStats, Ranks, StageContext, StepContext, StepEnd, StepSamples, TrainError};

use crate::support::policy;

const WORDS: [&str; 3] = ["a red circle", "two blue squares", "a green star"];

/// The engine's side of the wire.
struct HttpEngine {
    host: String,
    arrived: VecDeque<Finished>,
    stats: EngineStats,
}

impl HttpEngine {
    fn post(&self, path: &str, body: &Value) -> Result<Value, RolloutError> {
        let broken = |error: std::io::Error| RolloutError::Input(error.to_string());
        let mut stream = TcpStream::connect(&self.host).map_err(broken)?;
        write_message(&mut stream, &format!("POST {path} HTTP/1.1"), body).map_err(broken)?;
        Ok(read_message(&mut BufReader::new(stream)).unwrap().1)
    }
}

impl Engine for HttpEngine {
    fn submit(&mut self, submission: Submission) -> Result<(), RolloutError> {
        submission.check(self.capabilities())?;
        let request = |r: &Request| json!([r.group, r.ids.to_vec(), r.samples, r.draw]);
        let requests: Vec<Value> = submission.requests.iter().map(request).collect();
        let body = json!({
            "sampling": submission.sampling, "seed": submission.seed, "requests": requests,
        });
        let answer = self.post("/completions", &body)?;
        assert_eq!(answer["version"], self.stats.policy_version);
        for finished in answer["completions"].as_array().unwrap() {
            self.arrived
                .push_back(finished_of(finished, self.stats.policy_version));
        }
        Ok(())
    }

    fn next_unless(&mut self, stop: &dyn Fn() -> bool) -> Result<Option<Finished>, RolloutError> {
        if stop() {
            return Err(RolloutError::Stopped);
        }
        Ok(self.arrived.pop_front())
    }

    fn sync(&mut self, weights: &dyn WeightBlocks, version: u64) -> Result<(), RolloutError> {
        for index in 0..weights.blocks() {
            let mut block = Vec::new();
            weights.block(index, &mut |name, values| {
                block.push(json!([
                    name,
                    Vec::<f32>::try_from(values.flatten(0, -1)).unwrap()
                ]));
                Ok(())
            })?;
            self.post("/weights", &json!({ "block": block, "version": version }))?;
        }
        self.stats.policy_version = version;
        Ok(())
    }

    fn stats(&self) -> EngineStats {
        self.stats
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pictures: false,
            exact_lengths: false,
            ahead: false,
            shares_weights: false,
        }
    }
}

fn write_message(stream: &mut impl Write, first: &str, body: &Value) -> std::io::Result<()> {
    let body = body.to_string();
    write!(
        stream,
        "{first}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    stream.flush()
}

/// First line and body.
fn read_message(stream: &mut impl BufRead) -> Option<(String, Value)> {
    let mut first = String::new();
    stream.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        match line.trim().split_once(": ") {
            Some(("Content-Length", count)) => length = count.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Some((first, serde_json::from_slice(&body).unwrap()))
}

fn finished_of(value: &Value, version: u64) -> Finished {
    let number = |name: &str| value[name].as_u64().unwrap() as usize;
    let logprobs = |name: &str| serde_json::from_value(value[name].clone()).unwrap();
    Finished {
        group: number("group"),
        index: number("index"),
        completion: Completion {
            ids: serde_json::from_value(value["ids"].clone()).unwrap(),
            logprobs: logprobs("logprobs"),
            drawn_logprobs: logprobs("drawn_logprobs"),
            text: value["text"].as_str().map(String::from),
            finish: serde_json::from_value::<FinishReason>(value["finish"].clone()).unwrap(),
            spans: vec![VersionSpan {
                version,
                end: value["ids"].as_array().unwrap().len(),
            }],
        },
    }
}

/// Another process in all but name: it shares nothing, and begins with weights of its own.
fn serve(listener: &TcpListener) {
    let (model, tokenizer) = (Rc::new(policy::random(99, 0)), policy::tokenizer());
    let mut engine = policy::engine(&model, Some(&tokenizer), 0);
    let mut version = 0;
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        let Some((first, body)) = read_message(&mut BufReader::new(&stream)) else {
            return;
        };
        let answer = if first.starts_with("POST /weights") {
            version = body["version"].as_u64().unwrap();
            take_block(&model, &body["block"]);
            json!({})
        } else {
            let completions = complete(engine.as_mut(), &body);
            json!({ "version": version, "completions": completions })
        };
        write_message(&mut stream, "HTTP/1.1 200 OK", &answer).unwrap();
    }
}

fn take_block(model: &Decoder, block: &Value) {
    for tensor in block.as_array().unwrap() {
        let specs = model.params.specs();
        let spec = specs.iter().find(|spec| tensor[0] == spec.name).unwrap();
        let values: Vec<f32> = serde_json::from_value(tensor[1].clone()).unwrap();
        let mut own = model.params.view(spec);
        let given = Tensor::from_slice(&values).view_as(&own);
        tch::no_grad(|| own.copy_(&given));
    }
}

fn complete(engine: &mut dyn Engine, body: &Value) -> Vec<Value> {
    let request = |value: &Value| Request {
        group: value[0].as_u64().unwrap() as usize,
        ids: serde_json::from_value::<Vec<i64>>(value[1].clone())
            .unwrap()
            .into(),
        images: None,
        samples: value[2].as_u64().unwrap() as usize,
        draw: value[3].as_u64().unwrap(),
        lengths: None,
    };
    engine
        .submit(Submission {
            requests: body["requests"]
                .as_array()
                .unwrap()
                .iter()
                .map(request)
                .collect(),
            sampling: serde_json::from_value::<Sampling>(body["sampling"].clone()).unwrap(),
            seed: body["seed"].as_u64().unwrap(),
        })
        .unwrap();
    let mut out = Vec::new();
    while let Some(finished) = engine.next().unwrap() {
        let completion = finished.completion;
        out.push(json!({
            "group": finished.group, "index": finished.index, "ids": completion.ids,
            "logprobs": completion.logprobs, "drawn_logprobs": completion.drawn_logprobs,
            "text": completion.text, "finish": completion.finish,
        }));
    }
    out
}

/// Prompts of a few words, the same at every step.
struct FewWords {
    draws: u64,
}

impl Loader for FewWords {
    fn prompts(&mut self, request: PromptRequest) -> Result<LoadedPrompts, TrainError> {
        let tokenizer = policy::tokenizer();
        let prompts = (0..request.count).map(|index| Prompt {
            id: index.to_string(),
            task: "words".into(),
            text: Some(WORDS[index].into()),
            asked: WORDS[index].into(),
            ids: tokenizer.encode(WORDS[index]).into(),
            shown: None,
            images: Arc::default(),
            reference: Arc::new(Reference {
                text: Some(WORDS[index].into()),
                ..Reference::default()
            }),
            draw: self.draws + index as u64,
        });
        let prompts = prompts.collect();
        self.draws += request.count as u64;
        Ok(LoadedPrompts {
            prompts,
            targets: Vec::new(),
            weights: Vec::new(),
            rejected: Vec::new(),
            too_long: 0,
            stats: DrawStats::default(),
        })
    }

    fn state(&self) -> CursorState {
        CursorState {
            draws: self.draws,
            streams: IndexMap::new(),
            pending: Vec::new(),
        }
    }

    fn restore(&mut self, state: &CursorState) -> Result<(), TrainError> {
        self.draws = state.draws;
        Ok(())
    }

    fn observe(&mut self, _totals: &[(u64, &[f64])], _end: u64) {}

    fn spreads(&self) -> Vec<Spread> {
        Vec::new()
    }

    fn answer_text(&self, _ids: &[i64]) -> String {
        String::new()
    }
}

fn scorer() -> Scorer {
    let task = TaskScoring {
        completion: CompletionConfig::Text(rewards::PlainText::default()),
        rubric: RubricConfig {
            rewards: vec![RewardConfig::Chrf(Chrf::default())],
            ..RubricConfig::default()
        },
        ..TaskScoring::default()
    };
    let tasks = IndexMap::from([("words".to_owned(), task)]);
    Scorer::new(&RewardsConfig::default(), tasks, None).unwrap()
}

/// Three GRPO steps from the weights `start` with completions of the engine that `open` gives: what each step's
/// metrics say but times, and the weights after them.
fn train(
    start: &Tensor,
    open: impl FnOnce(&Rc<Decoder>) -> Box<dyn Engine>,
) -> (Vec<String>, Vec<f32>) {
    let config = GrpoConfig {
        rollout: RolloutConfig {
            group_size: 4,
            max_new_tokens: 24,
            ..RolloutConfig::default()
        },
        ..GrpoConfig::default()
    };
    let mut common = config.common_defaults();
    common.batch.size = WORDS.len();
    // Other tests draw from libtorch's generator at the same time: a seed alone would not do.
    let model = policy::random(3, 0);
    tch::no_grad(|| model.params.trainable().shallow_clone().copy_(start));
    let mut learner = policy::learner(model, Recompute::None);
    let mut engine = open(&learner.model);
    let scorer = scorer();
    let stage = StageContext {
        common: &common,
        tasks: &IndexMap::new(),
        scorer: &scorer,
        reference: ReferencePolicy::Absent,
        interrupt: &Interrupt::never(),
        ranks: Rc::new(Ranks::single(Device::Cpu)),
        seed: 5,
        steps_before: 0,
    };
    let mut loader = FewWords { draws: 0 };
    let (mut told, mut queue) = (Vec::new(), BatchQueue::default());
    for step in 1..=3 {
        let version = learner.optimizer.updates;
        engine.sync(learner.model.as_ref(), version).unwrap();
        let end = config.step(&mut StepContext {
            stage: &stage,
            learner: &mut learner,
            engine: engine.as_mut(),
            loader: &mut loader,
            queue: &mut queue,
            step,
        });
        let StepEnd::Done { metrics, rows, .. } = end.unwrap() else {
            unreachable!("nobody interrupts it")
        };
        let StepSamples::Sampled(rows) = rows else {
            unreachable!("it samples")
        };
        let timed = |name: &str| {
            ["time/", "perf/", "svg/render_ms"]
                .iter()
                .any(|t| name.starts_with(t))
        };
        let named = metrics.iter().filter(|(name, _)| !timed(name));
        told.extend(named.map(|(name, value)| format!("{step} {name} {value}")));
        told.extend(rows.iter().map(|row| serde_json::to_string(row).unwrap()));
    }
    let weights = learner.model.params.trainable();
    (told, Vec::<f32>::try_from(weights).unwrap())
}

#[test]
fn a_step_cannot_tell_an_engine_behind_http_from_the_one_beside_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || serve(&listener));
    let start = policy::random(3, 0).params.trainable().copy();
    let (here, weights) = train(&start, |model| {
        policy::engine(model, Some(&policy::tokenizer()), 0)
    });
    let (there, same) = train(&start, |_| {
        Box::new(HttpEngine {
            host: host.clone(),
            arrived: VecDeque::new(),
            stats: EngineStats::default(),
        })
    });
    drop(TcpStream::connect(host).unwrap());
    server.join().unwrap();
    assert_eq!(here.len(), there.len());
    let differs = here.iter().zip(&there).find(|(here, there)| here != there);
    assert_eq!(differs, None);
    assert!(weights == same, "the same completions, other weights");
    let before = Vec::<f32>::try_from(start).unwrap();
    assert!(before != weights, "nothing was learnt");
}
