//! Rewards given by words: ROUGE-L of captions, and judges elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::program::{program, rows, scratch, told, write, write_rows};
use super::tiny::{self, TOKENIZER, drawing};
use crate::support::chat_server::chat_server;

const CONFIG: &str = "\
model: {tokenizer: TOKENIZER, init: {}}
data: {sources: {shapes: {format: shapes, task: draw}}}
tasks:
  draw:
    render: {size: 16}
    rubric: {failure_value: -1, rewards: [REWARD]}
  caption:
    completion: {format: text}
    rubric: {failure_value: -1, rewards: [{type: rouge_l}]}
stages: [{algorithm: grpo}]
";

/// The address of a judge that gives 8 to pictures of `red` and speaks nonsense otherwise; it counts what it
/// is asked.
pub fn judge(red: &'static str, asked: Arc<AtomicU64>) -> String {
    chat_server(move |question| {
        asked.fetch_add(1, Ordering::SeqCst);
        let content = question["messages"][0]["content"]
            .as_array()
            .unwrap()
            .clone();
        assert_eq!(content.len(), 3, "a question and two pictures");
        let words = match content[0]["text"].as_str().unwrap().contains(red) {
            true => "{\"score\": 8}",
            false => "no idea",
        };
        json!(words)
    })
}

#[test]
fn captions_and_judged_pictures_are_rows_like_others() {
    let folder = scratch("judged_rows");
    let reward = format!(
        "{{type: judge, endpoint: \"{}\", model: m, with_reference: true, question: \"Is it {{prompt}}?\", score: {{by: json}}, failure_value: 0.1, price: [1, 1]}}",
        judge("a red dot", Arc::default())
    );
    let text = CONFIG
        .replace("TOKENIZER", TOKENIZER)
        .replace("REWARD", &reward);
    let config = write(&folder, "config.yaml", &text);
    let dot = drawing("<circle r='9'/>");
    let row = |id: usize, prompt: &str, completion: &str| json!({"id": id, "prompt": prompt, "completion": completion, "reference": {"svg": dot}});
    let caption = |id: usize, words: &str| json!({"id": id, "task": "caption", "completion": words, "reference": {"text": "a red dot on white"}});
    let data = write_rows(
        &folder,
        "data.jsonl",
        &[
            row(0, "a red dot", &dot),
            row(1, "a blue dot", &dot),
            row(2, "a red dot", "<svg"),
            caption(3, "A red dot, on white."),
            caption(4, "white dot"),
            caption(5, " "),
        ],
    );
    let out = folder.join("out.jsonl");
    let mut command = program();
    command.arg("reward").arg("--config").arg(&config);
    let said = told(command.arg("--data").arg(&data).arg("--out").arg(&out))
        .fine()
        .err;
    let totals: Vec<f64> = rows(&out)
        .iter()
        .map(|row| row["total"].as_f64().unwrap())
        .collect();
    assert_eq!(totals[..3], [0.8, 0.1, -1.0]);
    assert_eq!((totals[3], totals[5]), (1.0, -1.0));
    assert!(
        (totals[4] - 2.0 / 7.0).abs() < 1e-12,
        "one of two words, one of five"
    );
    assert!(
        said.contains("judge: 2 asked, 1 failed, 1000 tokens in, 10 out, cost 0.00101"),
        "{said}"
    );
}

#[test]
fn a_judge_that_is_away_does_not_stop_a_run() {
    let folder = scratch("judge_away");
    let config = tiny::config(&folder);
    let run = folder.join("run");
    let reward = "tasks.draw.rubric.rewards=[{type: ssim, window_size: 7}, {type: judge, endpoint: \"http://127.0.0.1:9/v1\", model: m, retries: 0, failure_value: 0.25}]";
    let set = [
        "--set",
        reward,
        "--set",
        "stages.rl.rollout.temperature=0.3",
    ];
    told(
        program()
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(&run)
            .args(set),
    )
    .fine();
    let metrics = rows(&run.join("metrics.jsonl"));
    for step in [1, 2] {
        let samples = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")));
        let valid = samples.iter().filter(|row| row["valid"] == json!(true));
        let valid: Vec<&Value> = valid.collect();
        assert!(!valid.is_empty(), "nothing was to be judged in step {step}");
        for row in &valid {
            assert_eq!(row["parts"]["judge"], json!(0.25));
        }
        let of_step = |row: &&Value| row["stage"] == "rl" && row["step"] == json!(step);
        let row = metrics.iter().filter(of_step);
        let row = row.into_iter().find(|row| row["judge/asked"].is_number());
        let row = row.unwrap_or_else(|| panic!("step {step} counts no judge"));
        // Every valid completion was asked about; so were those of evaluations.
        let asked = row["judge/asked"].as_f64().unwrap();
        assert!(asked >= valid.len() as f64, "{row}");
        assert_eq!(row["judge/asked"], row["judge/failed"]);
        assert_eq!(row["judge/cost"], json!(0.0));
    }
}

