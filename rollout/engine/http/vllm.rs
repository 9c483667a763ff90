//! vLLM (0.30 and later): `/inference/v1/generate` (`--enable-scale-out`) for token ids in and out, and the endpoints of
//! `VLLM_SERVER_DEV_MODE=1` for weights.

use serde_json::{Map, Value, json};

use super::answer::{Ask, ServerAnswer, ServerEnd, UsedPrompt, WrittenBy};
use super::config::WeightUpdate;
use super::dialect::{Dialect, Greeting, Refusal, SharedWeights, Writer, integers};
use super::endpoint::RolloutServer;
use crate::engine::PartialCompletions;

const GENERATE: &str = "/inference/v1/generate";

/// The dialect.
pub(super) struct Vllm;

impl Dialect for Vllm {
    fn name(&self) -> &'static str {
        "vllm"
    }

    fn greet(&self, server: &RolloutServer, model: Option<&str>) -> Result<Greeting, Refusal> {
        server.ask("/health", None)?;
        let listed = server.ask("/v1/models", None)?;
        let card = listed_model(server, &listed, model)?;
        if card["owned_by"] == "sglang" {
            return Err(Refusal::of(
                server,
                "this is an SGLang (rollout.engine: sglang)",
            ));
        }
        let version = server.ask("/version", None)?;
        let mut updates = Vec::new();
        if self.can_transfer(server) {
            updates.push(WeightUpdate::Transfer);
        }
        let developing = server.ask("/is_paused", None).is_ok();
        if developing {
            updates.push(WeightUpdate::Reload);
        }
        updates.push(WeightUpdate::Adapter);
        Ok(Greeting {
            program: format!("vLLM {}", version["version"].as_str().unwrap_or("?")),
            model: card["id"].as_str().unwrap_or_default().to_owned(),
            context: card["max_model_len"].as_u64().map(|most| most as usize),
            vocabulary: None,
            pictures: true,
            updates,
        })
    }

    fn request(&self, ask: &Ask, writer: &Writer) -> (&'static str, Value) {
        let Ask { sampling, .. } = ask;
        let mut how = json!({
            "n": 1, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k,
            "min_p": sampling.min_p, "max_tokens": sampling.max_new_tokens, "seed": ask.seed, "logprobs": 0,
            // What ends a completion is said by the request alone, not by the model's folder there.
            "ignore_eos": true, "stop_token_ids": *ask.stop_ids,
        });
        if !sampling.stop.is_empty() {
            how["stop"] = json!(sampling.stop);
        }
        if !ask.banned.is_empty() {
            let biases = ask.banned.iter().map(|id| (id.to_string(), json!(-100.0)));
            how["logit_bias"] = Value::Object(biases.collect::<Map<_, _>>());
        }
        let (Writer::Base(model) | Writer::Adapter(_, model)) = writer;
        let mut body = json!({
            "request_id": ask.id, "model": model, "token_ids": *ask.ids, "sampling_params": how,
            "return_token_ids": true, "stream": false,
        });
        if !ask.pictures.is_empty() {
            let parts = ask.pictures.iter();
            let parts = parts.map(|uri| json!({"type": "image_url", "url": uri}));
            body["content_parts"] = parts.collect();
        }
        (GENERATE, body)
    }

    fn read(&self, answer: &Value) -> Result<ServerAnswer, String> {
        let choices = answer["choices"].as_array().ok_or("it has no choices")?;
        let [choice] = choices.as_slice() else {
            return Err(format!("{} completions came for one", choices.len()));
        };
        let ids = integers(&choice["token_ids"]).ok_or("it has no token_ids")?;
        let told = choice["logprobs"]["content"].as_array();
        let told = told.ok_or("it has no log-probabilities")?;
        let logprob = |(place, entry): (usize, &Value)| {
            let own = entry["token_id"].as_i64();
            if own.is_some() && own != ids.get(place).copied() {
                return Err(format!(
                    "the log-probability at place {place} is of another token"
                ));
            }
            let value = entry["logprob"].as_f64();
            value
                .map(|value| value as f32)
                .ok_or_else(|| format!("place {place} has no log-probability"))
        };
        let logprobs = told
            .iter()
            .enumerate()
            .map(logprob)
            .collect::<Result<Vec<f32>, _>>()?;
        let end = match choice["finish_reason"].as_str() {
            Some("stop") => ServerEnd::Stop,
            Some("length") => ServerEnd::Length,
            Some("abort") => ServerEnd::Abort,
            other => return Err(format!("finish_reason {other:?} is not known")),
        };
        let prompt = integers(&answer["prompt_token_ids"]).ok_or("it has no prompt_token_ids")?;
        Ok(ServerAnswer {
            ids,
            logprobs,
            end,
            prompt: UsedPrompt::Ids(prompt),
            versions: WrittenBy::read_all(&choice["weight_versions"]),
            adapter: answer["model"].as_str().map(str::to_owned),
        })
    }

    fn update(
        &self,
        server: &RolloutServer,
        weights: &SharedWeights,
        partial: Option<PartialCompletions>,
    ) -> Result<(), Refusal> {
        let version = weights.version.as_str();
        if weights.way == WeightUpdate::Adapter {
            let adapter = json!({"lora_name": version, "lora_path": weights.folder});
            return match server.have_done("/v1/load_lora_adapter", &adapter) {
                // An answer was lost on its way, and this is the second time.
                Err(error) if error.message.contains("already been loaded") => Ok(()),
                told => Ok(told.map(drop)?),
            };
        }
        self.pause(server, partial.unwrap_or_default())?;
        let taken = self.take(server, weights);
        let resumed = self.resume(server);
        taken?;
        resumed
    }

    fn pause(&self, server: &RolloutServer, partial: PartialCompletions) -> Result<(), Refusal> {
        let path = match partial {
            // Whatever is under way there waits, and what it has computed is computed anew.
            PartialCompletions::Keep => "/pause?mode=keep",
            PartialCompletions::Abort => "/pause?mode=abort",
        };
        server.have_done(path, &json!({}))?;
        Ok(())
    }

    fn resume(&self, server: &RolloutServer) -> Result<(), Refusal> {
        server.have_done("/resume", &json!({}))?;
        Ok(())
    }

    fn forget(&self, server: &RolloutServer, adapter: &str) {
        // An adapter that stays is a little memory there.
        let _ = server.ask(
            "/v1/unload_lora_adapter",
            Some(&json!({"lora_name": adapter})),
        );
    }

    fn abort(&self, server: &RolloutServer, ids: &[String]) {
        let ids: Vec<String> = ids
            .iter()
            .map(|id| format!("generate-tokens-{id}"))
            .collect();
        // Best effort: what goes on is thrown away.
        let _ = server.ask(
            "/inference/v1/abort_requests",
            Some(&json!({"request_ids": ids})),
        );
    }

    fn sleep(&self, server: &RolloutServer, asleep: bool) -> Result<(), Refusal> {
        let path = match asleep {
            // Weights go to the host's memory.
            true => "/sleep?level=1",
            false => "/wake_up",
        };
        server.have_done(path, &json!({}))?;
        Ok(())
    }

    fn is_asleep(&self, server: &RolloutServer) -> bool {
        let told = server.ask("/is_sleeping", None);
        told.is_ok_and(|told| told["is_sleeping"] == true)
    }
}

