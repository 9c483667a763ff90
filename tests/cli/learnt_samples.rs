//! What SFT has learnt from stands in the run folder: the data's own words, and the probabilities of the step's own pass.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::program::{numbers, program, rows, scratch, told, write_rows};
use super::tiny::{config, tiny};

fn files(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("samples/sft")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".jsonl")).collect();
    names.sort();
    names
}

/// The drawings that the data has for each prompt's id: words and target.
fn data(config: &Path) -> BTreeMap<String, (String, String)> {
    let rows = rows(&config.with_file_name("drawings.jsonl")).into_iter();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.map(|row| (text(&row, "id"), (text(&row, "prompt"), text(&row, "svg"))))
        .collect()
}

/// A row's own id in the id of its prompt, which names the source, and how often the step has drawn it.
fn own_id(prompt: &str) -> &str {
    let id = prompt.split('#').next().unwrap_or_default();
    id.rsplit('/').next().unwrap_or_default()
}

/// The loss of the stage's step, and its mean over the tokens of the step's rows.
fn losses(run: &Path, step: u64, learnt: &[Value]) -> [f64; 2] {
    let metrics = rows(&run.join("metrics.jsonl"));
    let is_step = |row: &&Value| row["stage"] == "sft" && row["step"] == step;
    let told = metrics
        .iter()
        .filter(is_step)
        .find_map(|row| row.get("sft/loss")?.as_f64());
    let (mut sum, mut tokens) = (0.0, 0.0);
    for row in learnt {
        let weight = row["weight"].as_f64().unwrap();
        let own = numbers(&row["learner_logprobs"]);
        let mean = -own.iter().sum::<f64>() / own.len() as f64;
        assert!((mean - row["loss"].as_f64().unwrap()).abs() < 1e-6);
        sum -= weight * own.iter().sum::<f64>();
        tokens += weight * own.len() as f64;
    }
    [told.unwrap(), sum / tokens]
}

#[test]
fn rows_are_the_data_and_their_probabilities_are_the_steps_loss() {
    let run = &tiny().run;
    let steps: Vec<u64> = [1].into_iter().chain((10..=60).step_by(10)).collect();
    let names: Vec<String> = steps
        .iter()
        .map(|step| format!("step_{step:06}.jsonl"))
        .collect();
    assert_eq!(files(run), names);
    let data = data(&tiny().config);
    for step in steps {
        let learnt = rows(&run.join(format!("samples/sft/step_{step:06}.jsonl")));
        assert_eq!(learnt.len(), 6);
        for row in &learnt {
            let id = row["prompt_id"].as_str().unwrap();
            let (words, svg) = &data[own_id(id)];
            assert_eq!(
                (&row["reward_prompt"], &row["completion"], &row["task"]),
                (&json!(words), &json!(svg), &json!("draw"))
            );
            assert!(row["prompt"].as_str().unwrap().contains(words));
            let ids = row["token_ids"].as_array().unwrap();
            assert_eq!(ids.len(), row["learner_logprobs"].as_array().unwrap().len());
            assert_eq!(
                (&row["step"], &row["policy_version"], &row["finish_reason"]),
                (&json!(step), &json!(step - 1), &json!("stop"))
            );
            // Nothing was sampled.
            for key in ["total", "advantage", "sampler_logprobs", "valid"] {
                assert!(row.get(key).is_none(), "{key}");
            }
        }
        let [told, mean] = losses(run, step, &learnt);
        assert!(
            (told - mean).abs() <= 1e-5 * told,
            "{step}: {told} and {mean}"
        );
    }
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("\"learnt\":true"), "the report shows them");
}

#[test]
fn probabilities_are_those_of_the_policy_before_the_update() {
    let folder = scratch("learnt_samples");
    let run = folder.join("run");
    let mut command = program();
    command
        .arg("train")
        .arg(config(&folder))
        .arg("--run-dir")
        .arg(&run);
    // Three micro-batches, and answers that are cut off.
    for set in [
        "stages.sft.steps=3",
        "stages.sft.batch={size: 6, micro_tokens: 60}",
        "stages.sft.samples.every=2",
        "stages.sft.checkpoint={every: 1, keep_last: 9}",
        "stages.sft.max_tokens=30",
        "stages.rl.steps=1",
    ] {
        command.args(["--set", set]);
    }
    told(&mut command).fine();
    assert_eq!(files(&run), ["step_000001.jsonl", "step_000002.jsonl"]);
    let learnt = rows(&run.join("samples/sft/step_000002.jsonl"));
    let [said, mean] = losses(&run, 2, &learnt);
    assert!((said - mean).abs() <= 1e-5 * said, "{said} and {mean}");
    let data = data(&folder.join("tiny.yaml"));
    for row in &learnt {
        let id = row["prompt_id"].as_str().unwrap();
        let whole = &data[own_id(id)].1;
        let text = row["completion"].as_str().unwrap();
        assert!(
            text.len() > 20 && text.len() < whole.len() && whole.starts_with(text),
            "{text}"
        );
        assert_eq!(row["finish_reason"], "length");
    }
    let asked: Vec<Value> = learnt
        .iter()
        .map(|row| json!({"id": row["prompt_id"], "prompt": row["prompt"], "completion_token_ids": row["token_ids"]}))
        .collect();
    let [file, out] = ["asked.jsonl", "said.jsonl"].map(|name| folder.join(name));
    write_rows(&folder, "asked.jsonl", &asked);
    let model = run.join("checkpoints/sft/step_000001");
    let mut command = program();
    command.args(["logprobs", "--model"]).arg(&model);
    command.arg("--data").arg(&file).arg("--out").arg(&out);
    told(&mut command).fine();
    for (row, said) in learnt.iter().zip(rows(&out)) {
        let (own, said) = (
            numbers(&row["learner_logprobs"]),
            numbers(&said["logprobs"]),
        );
        assert_eq!(own.len(), said.len());
        for (own, said) in own.iter().zip(&said) {
            assert!((own - said).abs() < 1e-4, "{own} and {said}");
        }
    }
    let none = folder.join("none");
    let mut command = program();
    command
        .arg("train")
        .arg(folder.join("tiny.yaml"))
        .arg("--run-dir")
        .arg(&none);
    command.args([
        "--set",
        "stages.sft.steps=1",
        "--set",
        "stages.sft.samples.every=0",
        "--set",
        "stages.rl.steps=1",
    ]);
    told(&mut command).fine();
    assert!(!none.join("samples/sft/step_000001.jsonl").exists());
}
