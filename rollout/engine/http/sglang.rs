//! SGLang (0.5.20 and later): `/generate` with `input_ids`, `/update_weights_from_disk` and its weight group.

use serde_json::{Map, Value, json};

use super::answer::{Ask, ServerAnswer, ServerEnd, UsedPrompt, WrittenBy};
use super::config::WeightUpdate;
use super::dialect::{Dialect, Greeting, Refusal, SharedWeights, Writer, integers};
use super::endpoint::RolloutServer;
use super::vllm::listed_model;
use crate::engine::PartialCompletions;

/// The dialect.
pub(super) struct Sglang;

impl Dialect for Sglang {
    fn name(&self) -> &'static str {
        "sglang"
    }

    fn greet(&self, server: &RolloutServer, model: Option<&str>) -> Result<Greeting, Refusal> {
        server.ask("/health", None)?;
        let listed = server.ask("/v1/models", None)?;
        let card = listed_model(server, &listed, model)?;
        if card["owned_by"] == "vllm" {
            return Err(Refusal::of(server, "this is a vLLM (rollout.engine: vllm)"));
        }
        let about = server.ask("/server_info", None)?;
        Ok(Greeting {
            program: format!("SGLang {}", about["version"].as_str().unwrap_or("?")),
            model: card["id"].as_str().unwrap_or_default().to_owned(),
            context: card["max_model_len"].as_u64().map(|most| most as usize),
            vocabulary: None,
            pictures: true,
            updates: vec![
                WeightUpdate::Disk,
                WeightUpdate::Group,
                WeightUpdate::Adapter,
            ],
        })
    }

    fn request(&self, ask: &Ask, writer: &Writer) -> (&'static str, Value) {
        let Ask { sampling, .. } = ask;
        let top_k = match sampling.top_k {
            0 => -1,
            some => some,
        };
        let mut how = json!({
            "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": top_k, "min_p": sampling.min_p,
            "max_new_tokens": sampling.max_new_tokens, "no_stop_trim": true,
            // Random numbers are a function of it with --enable-deterministic-inference alone.
            "sampling_seed": ask.seed >> 32,
        });
        match ask.stop_ids.is_empty() {
            // It would ignore these too.
            true => how["ignore_eos"] = true.into(),
            false => how["stop_token_ids"] = json!(*ask.stop_ids),
        }
        if !sampling.stop.is_empty() {
            how["stop"] = json!(sampling.stop);
        }
        if !ask.banned.is_empty() {
            let biases = ask.banned.iter().map(|id| (id.to_string(), json!(-100.0)));
            how["logit_bias"] = Value::Object(biases.collect::<Map<_, _>>());
        }
        let mut body = json!({
            "rid": ask.id, "input_ids": *ask.ids, "sampling_params": how, "return_logprob": true,
            "return_prompt_token_ids": true, "stream": false,
        });
        if !ask.pictures.is_empty() {
            body["image_data"] = json!(*ask.pictures);
        }
        if let Writer::Adapter(_, adapter) = writer {
            body["lora_path"] = json!(adapter);
        }
        ("/generate", body)
    }

    fn read(&self, answer: &Value) -> Result<ServerAnswer, String> {
        let about = &answer["meta_info"];
        let pairs = about["output_token_logprobs"].as_array();
        let pairs = pairs.ok_or("it has no output_token_logprobs")?;
        let pair = |(place, pair): (usize, &Value)| {
            let (logprob, id) = (pair[0].as_f64(), pair[1].as_i64());
            let both = id.zip(logprob);
            both.map(|(id, logprob)| (id, logprob as f32))
                .ok_or_else(|| format!("place {place} has no id or no log-probability"))
        };
        let pairs = pairs
            .iter()
            .enumerate()
            .map(pair)
            .collect::<Result<Vec<_>, _>>()?;
        let counted = about["completion_tokens"].as_u64();
        if counted.is_some_and(|counted| counted as usize != pairs.len()) {
            let own = pairs.len();
            return Err(format!(
                "{own} log-probabilities came for {counted:?} completion tokens"
            ));
        }
        let end = match about["finish_reason"]["type"].as_str() {
            Some("stop") => ServerEnd::Stop,
            Some("length") => ServerEnd::Length,
            Some("abort") => ServerEnd::Abort,
            other => return Err(format!("finish_reason {other:?} is not known")),
        };
        let ids = integers(&answer["prompt_token_ids"]).map(UsedPrompt::Ids);
        let count = about["prompt_tokens"].as_u64();
        let count = count.map(|count| UsedPrompt::Count(count as usize));
        let mut versions = WrittenBy::read_all(&about["weight_versions"]);
        versions.extend(WrittenBy::read(&about["weight_version"]));
        let (ids_out, logprobs) = pairs.into_iter().unzip();
        Ok(ServerAnswer {
            ids: ids_out,
            logprobs,
            end,
            prompt: ids
                .or(count)
                .ok_or("it says nothing of the prompt that it used")?,
            versions,
            adapter: None,
        })
    }

    fn update(
        &self,
        server: &RolloutServer,
        weights: &SharedWeights,
        partial: Option<PartialCompletions>,
    ) -> Result<(), Refusal> {
        let version = weights.version.as_str();
        let done = match weights.way {
            WeightUpdate::Adapter => {
                let adapter = json!({"lora_name": version, "lora_path": weights.folder});
                server.have_done("/load_lora_adapter", &adapter)?
            }
            _ => {
                let body = json!({"model_path": weights.folder, "flush_cache": true, "weight_version": version});
                // Where nothing is under way there is nothing to halt.
                partial.map_or(Ok(()), |partial| self.pause(server, partial))?;
                let done = server.have_done("/update_weights_from_disk", &body);
                let resumed = partial.map_or(Ok(()), |_| self.resume(server));
                let done = done?;
                resumed?;
                done
            }
        };
        succeeded(server, &done)
    }

    fn pause(&self, server: &RolloutServer, partial: PartialCompletions) -> Result<(), Refusal> {
        let mode = match partial {
            // What is under way gives its cache back, and what it has computed is computed anew.
            PartialCompletions::Keep => "retract",
            PartialCompletions::Abort => "abort",
        };
        server.have_done("/pause_generation", &json!({"mode": mode}))?;
        Ok(())
    }

    fn resume(&self, server: &RolloutServer) -> Result<(), Refusal> {
        server.have_done("/continue_generation", &json!({}))?;
        Ok(())
    }

    fn forget(&self, server: &RolloutServer, adapter: &str) {
        // An adapter that stays is a little memory there.
        let _ = server.ask("/unload_lora_adapter", Some(&json!({"lora_name": adapter})));
    }

    fn abort(&self, server: &RolloutServer, ids: &[String]) {
        for id in ids {
            // Best effort: what goes on is thrown away.
            let _ = server.ask("/abort_request", Some(&json!({"rid": id})));
        }
    }

    fn sleep(&self, server: &RolloutServer, asleep: bool) -> Result<(), Refusal> {
        let path = match asleep {
            true => "/release_memory_occupation",
            false => "/resume_memory_occupation",
        };
        server.have_done(path, &json!({}))?;
        Ok(())
    }

    fn is_asleep(&self, _: &RolloutServer) -> bool {
        // It does not say, and one that is told to resume while it is awake ends.
        false
    }
}

/// Whether an answer says that what was asked for is done.
///
/// # Errors
/// What it says instead.
pub(super) fn succeeded(server: &RolloutServer, answer: &Value) -> Result<(), Refusal> {
    match answer["success"].as_bool() {
        Some(true) => Ok(()),
        _ => Err(Refusal::of(
            server,
            answer["message"]
                .as_str()
                .unwrap_or("it says nothing of success"),
        )),
    }
}
