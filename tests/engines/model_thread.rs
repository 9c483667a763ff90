//! The thread of a stand-in that holds the weights: it samples with the local engine of a policy of its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use models::image::{PromptImages, Rgb8};
use models::{Decoder, LmInput, Tokenizer, load_folder, read_tensors};
use rollout::{FinishReason, Request, Sampling, Submission};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::weight_group;
use super::words::Speech;
use crate::support::policy;

/// What it is asked to do; each is answered once.
pub enum Work {
    /// A completion.
    Complete {
        ids: Vec<i64>,
        how: Value,
        pictures: Vec<String>,
        adapter: Option<String>,
        speech: Speech,
        reply: Sender<Value>,
    },
    /// New weights from files, or a new name for those that are there.
    Take {
        files: Vec<PathBuf>,
        version: Option<String>,
        reply: Sender<Value>,
    },
    /// A place in a process group of the trainer's.
    Join {
        invitation: Value,
        reply: Sender<Value>,
    },
    /// New weights that are broadcast in that group.
    Receive {
        announced: Value,
        reply: Sender<Value>,
    },
    /// A policy with an adapter, from the adapter's folder.
    Adapt {
        name: String,
        folder: PathBuf,
        reply: Sender<Value>,
    },
    /// The weights of the beginning.
    Restart { reply: Sender<Value> },
    /// The version of the weights.
    Version { reply: Sender<Value> },
    /// The sum of each tensor's absolute numbers.
    Weights { reply: Sender<Value> },
}

struct Held {
    model: Rc<Decoder>,
    tokenizer: Option<Arc<Tokenizer>>,
    version: String,
    adapted: HashMap<String, Rc<Decoder>>,
}

/// Serves the policy of `folder` until nobody asks any more.
pub fn serve_model(folder: &Path, asked: &Receiver<Work>) {
    tch::set_num_threads(1);
    let fresh = || Held {
        model: Rc::new(load_folder(folder, Kind::Float, Device::Cpu).unwrap()),
        tokenizer: Tokenizer::read(folder).ok().map(Arc::new),
        version: "default".into(),
        adapted: HashMap::new(),
    };
    let mut held = fresh();
    let mut group = None;
    // Who asked may be gone.
    for work in asked {
        match work {
            Work::Complete {
                ids,
                how,
                pictures,
                adapter,
                speech,
                reply,
            } => {
                let done = held.complete((&ids, &pictures), &how, adapter.as_deref(), speech);
                let _ =
                    reply.send(done.unwrap_or_else(
                        |(status, error)| json!({"error": error, "status": status}),
                    ));
            }
            Work::Take {
                files,
                version,
                reply,
            } => {
                let _ = reply.send(held.take(&files, version));
            }
            Work::Join { invitation, reply } => {
                let joined = weight_group::join(&invitation);
                let said = joined.as_ref().err().map(ToString::to_string);
                group = joined.ok();
                let _ = reply.send(said.map_or(Value::Null, |error| json!({"error": error})));
            }
            Work::Receive { announced, reply } => {
                let told = match &group {
                    None => Err("it is in no group".to_owned()),
                    Some(group) => weight_group::receive(group, &announced, &held.model),
                };
                let version = announced["weight_version"].as_str();
                held.version = version.unwrap_or(&held.version).to_owned();
                let _ =
                    reply.send(told.map_or_else(|error| json!({"error": error}), |()| Value::Null));
            }
            Work::Adapt {
                name,
                folder,
                reply,
            } => {
                let model = load_folder(&folder, Kind::Float, Device::Cpu).unwrap();
                held.adapted.insert(name, Rc::new(model));
                let _ = reply.send(Value::Null);
            }
            Work::Restart { reply } => {
                held = fresh();
                group = None;
                let _ = reply.send(Value::Null);
            }
            Work::Weights { reply } => {
                let params = &held.model.params;
                let sum = |spec| params.view(spec).abs().sum(Kind::Double).double_value(&[]);
                let sums = params
                    .specs()
                    .iter()
                    .map(|spec| (spec.name.clone(), json!(sum(spec))));
                let _ = reply.send(Value::Object(sums.collect()));
            }
            Work::Version { reply } => {
                let _ = reply.send(json!({"version": held.version}));
            }
        }
    }
}

impl Held {
    fn take(&mut self, files: &[PathBuf], version: Option<String>) -> Value {
        for file in files {
            let Ok(tensors) = read_tensors(file) else {
                return json!({"error": format!("{} is not there", file.display())});
            };
            for (name, tensor) in tensors {
                let specs = self.model.params.specs();
                let Some(spec) = specs.iter().find(|spec| spec.name == name) else {
                    return json!({"error": format!("no parameter is called {name}")});
                };
                let mut own = self.model.params.view(spec);
                tch::no_grad(|| own.copy_(&tensor));
            }
        }
        self.version = version.unwrap_or_else(|| self.version.clone());
        Value::Null
    }