#[test]
fn what_a_judge_could_not_judge_has_no_total() {
    let folder = scratch("judge_unscored");
    let reward = format!(
        "{{type: judge, endpoint: \"{}\", model: m, with_reference: true, question: \"Is it {{prompt}}?\", score: {{by: json}}}}, {{type: mse, weight: 0}}",
        judge("a red dot", Arc::default())
    );
    let dot = drawing("<circle r='9'/>");
    let row = |id: usize, prompt: &str, completion: &str| json!({"id": id, "prompt": prompt, "completion": completion, "reference": {"svg": dot}});
    let data = write_rows(
        &folder,
        "data.jsonl",
        &[
            row(0, "a red dot", &dot),
            row(1, "a blue dot", &dot),
            row(2, "a blue dot", "<svg"),
        ],
    );
    let out = folder.join("out.jsonl");
    let score = |more: &str| {
        let text = CONFIG.replace("TOKENIZER", TOKENIZER);
        let text = text.replace("[REWARD]", &format!("[{reward}]{more}"));
        let config = write(&folder, "config.yaml", &text);
        let mut command = program();
        command.arg("reward").arg("--config").arg(&config);
        let said = told(command.arg("--data").arg(&data).arg("--out").arg(&out));
        (said.fine().err, rows(&out))
    };
    let (said, rows) = score("");
    assert_eq!(
        (&rows[0]["total"], &rows[2]["total"]),
        (&json!(0.8), &json!(-1.0))
    );
    let lost = &rows[1];
    assert_eq!(
        (&lost["total"], &lost["unscored"]),
        (&Value::Null, &json!(["judge"]))
    );
    assert_eq!(
        (&lost["valid"], &lost["parts"]),
        (&json!(true), &json!({"mse": 1.0}))
    );
    assert!(rows[0].get("unscored").is_none() && rows[2].get("unscored").is_none());
    for part in [
        "warn: judge: ",
        "no idea",
        "judge: 1 of 3 completions could not be scored",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    // As released systems have it.
    let (said, rows) = score(", unscored: 0");
    assert_eq!(rows[1]["total"], json!(0.0));
    assert_eq!(rows[1]["parts"], json!({"judge": 0.0, "mse": 1.0}));
    assert!(said.contains("it counts as 0"), "{said}");
}

/// A run whose judge is nowhere; `more` options of `rewards`.
fn run_without_judge(name: &str, more: &[&str]) -> (super::program::Told, std::path::PathBuf) {
    let folder = scratch(name);
    let config = tiny::config(&folder);
    let run = folder.join("run");
    let reward = "tasks.draw.rubric.rewards=[{type: ssim, window_size: 7}, {type: judge, endpoint: \"http://127.0.0.1:9/v1\", model: m, retries: 0}]";
    let mut command = program();
    command.arg("train").arg(&config).arg("--run-dir").arg(&run);
    for set in [
        reward,
        "tasks.draw.templates=[\"Please draw {prompt}!\"]",
        "stages.rl.rollout.temperature=0.3",
    ] {
        command.args(["--set", set]);
    }
    for set in more {
        command.args(["--set", set]);
    }
    (told(&mut command), run)
}

#[test]
fn unscorable_completions_leave_their_group_and_are_seen() {
    let (said, run) = run_without_judge("judge_lost", &[]);
    let said = said.fine().err;
    let warnings = said.matches("could not be scored").count();
    assert_eq!(warnings, 1, "{said}");
    for file in ["train.log", "logs/rank_0.jsonl", "report.html"] {
        let text = std::fs::read_to_string(run.join(file)).unwrap();
        assert!(
            text.contains("judge: a completion could not be scored"),
            "{file}"
        );
    }
    let metrics = rows(&run.join("metrics.jsonl"));
    for step in [1, 2] {
        let samples = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")));
        let lost: Vec<&Value> = samples
            .iter()
            .filter(|row| row["valid"] == json!(true))
            .collect();
        assert!(!lost.is_empty(), "nothing was to be judged in step {step}");
        for row in &samples {
            let valid = row["valid"] == json!(true);
            assert_eq!(row["total"].is_null(), valid, "{row}");
            assert_eq!(
                row.get("unscored"),
                valid.then_some(&json!(["judge"])),
                "{row}"
            );
            // Those that are left are all invalid, and equal.
            assert_eq!(row["advantage"], json!(0.0));
            let own = row["reward_prompt"].as_str().unwrap();
            assert_eq!(row["reward_text"], json!(own));
            assert!(own.starts_with("a ") && !own.contains("draw"), "{own}");
            let shown = row["prompt"].as_str().unwrap();
            assert!(shown.contains(&format!("Please draw {own}!")), "{shown}");
        }
        let of_step = |row: &&Value| row["stage"] == "rl" && row["step"] == json!(step);
        let mut of_step = metrics.iter().filter(of_step);
        let share = of_step.find_map(|row| row["reward/unscored_frac"].as_f64());
        assert_eq!(share, Some(lost.len() as f64 / samples.len() as f64));
    }
}

#[test]
fn a_run_stops_when_too_much_cannot_be_scored() {
    let set = ["rewards.unscored_steps=1", "rewards.unscored_share=0.01"];
    let (said, run) = run_without_judge("judge_stop", &set);
    said.refused(
        1,
        &[
            "completions could not be scored: judge (",
            "127.0.0.1:9",
            "rewards.unscored_steps",
        ],
    );
    assert!(!run.join("samples/rl/step_000001.jsonl").exists());
    let (said, _) = run_without_judge("judge_share", &["rewards.unscored_share=0"]);
    said.refused(2, &["rewards.unscored_share", "above 0"]);
}

#[test]
fn scores_of_models_nobody_can_have_are_refused_with_a_way_out() {
    let folder = scratch("judge_refused");
    for (name, way_out) in [
        ("hpsv2", "image_text"),
        ("HPSv2.1", "image_text"),
        ("tifa", "`judge`"),
        ("tifa_vqa", "`judge`"),
        ("aesthetic_score", "`judge`"),
        ("aesthetic", "`judge`"),
        ("gemini_judge", "api_key_env"),
        ("gpt_judge", "api_key_env"),
        ("gpt-4o-mini", "api_key_env"),
        ("VLMJ", "api_key_env"),
    ] {
        let text = CONFIG
            .replace("TOKENIZER", TOKENIZER)
            .replace("REWARD", &format!("{{type: {name}}}"));
        let config = write(&folder, "config.yaml", &text);
        told(program().arg("check").arg(&config)).refused(
            2,
            &[
                "tasks.draw.rubric.rewards.0.type",
                name,
                "not available",
                way_out,
            ],
        );
    }
    let text = CONFIG
        .replace("TOKENIZER", TOKENIZER)
        .replace("REWARD", "{type: judge}");
    let config = write(&folder, "config.yaml", &text);
    told(program().arg("check").arg(&config)).refused(2, &["tasks.draw.rubric.rewards.0.endpoint"]);
    let words = CONFIG
        .replace("TOKENIZER", TOKENIZER)
        .replace("REWARD", "{type: rouge_l}");
    let config = write(&folder, "config.yaml", &words);
    told(program().arg("check").arg(&config)).refused(
        2,
        &["tasks.draw.rubric.rewards.0.type", "completion.format"],
    );
}

#[test]
fn a_weights_schedule_counts_the_steps_of_the_run() {
    let folder = scratch("weight_schedule");
    let config = tiny::config(&folder);
    let run = folder.join("run");
    let rewards = "tasks.draw.rubric.rewards=[{type: format, weight: [[1, 0], [2, 1]]}]";
    let set = [
        "--set",
        rewards,
        "--set",
        "stages.rl.rollout.temperature=0.3",
    ];
    let mut command = program();
    command.arg("train").arg(&config).arg("--run-dir").arg(&run);
    told(command.args(set)).fine();
    for (step, weight) in [(1, 0.0), (2, 1.0)] {
        let samples = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")));
        let valid = samples.iter().filter(|row| row["valid"] == json!(true));
        let totals: Vec<f64> = valid.map(|row| row["total"].as_f64().unwrap()).collect();
        assert!(!totals.is_empty(), "nothing valid in step {step}");
        assert!(
            totals.iter().all(|total| *total == weight),
            "{step}: {totals:?}"
        );
    }
}
