//! Whose words a stand-in speaks, what a completion is in them, and how it is spoilt.

use std::time::Duration;

use serde_json::{Value, json};

/// Whose words it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// vLLM's, with raw log-probabilities.
    Vllm,
    /// vLLM's, with those of what is drawn from (`--logprobs-mode processed_logprobs`).
    VllmProcessed,
    /// vLLM's without the worker class of launch/clients.
    VllmPlain,
    /// SGLang's.
    Sglang,
}

/// What becomes of the next completion that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It comes late.
    Slow(Duration),
    /// This status comes in its place.
    Status(u16),
    /// The connection closes in the middle of its body.
    HalfBody,
    /// The connection closes without a word.
    HangUp,
    /// It is of another prompt.
    OtherPrompt,
    /// It has no log-probabilities.
    NoLogprobs,
    /// It has more tokens than were asked for.
    WrongCount,
    /// Two come for one.
    Two,
    /// It was aborted.
    Aborted,
    /// Its first token is this one.
    Token(i64),
    /// It lacks its last token, and ended at a stop string all the same.
    EndsEarly,
}

/// The data URIs of a request.
pub fn pictures(body: &Value) -> Vec<String> {
    let parts = body["content_parts"].as_array().into_iter().flatten();
    let parts = parts.map(|part| part["url"].as_str().unwrap().to_owned());
    let images = body["image_data"].as_array().into_iter().flatten();
    parts
        .chain(images.map(|uri| uri.as_str().unwrap().to_owned()))
        .collect()
}

/// Which weights wrote which tokens, as both say it.
fn versions(done: &Value) -> Value {
    let end = done["ids"].as_array().unwrap().len();
    match &done["spans"] {
        Value::Null => json!([{"version": done["version"], "start": 0, "end": end}]),
        spans => spans.clone(),
    }
}

/// A completion in vLLM's words.
pub fn vllm_answer(done: &Value, body: &Value) -> Value {
    let ids = done["ids"].as_array().unwrap();
    let pairs = ids.iter().zip(done["logprobs"].as_array().unwrap());
    let entry = |(id, logprob): (&Value, &Value)| json!({"token_id": id, "logprob": logprob, "rank": 1, "top_logprobs": []});
    let content: Vec<Value> = pairs.map(entry).collect();
    json!({
        "request_id": format!("generate-tokens-{}", body["request_id"].as_str().unwrap()), "model": body["model"],
        "prompt_token_ids": done["prompt"], "prompt_logprobs": null,
        "choices": [{
            "index": 0, "finish_reason": done["end"], "stop_reason": null, "token_ids": ids,
            "weight_versions": versions(done),
            "logprobs": {"content": content},
        }],
    })
}

/// The same in SGLang's.
pub fn sglang_answer(done: &Value) -> Value {
    let ids = done["ids"].as_array().unwrap();
    let pairs = ids.iter().zip(done["logprobs"].as_array().unwrap());
    let pairs: Vec<Value> = pairs
        .map(|(id, logprob)| json!([logprob, id, null]))
        .collect();
    json!({
        "text": "", "output_ids": ids, "prompt_token_ids": done["prompt"],
        "meta_info": {
            "finish_reason": {"type": done["end"]}, "prompt_tokens": done["prompt"].as_array().unwrap().len(),
            "completion_tokens": ids.len(), "weight_version": done["version"], "output_token_logprobs": pairs,
            "weight_versions": versions(done),
        },
    })
}

/// Does to an answer what `fault` says.
pub fn spoil(answer: &mut Value, fault: Option<Fault>, sglang: bool) {
    match fault {
        Some(Fault::OtherPrompt) => {
            let ids = answer["prompt_token_ids"].as_array_mut().unwrap();
            ids.insert(1, json!(7));
        }
        Some(Fault::NoLogprobs) if sglang => {
            answer["meta_info"]["output_token_logprobs"] = Value::Null
        }
        Some(Fault::NoLogprobs) => answer["choices"][0]["logprobs"] = Value::Null,
        Some(Fault::WrongCount) if sglang => {
            let pairs = answer["meta_info"]["output_token_logprobs"]
                .as_array_mut()
                .unwrap();
            pairs.pop();
        }
        Some(Fault::WrongCount) => {
            let ids = answer["choices"][0]["token_ids"].as_array_mut().unwrap();
            ids.push(json!(1));
        }
        Some(Fault::Two) if sglang => *answer = json!([answer, answer]),
        Some(Fault::Two) => {
            let choice = answer["choices"][0].clone();
            answer["choices"].as_array_mut().unwrap().push(choice);
        }
        Some(Fault::Token(id)) if sglang => {
            answer["output_ids"][0] = json!(id);
            answer["meta_info"]["output_token_logprobs"][0][1] = json!(id);
        }
        Some(Fault::Token(id)) => {
            answer["choices"][0]["token_ids"][0] = json!(id);
            answer["choices"][0]["logprobs"]["content"][0]["token_id"] = json!(id);
        }
        Some(Fault::EndsEarly) if sglang => {
            answer["output_ids"].as_array_mut().unwrap().pop();
            let about = &mut answer["meta_info"];
            let pairs = about["output_token_logprobs"].as_array_mut().unwrap();
            pairs.pop();
            about["completion_tokens"] = json!(pairs.len());
            about["finish_reason"] = json!({"type": "stop"});
        }
        Some(Fault::EndsEarly) => {
            let choice = &mut answer["choices"][0];
            choice["token_ids"].as_array_mut().unwrap().pop();
            choice["logprobs"]["content"].as_array_mut().unwrap().pop();
            choice["finish_reason"] = json!("stop");
        }
        Some(Fault::Aborted) if sglang => {
            answer["meta_info"]["finish_reason"] = json!({"type": "abort"})
        }
        Some(Fault::Aborted) => answer["choices"][0]["finish_reason"] = json!("abort"),
        _ => {}
    }
}