    fn complete(
        &self,
        (ids, pictures): (&[i64], &[String]),
        how: &Value,
        adapter: Option<&str>,
        speech: Speech,
    ) -> Result<Value, (u16, String)> {
        let model = match adapter {
            None => &self.model,
            Some(name) => self
                .adapted
                .get(name)
                .ok_or_else(|| (404, format!("no adapter is called {name}")))?,
        };
        let rows = model.config.vocab_size;
        let banned = how["logit_bias"].as_object().into_iter().flatten();
        let banned: Vec<i64> = banned.map(|(id, _)| id.parse().unwrap()).collect();
        if let Some(id) = banned.iter().chain(ids).find(|id| !(0..rows).contains(*id)) {
            return Err((400, format!("Token id {id} is out of vocabulary")));
        }
        let (ids, images) = expanded(model, ids, pictures);
        let number = |names: [&str; 2]| names.iter().find_map(|name| how[*name].as_f64());
        let stop_token_ids: Vec<i64> =
            serde_json::from_value(how["stop_token_ids"].clone()).unwrap_or_default();
        let most = number(["max_tokens", "max_new_tokens"]).unwrap() as usize;
        let sampling = Sampling {
            temperature: number(["temperature", ""]).unwrap(),
            top_p: number(["top_p", ""]).unwrap(),
            top_k: (number(["top_k", ""]).unwrap() as i64).max(0),
            min_p: number(["min_p", ""]).unwrap(),
            max_new_tokens: most,
            stop: serde_json::from_value(how["stop"].clone()).unwrap_or_default(),
            include_stop: false,
            stop_token_ids: stop_token_ids.clone(),
        };
        let seed = how["seed"]
            .as_u64()
            .or_else(|| how["sampling_seed"].as_u64())
            .unwrap();
        let mut engine = policy::engine(model, self.tokenizer.as_ref(), 0);
        let request = Request {
            group: 0,
            ids: ids.clone().into(),
            images,
            samples: 1,
            draw: seed,
            // A request that names no stop id ends at its length alone.
            lengths: stop_token_ids.is_empty().then(|| Arc::from([most])),
        };
        let submitted = engine.submit(Submission {
            requests: vec![request],
            sampling: sampling.clone(),
            seed: 1,
        });
        submitted.map_err(|error| (400, error.to_string()))?;
        let completion = engine.next().unwrap().unwrap().completion;
        // Without filters both are of the same distribution: the real ones suppress nothing of their own.
        let filters = sampling.top_p < 1.0 || sampling.top_k > 0 || sampling.min_p > 0.0;
        let logprobs = match speech {
            Speech::VllmProcessed if filters => completion.drawn_logprobs,
            Speech::Sglang | Speech::VllmProcessed => completion.logprobs,
            // At 0 and 1 they are so as they are.
            _ if [0.0, 1.0].contains(&sampling.temperature) => completion.logprobs,
            _ => logprobs(model, (&ids, &completion.ids), 1.0),
        };
        let end = match completion.finish {
            FinishReason::Stop if completion.ids.len() == most && stop_token_ids.is_empty() => {
                "length"
            }
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        };
        Ok(
            json!({"ids": completion.ids, "logprobs": logprobs, "end": end, "prompt": ids, "version": self.version}),
        )
    }
}

/// The log-probability of each token of `completion` under a temperature.
pub fn logprobs(
    model: &Decoder,
    (prompt, completion): (&[i64], &[i64]),
    temperature: f64,
) -> Vec<f32> {
    let mut input = LmInput::builder();
    input.push(
        &[prompt, &completion[..completion.len() - 1]].concat(),
        None,
    );
    let hidden = tch::no_grad(|| model.hidden(&input.build(Device::Cpu)));
    let rows = hidden.narrow(0, prompt.len() as i64 - 1, completion.len() as i64);
    let all = tch::no_grad(|| (model.logits(&rows) / temperature).log_softmax(-1, Kind::Float));
    let own = all.gather(-1, &Tensor::from_slice(completion).unsqueeze(-1), false);
    Vec::try_from(own.view(-1)).unwrap()
}

/// Prompt ids with every placeholder expanded, and the pictures.
fn expanded(
    model: &Decoder,
    ids: &[i64],
    pictures: &[String],
) -> (Vec<i64>, Option<Arc<PromptImages>>) {
    let Some(vision) = model.vision().filter(|_| !pictures.is_empty()) else {
        return (ids.to_vec(), None);
    };
    let processed: Vec<_> = pictures
        .iter()
        .map(|uri| {
            let (_, bytes) = uri.split_once("base64,").unwrap();
            let rgb = Rgb8::decode(&STANDARD.decode(bytes).unwrap()).unwrap();
            vision.processor.picture(&rgb).unwrap()
        })
        .collect();
    let pad = model.config.vision.as_ref().unwrap().tower.tokens.image;
    let places = ids.iter().filter(|id| **id == pad).count();
    assert_eq!(places, pictures.len(), "one placeholder each");
    let mut left = processed.iter();
    let ids: Vec<i64> = ids
        .iter()
        .flat_map(|id| match *id == pad {
            true => vec![pad; left.next().unwrap().tokens as usize],
            false => vec![*id],
        })
        .collect();
    let images = vision.processor.prompt_images(&ids, processed).unwrap();
    (ids, images)
}