impl Vllm {
    /// Whether the worker class of launch/clients/svgrl_vllm.py is there.
    fn can_transfer(&self, server: &RolloutServer) -> bool {
        let begun = server.have_done("/init_weight_transfer_engine", &json!({"init_info": {}}));
        begun.is_ok()
    }

    fn take(&self, server: &RolloutServer, weights: &SharedWeights) -> Result<(), Refusal> {
        let version = weights.version.as_str();
        if weights.way == WeightUpdate::Reload {
            let reload =
                json!({"method": "reload_weights", "kwargs": {"weights_path": weights.folder}});
            server.have_done("/collective_rpc", &reload)?;
            server.have_done("/update_weight_version", &json!({"new_version": version}))?;
        } else {
            server.have_done("/start_weight_update", &json!({}))?;
            for file in &weights.files {
                let update = json!({"update_info": {"paths": [file]}});
                server.have_done("/update_weights", &update)?;
            }
            server.have_done("/finish_weight_update", &json!({"weight_version": version}))?;
        }
        // What was computed with the old weights must not be found again.
        server.have_done("/reset_prefix_cache", &json!({}))?;
        server.have_done("/reset_encoder_cache", &json!({}))?;
        Ok(())
    }
}

/// The entry of `/v1/models` that is meant.
pub(super) fn listed_model<'a>(
    server: &RolloutServer,
    listed: &'a Value,
    model: Option<&str>,
) -> Result<&'a Value, Refusal> {
    let cards = listed["data"].as_array().map_or(&[][..], Vec::as_slice);
    // Adapters of earlier runs have a parent.
    let cards: Vec<&Value> = cards
        .iter()
        .filter(|card| card["parent"].is_null())
        .collect();
    let names = || {
        cards
            .iter()
            .filter_map(|card| card["id"].as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match model {
        Some(model) => cards
            .iter()
            .find(|card| card["id"] == model)
            .copied()
            .ok_or_else(|| {
                Refusal::of(
                    server,
                    format!(
                        "serves no model `{model}` (rollout.servers.model), but: {}",
                        names()
                    ),
                )
            }),
        None => match cards.as_slice() {
            [only] => Ok(only),
            _ => Err(Refusal::of(
                server,
                format!(
                    "serves {} models ({}); rollout.servers.model says which",
                    cards.len(),
                    names()
                ),
            )),
        },
    }
}
