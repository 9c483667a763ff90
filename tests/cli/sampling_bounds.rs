//! What bounds and ends the completions of a step, and rewards that need no drawing to compare with.

use models::Tokenizer;
use serde_json::json;

use super::program::{program, rows, scratch, svgrl, told, write, write_rows};
use super::tiny::{self, TOKENIZER};
use crate::support;

#[test]
fn completions_are_as_long_as_the_longest_reference_and_some_more() {
    let config = tiny::config(&scratch("longest_reference"));
    let run = config.with_file_name("run");
    let mut train = program();
    train.arg("train").arg(&config).arg("--run-dir").arg(&run);
    for set in [
        "stages.sft.steps=1",
        "stages.rl.rollout.max_new_tokens=1000",
        "stages.rl.rollout.longest_reference_plus=3",
        "stages.rl.batch.size=1",
        "stages.rl.steps=5",
        "stages.rl.eval.prompts=0",
    ] {
        train.args(["--set", set]);
    }
    told(&mut train).fine();
    let tokenizer = Tokenizer::read(std::path::Path::new(TOKENIZER)).unwrap();
    let mut bounds = Vec::new();
    for row in rows(&run.join("metrics.jsonl")) {
        let Some(limit) = row.get("completion/tokens/limit") else {
            continue;
        };
        let (step, limit) = (
            row["step"].as_u64().unwrap(),
            limit.as_f64().unwrap() as usize,
        );
        let samples = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")));
        let tokens = |row: &serde_json::Value| {
            let svg = row["reference"]["svg"].as_str().unwrap();
            // The token that ends it counts.
            tokenizer.encode(svg).len() + 1
        };
        let longest = samples.iter().map(tokens).max().unwrap();
        assert_eq!(limit, longest + 3);
        for row in &samples {
            let own = row["token_ids"].as_array().unwrap().len();
            assert!(own <= limit, "{own} > {limit}");
            assert_eq!(
                row["finish_reason"] == "length",
                own == limit && !ends(&tokenizer, row)
            );
        }
        bounds.push(limit);
    }
    assert_eq!(bounds.len(), 5);
    bounds.dedup();
    assert!(
        bounds.len() > 1,
        "references of several lengths: {bounds:?}"
    );
}

fn ends(tokenizer: &Tokenizer, row: &serde_json::Value) -> bool {
    let last = row["token_ids"].as_array().unwrap().last().unwrap();
    tokenizer.eos().contains(&last.as_i64().unwrap())
}

/// SGP-RL's way: a raw prompt that goes on inside the thoughts, the stop string kept in what is scored, captions
/// without drawings, one of the published layout and one of a user's own.
#[test]
fn captions_alone_are_learnt_from_inside_the_thoughts() {
    let folder = scratch("captions_alone");
    write_rows(
        &folder,
        "captions.jsonl",
        &[
            json!({"id": 1, "description": "a red circle"}),
            json!({"id": 2, "description": "a blue square"}),
        ],
    );
    write_rows(
        &folder,
        "own.jsonl",
        &[json!({"id": "c", "prompt": "a green dot"})],
    );
    let clip = support::fixture("parity/encoders/clip");
    let text = format!(
        "name: sgp\ndevice: cpu\nthreads: 1\n\
         model:\n  tokenizer: {TOKENIZER}\n  init: {{architecture: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 8}}\n\
         data: {{sources: {{captions: {{format: sgp, path: captions.jsonl}}, own: {{format: jsonl, path: own.jsonl}}}}}}\n\
         encoders: {{clip: {{path: {clip:?}}}}}\n\
         tasks:\n  draw:\n    type: text_to_svg\n    chat: never\n    prefill: \" <think>\"\n    completion: {{format: sgp}}\n    render: {{size: 32, mode: recover}}\n    rubric: {{gate: product, truncated: 0, rewards: [{{type: image_text, encoder: clip, scale: rescaled}}]}}\n\
         stages:\n  - algorithm: grpo\n    name: rl\n    steps: 2\n    batch: {{size: 3}}\n    advantage: {{zero_spread: keep}}\n    rollout: {{group_size: 4, max_new_tokens: 60, stop: [\"1\", \"</answer>\"], include_stop: true}}\n"
    );
    let config = write(&folder, "sgp.yaml", &text);
    svgrl("check", &[&config]).fine();
    let run = folder.join("run");
    let mut train = program();
    train.arg("train").arg(&config).arg("--run-dir").arg(&run);
    told(&mut train).fine();
    let samples = rows(&run.join("samples/rl/step_000001.jsonl"));
    assert_eq!(samples.len(), 12);
    let mut stopped = 0;
    for row in &samples {
        let (prompt, completion) = (
            row["prompt"].as_str().unwrap(),
            row["completion"].as_str().unwrap(),
        );
        assert!(
            prompt.starts_with("A user talks") && prompt.ends_with("Assistant: <think>"),
            "{prompt}"
        );
        assert!(row["reference"]["svg"].is_null());
        if row["finish_reason"] == "stop" && completion.contains('1') {
            assert!(completion.ends_with('1'), "{completion}");
            stopped += 1;
        }
    }
    assert!(stopped > 0, "no completion met its stop string");
    // What compares with a drawing says that there is none.
    let mut lacking = program();
    lacking
        .arg("check")
        .arg(&config)
        .args(["--set", "tasks.draw.rubric.rewards=[{type: mse}]"]);
    told(&mut lacking).refused(2, &["captions.jsonl:1: ", "reference"]);
    // The scored text keeps the string that ended it.
    let whole = "so</think> <answer><svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><rect width='9' height='9'/></svg></answer>";
    let cut = whole.replace("</answer>", "");
    let data = write_rows(
        &folder,
        "completions.jsonl",
        &[
            json!({"id": 0, "prompt": "a dot", "completion": whole, "reference": {"text": "a dot"}}),
            json!({"id": 1, "prompt": "a dot", "completion": cut, "reference": {"text": "a dot"}}),
        ],
    );
    let out = folder.join("scores.jsonl");
    let mut reward = program();
    reward
        .arg("reward")
        .arg("--config")
        .arg(&config)
        .arg("--data")
        .arg(&data);
    told(reward.arg("--out").arg(&out)).fine();
    let scores = rows(&out);
    assert_eq!(scores[0]["valid"], true, "{scores:?}");
    assert_eq!(scores[1]["reason"], "answer_not_closed");
}
