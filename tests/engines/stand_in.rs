//! A server that stands in for vLLM or SGLang: it samples with weights of its own, takes new ones as they do, and
//! misbehaves on demand.

use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::crossing::{Crossing, Middle};
use super::exchange::{Reply, fine, read_request, refused};
use super::model_thread::{Work, serve_model};
use super::words::{Fault, Speech, pictures, sglang_answer, spoil, vllm_answer};

/// What the server keeps.
pub struct Inside {
    pub speech: Speech,
    pub context: usize,
    work: Mutex<Sender<Work>>,
    faults: Mutex<VecDeque<Fault>>,
    /// Paths and bodies of all that was told to it but completions.
    told: Mutex<Vec<(String, Value)>>,
    bodies: Mutex<Vec<Value>>,
    gone: AtomicBool,
    /// Whether it sleeps: completions fail until it is woken.
    pub asleep: AtomicBool,
    pretends: AtomicBool,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
    /// Every completion takes this long besides.
    pace: Mutex<Duration>,
    /// Completions that new weights meet.
    pub crossing: Crossing,
}

/// The server; it ends with this value.
pub struct StandIn {
    pub address: String,
    pub inside: Arc<Inside>,
}

impl StandIn {
    /// A server with the weights of `folder`.
    pub fn start(speech: Speech, folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (work, asked) = channel();
        let folder = folder.to_owned();
        std::thread::spawn(move || serve_model(&folder, &asked));
        let inside = Arc::new(Inside {
            speech,
            context: 512,
            work: Mutex::new(work),
            faults: Mutex::default(),
            told: Mutex::default(),
            bodies: Mutex::default(),
            gone: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            pretends: AtomicBool::new(false),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
            pace: Mutex::default(),
            crossing: Crossing::default(),
        });
        let server = inside.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if server.gone.load(Ordering::SeqCst) {
                    return;
                }
                let server = server.clone();
                std::thread::spawn(move || server.converse(stream.unwrap()));
            }
        });
        Self { address, inside }
    }

    /// The next completions that are asked for meet these.
    pub fn will(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inside.faults.lock().unwrap().extend(faults);
    }

    /// Nothing goes wrong from now on.
    pub fn forget_faults(&self) {
        self.inside.faults.lock().unwrap().clear();
    }

    /// It says from now on that it takes weights, and does not.
    pub fn pretend(&self) {
        self.inside.pretends.store(true, Ordering::SeqCst);
    }

    /// Every completion takes `pace` from now on.
    pub fn slow_down(&self, pace: Duration) {
        *self.inside.pace.lock().unwrap() = pace;
    }

    /// It is started again: with the weights of its folder.
    pub fn restart(&self) {
        self.inside.work(|reply| Work::Restart { reply });
    }

    /// It is gone for good: whatever is asked of it is hung up on.
    pub fn go(&self) {
        self.inside.gone.store(true, Ordering::SeqCst);
    }

    /// The version of its weights.
    pub fn version(&self) -> String {
        self.inside.work(|reply| Work::Version { reply })["version"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// The sum of each tensor's absolute numbers.
    pub fn weights(&self) -> std::collections::BTreeMap<String, f64> {
        serde_json::from_value(self.inside.work(|reply| Work::Weights { reply })).unwrap()
    }

    /// What the folder that weights came from is called after `svgrl-weights-`.
    pub fn told_folder(&self) -> String {
        let version = self.version();
        let tag = version.trim_start_matches("svgrl-");
        tag.rsplit_once("-v").unwrap().0.to_owned()
    }

    /// What was told to it but completions, in order.
    pub fn told(&self) -> Vec<(String, Value)> {
        self.inside.told.lock().unwrap().clone()
    }

    /// The bodies of the completions that it was asked for.
    pub fn bodies(&self) -> Vec<Value> {
        self.inside.bodies.lock().unwrap().clone()
    }

    /// The most completions that were under way at a time.
    pub fn most_under_way(&self) -> usize {
        self.inside.most_under_way.load(Ordering::SeqCst)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.go();
    }
}

impl Inside {
    /// Has the thread with the weights do something.
    fn work(&self, make: impl FnOnce(Sender<Value>) -> Work) -> Value {
        let (reply, answer) = channel();
        self.work.lock().unwrap().send(make(reply)).unwrap();
        answer.recv().unwrap()
    }

    fn converse(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some((path, body)) = read_request(&mut stream) {
            if self.gone.load(Ordering::SeqCst) {
                return;
            }
            let Some(reply) = self.answer(&path, &body) else {
                return;
            };
            let length = reply.body.len();
            let head = format!(
                "HTTP/1.1 {} .\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n",
                reply.status
            );
            let text = match reply.cut {
                true => &reply.body[..length / 2],
                false => &reply.body,
            };
            let sent = stream
                .get_mut()
                .write_all(format!("{head}{text}").as_bytes());
            if sent.is_err() || reply.cut {
                return;
            }
        }
    }

    fn answer(&self, path: &str, body: &Value) -> Option<Reply> {
        let completion = match self.speech {
            Speech::Sglang => "/generate",
            _ => "/inference/v1/generate",
        };
        if path == completion {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_under_way.fetch_max(now, Ordering::SeqCst);
            let reply = self.complete(body);
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            return reply;
        }
        if ![
            "/health",
            "/v1/models",
            "/version",
            "/is_paused",
            "/is_sleeping",
            "/server_info",
        ]
        .contains(&path)
        {
            self.told
                .lock()
                .unwrap()
                .push((path.to_owned(), body.clone()));
        }
        self.crossing.told(path, body);
        let reply = match self.speech {
            Speech::Sglang => self.sglang(path, body),
            _ => self.vllm(path, body),
        };
        self.crossing.done(path);
        Some(reply)
    }

    fn listed(&self, owner: &str) -> Value {
        json!({"object": "list", "data": [{"id": "policy", "owned_by": owner, "parent": null, "max_model_len": self.context}]})
    }

    fn vllm(&self, path: &str, body: &Value) -> Reply {
        let done = json!({"message": "done"});
        let plain = self.speech == Speech::VllmPlain;
        match path {
            "/health" => Reply {
                status: 200,
                body: String::new(),
                cut: false,
            },
            "/v1/models" => fine(&self.listed("vllm")),
            "/version" => fine(&json!({"version": "0.32.0"})),
            "/is_paused" => fine(&json!({"is_paused": false})),
            "/init_weight_transfer_engine" if plain => {
                refused(500, "Weight transfer not configured.")
            }
            "/start_weight_update" | "/update_weights" if plain => {
                refused(500, "Weight transfer not configured.")
            }
            "/update_weights" => {
                let files: Vec<PathBuf> =
                    serde_json::from_value(body["update_info"]["paths"].clone()).unwrap();
                self.take(files, None)
            }
            "/collective_rpc" => {
                let folder = body["kwargs"]["weights_path"].as_str().unwrap();
                self.take(safetensors(Path::new(folder)), None)
            }
            "/finish_weight_update" => self.take(Vec::new(), body["weight_version"].as_str()),
            "/update_weight_version" => self.take(Vec::new(), body["new_version"].as_str()),
            "/v1/load_lora_adapter" => self.adapt(body),
            "/pause?mode=keep"
            | "/pause?mode=abort"
            | "/resume"
            | "/init_weight_transfer_engine"
            | "/start_weight_update" => fine(&done),
            "/is_sleeping" => fine(&json!({"is_sleeping": self.asleep.load(Ordering::SeqCst)})),
            "/sleep?level=1" | "/wake_up" => {
                self.asleep.store(path != "/wake_up", Ordering::SeqCst);
                fine(&done)
            }
            "/reset_prefix_cache" | "/reset_encoder_cache" => fine(&done),
            "/v1/unload_lora_adapter" | "/inference/v1/abort_requests" => fine(&done),
            _ => refused(404, "Not Found"),
        }
    }

    fn sglang(&self, path: &str, body: &Value) -> Reply {
        match path {
            "/health" => Reply {
                status: 200,
                body: String::new(),
                cut: false,
            },
            "/v1/models" => fine(&self.listed("sglang")),
            "/server_info" => fine(&json!({"version": "0.5.23", "tp_size": 1})),
            "/update_weights_from_disk" => {
                let folder = Path::new(body["model_path"].as_str().unwrap());
                self.take(safetensors(folder), body["weight_version"].as_str())
            }
            "/load_lora_adapter" => self.adapt(body),
            "/init_weights_update_group" => self.in_group(|reply| Work::Join {
                invitation: body.clone(),
                reply,
            }),
            "/update_weights_from_distributed" => self.in_group(|reply| Work::Receive {
                announced: body.clone(),
                reply,
            }),
            "/begin_weight_update" | "/end_weight_update" => fine(&json!({"success": true})),
            "/pause_generation" | "/continue_generation" => Reply {
                status: 200,
                body: String::new(),
                cut: false,
            },
            "/unload_lora_adapter" | "/abort_request" => fine(&json!({"success": true})),
            "/release_memory_occupation" | "/resume_memory_occupation" => {
                let asleep = path == "/release_memory_occupation";
                let before = self.asleep.swap(asleep, Ordering::SeqCst);
                // One that is awake ends when it is told to wake.
                self.gone.fetch_or(!asleep && !before, Ordering::SeqCst);
                Reply {
                    status: 200,
                    body: String::new(),
                    cut: false,
                }
            }
            _ => refused(404, "Not Found"),
        }
    }

    fn take(&self, files: Vec<PathBuf>, version: Option<&str>) -> Reply {
        let version = version.map(str::to_owned);
        let files = match self.pretends.load(Ordering::SeqCst) {
            true => Vec::new(),
            false => files,
        };
        let done = self.work(|reply| Work::Take {
            files,
            version,
            reply,
        });
        match done["error"].as_str() {
            Some(error) => refused(400, error),
            None => fine(&json!({"success": true, "message": "taken"})),
        }
    }

    /// Something of its weight group.
    fn in_group(&self, work: impl FnOnce(Sender<Value>) -> Work) -> Reply {
        let done = self.work(work);
        match done["error"].as_str() {
            Some(error) => fine(&json!({"success": false, "message": error})),
            None => fine(&json!({"success": true, "message": "done"})),
        }
    }

    fn adapt(&self, body: &Value) -> Reply {
        let name = body["lora_name"].as_str().unwrap().to_owned();
        let folder = PathBuf::from(body["lora_path"].as_str().unwrap());
        self.work(|reply| Work::Adapt {
            name,
            folder,
            reply,
        });
        fine(&json!({"success": true}))
    }

    /// A completion, or what is to come in its place; `None` hangs up.
    fn complete(&self, body: &Value) -> Option<Reply> {
        if self.asleep.load(Ordering::SeqCst) {
            return Some(refused(500, "asleep"));
        }
        self.bodies.lock().unwrap().push(body.clone());
        let fault = self.faults.lock().unwrap().pop_front();
        let pace = *self.pace.lock().unwrap();
        std::thread::sleep(pace);
        match fault {
            Some(Fault::Slow(time)) => std::thread::sleep(time),
            Some(Fault::Status(status)) => return Some(refused(status, "not now")),
            Some(Fault::HangUp) => return None,
            _ => {}
        }
        let sglang = self.speech == Speech::Sglang;
        let name = body[if sglang { "rid" } else { "request_id" }].as_str();
        let done = match self.crossing.asked(name.unwrap_or_default()) {
            true => self.in_halves(body),
            false => self.part(body, (&[], None)),
        };
        if let Some(error) = done["error"].as_str() {
            return Some(refused(done["status"].as_u64().unwrap() as u16, error));
        }
        let mut answer = match sglang {
            true => sglang_answer(&done),
            false => vllm_answer(&done, body),
        };
        spoil(&mut answer, fault, sglang);
        Some(Reply {
            cut: fault == Some(Fault::HalfBody),
            ..fine(&answer)
        })
    }
}

impl Inside {
    /// A completion, or the rest of one that has `begun`, of so many tokens at most.
    fn part(&self, body: &Value, (begun, most): (&[Value], Option<u64>)) -> Value {
        let sglang = self.speech == Speech::Sglang;
        let ids = &body[if sglang { "input_ids" } else { "token_ids" }];
        let mut ids: Vec<i64> = serde_json::from_value(ids.clone()).unwrap();
        ids.extend(begun.iter().map(|id| id.as_i64().unwrap()));
        let mut how = body["sampling_params"].clone();
        if let Some(most) = most {
            how[if sglang {
                "max_new_tokens"
            } else {
                "max_tokens"
            }] = most.into();
        }
        let name = match sglang {
            true => body["lora_path"].as_str(),
            false => body["model"].as_str().filter(|name| *name != "policy"),
        };
        self.work(|reply| Work::Complete {
            ids,
            how,
            pictures: pictures(body),
            adapter: name.map(str::to_owned),
            speech: self.speech,
            reply,
        })
    }

    /// A completion that waits for new weights after its third token.
    fn in_halves(&self, body: &Value) -> Value {
        const HALF: u64 = 3;
        let how = &body["sampling_params"];
        let most = how["max_tokens"].as_u64();
        let most = most.or(how["max_new_tokens"].as_u64()).unwrap();
        let mut first = self.part(body, (&[], Some(HALF)));
        if first["end"] != "length" {
            return first;
        }
        if self.crossing.middle() == Middle::Dropped {
            first["end"] = "abort".into();
            return first;
        }
        let begun = first["ids"].as_array().unwrap().clone();
        let mut rest = self.part(body, (&begun, Some(most - HALF)));
        for key in ["ids", "logprobs"] {
            let own = rest[key].as_array().unwrap();
            let whole = [first[key].as_array().unwrap(), &own[..]].concat();
            rest[key] = whole.into();
        }
        let end = rest["ids"].as_array().unwrap().len();
        rest["prompt"] = first["prompt"].take();
        rest["spans"] = json!([
            {"version": first["version"], "start": 0, "end": HALF},
            {"version": rest["version"], "start": HALF, "end": end},
        ]);
        rest
    }
}

/// The weight files of a folder, in order.
fn safetensors(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|end| end == "safetensors"))
        .collect();
    files.sort();
    files
}
