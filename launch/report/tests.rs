//! Synthetic run folders, and what the pages made of them hold.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::artist::DrawOrder;
use super::thumbnail::PngResult;
use super::*;

const HOSTILE: &str =
    "</script><script>alert(1)</script><svg onload='alert(2)'><image href='http://x/y.png'/></svg>";

/// Targets render, completions do not.
struct TargetsOnly;

impl Artist for TargetsOnly {
    fn draw(&self, order: &DrawOrder) -> PngResult {
        match order {
            DrawOrder::Completion { .. } => Err("refused".to_owned()),
            DrawOrder::Source { svg, .. } => Ok(svg.as_bytes().to_vec()),
            DrawOrder::Picture(_) => Ok(b"picture".to_vec()),
        }
    }

    fn is_words(&self, task: &str) -> bool {
        task == "caption"
    }
}

/// An SFT and a GRPO stage with evaluations, samples and a half-written last line; `gain` is what the last
/// evaluation's completions earn more.
fn run_folder(folder: &Path, gain: f64) {
    let mut metrics = String::new();
    let mut row = |value: Value| writeln!(metrics, "{value}").unwrap();
    for step in 1..=5 {
        row(
            json!({"stage": "sft", "step": step, "time": 1e9 + f64::from(step), "sft/loss": 3.0 / f64::from(step)}),
        );
    }
    row(json!({"stage": "sft", "step": 5, "time": 1e9, "eval/heldout/svg/valid_frac": 0.5}));
    row(
        json!({"stage": "rl", "step": 0, "time": 1e9, "eval/heldout/reward/total/mean": 0.625, "eval/heldout/reward/draw/total/mean": 0.5,
               "eval/heldout/reward/caption/total/mean": 0.75}),
    );
    for step in 1..=1400 {
        row(json!({
            "stage": "rl", "step": step, "time": 1e9 + f64::from(step),
            "reward/total/mean": f64::from(step) / 400.0, "reward/total/std": 0.1, "reward/ssim/mean": 0.5,
            "reward/draw/total/mean": 0.5, "reward/caption/total/mean": 0.25, "reward/draw/ssim/mean": 0.5,
            "optim/lr": 3e-4, "policy/kl_ref": null,
        }));
    }
    row(
        json!({"stage": "rl", "step": 1400, "time": 1e9, "eval/heldout/reward/total/mean": 0.75, "eval/heldout/svg/valid_frac": 1.0,
               "eval/heldout/reward/draw/total/mean": 0.5 + gain, "eval/heldout/reward/caption/total/mean": 1.0}),
    );
    metrics.push_str("{\"stage\": \"rl\", \"st");
    std::fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
    std::fs::write(folder.join("environment.json"), r#"{"commit": "abc<"}"#).unwrap();
    let rows = |step: u64, gain: f64| -> String {
        let row = |index: u64| {
            let caption = index >= 8;
            json!({
                "stage": "rl", "step": step, "prompt_id": format!("s/{}", index / 8), "index": index % 8,
                "task": if caption { "caption" } else { "draw" },
                "prompt": "<|user|>a dot", "reward_prompt": "a dot",
                "completion": if caption { "a red dot" } else { HOSTILE },
                "token_ids": [1, 2, 3], "sampler_logprobs": [-0.5, null, -1.0],
                "finish_reason": "length", "valid": caption, "reason": if caption { Value::Null } else { json!("bad <tag>") },
                "parts": {"ssim": 0.25}, "total": 0.25 + gain, "advantage": -1.5,
                "reference": {"svg": "<svg id='target'/>", "text": "a dot", "draft": "<svg id='draft'/>"},
            })
            .to_string()
        };
        (0..16).map(row).collect::<Vec<_>>().join("\n")
    };
    let samples = folder.join("samples/rl");
    for (place, steps) in [("", &[1, 10, 1400][..]), ("eval/heldout", &[0, 1400])] {
        let place = samples.join(place);
        std::fs::create_dir_all(&place).unwrap();
        for step in steps {
            let earned = if *step == 1400 { gain } else { 0.0 };
            std::fs::write(
                place.join(format!("step_{step:06}.jsonl")),
                rows(*step, earned),
            )
            .unwrap();
        }
    }
}

fn page_of(gains: &[f64]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let runs: Vec<PathBuf> = (0..gains.len())
        .map(|at| folder.path().join(format!("run{at}")))
        .collect();
    for (run, gain) in runs.iter().zip(gains) {
        std::fs::create_dir(run).unwrap();
        run_folder(run, *gain);
    }
    drawn_by(
        &runs,
        &vec![&TargetsOnly as &dyn Artist; gains.len()],
        false,
    )
    .unwrap()
}

/// The JSON that a page holds.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn held_out_numbers_stand_before_and_after_and_a_missing_one_is_none() {
    let data = data(&page_of(&[0.25]));
    let tile = |metric: &str| -> Vec<[Value; 3]> {
        let tiles = data["runs"][0]["tiles"].as_array().unwrap();
        let tile = tiles.iter().find(|tile| tile["metric"] == metric).unwrap();
        let stages = tile["stages"].as_array().unwrap();
        let of = |stage: &Value| ["stage", "first", "last"].map(|key| stage[key].clone());
        stages.iter().map(of).collect()
    };
    assert_eq!(
        tile("eval/heldout/reward/total/mean"),
        [[json!("rl"), json!(0.625), json!(0.75)]]
    );
    assert_eq!(
        tile("eval/heldout/reward/draw/total/mean"),
        [[json!("rl"), json!(0.5), json!(0.75)]]
    );
    // One evaluation has no first value, and neither has a number that the first one lacks.
    assert_eq!(
        tile("eval/heldout/svg/valid_frac"),
        [
            [json!("sft"), Value::Null, json!(0.5)],
            [json!("rl"), Value::Null, json!(1.0)]
        ]
    );
    let tables = data["runs"][0]["tables"].as_array().unwrap();
    let titles: Vec<&str> = tables
        .iter()
        .map(|table| table["title"].as_str().unwrap())
        .collect();
    assert_eq!(titles, ["all tasks", "draw", "caption"]);
}

#[test]
fn stages_share_one_axis_and_tasks_and_parts_have_charts() {
    let data = data(&page_of(&[0.25]));
    let stages = &data["runs"][0]["stages"];
    assert_eq!(
        (&stages[0]["offset"], &stages[1]["offset"]),
        (&json!(0), &json!(5))
    );
    let panels = data["panels"].as_array().unwrap();
    let titles: Vec<&str> = panels
        .iter()
        .map(|panel| panel["title"].as_str().unwrap())
        .collect();
    for title in [
        "Reward, total",
        "Reward of draw",
        "Reward of caption",
        "ssim",
        "Loss",
        "Learning rate",
    ] {
        assert!(titles.contains(&title), "{title}: {titles:?}");
    }
    assert!(!titles.contains(&"KL divergence"), "null is no point");
    let total = &panels[0]["series"];
    assert_eq!(total[0]["band"], "reward/total/std");
    assert_eq!(total[1]["metric"], "eval/heldout/reward/total/mean");
    let points = &data["runs"][0]["curves"]["reward/total/mean"];
    // 1400 points are averaged in threes.
    assert_eq!(points[0].as_array().unwrap().len(), 467);
    assert_eq!((&points[0][0], &points[1][0]), (&json!(7.0), &json!(0.005)));
}

#[test]
fn samples_hold_whole_groups_with_words_pictures_and_gains() {
    let data = data(&page_of(&[0.25]));
    let groups = data["groups"].as_array().unwrap();
    let find = |set: Value, step: u64, task: &str| {
        let own =
            |group: &&Value| group["set"] == set && group["step"] == step && group["task"] == task;
        groups.iter().find(own).unwrap()
    };
    let drawn = find(Value::Null, 1400, "draw");
    assert_eq!(drawn["members"].as_array().unwrap().len(), 8);
    assert_eq!(
        (&drawn["asked"], &drawn["raw"]),
        (&json!("a dot"), &json!("<|user|>a dot"))
    );
    let member = &drawn["members"][3];
    assert_eq!(member["picture"], "refused");
    assert_eq!(
        (&member["reason"], &member["cut"], &member["advantage"]),
        (&json!("bad <tag>"), &json!(true), &json!(-1.5))
    );
    let pictures = data["pictures"].as_array().unwrap();
    assert_eq!(pictures.len(), 2, "a target and a draft, each once");
    assert!(drawn["target"].is_u64() && drawn["draft"].is_u64());
    let caption = find(json!("heldout"), 1400, "caption");
    assert_eq!(
        (&caption["members"][0]["words"], &caption["target_words"]),
        (&json!(true), &json!("a dot"))
    );
    assert!(caption["members"][0]["picture"].is_null());
    assert_eq!(caption["gain"], json!(0.25));
    assert!(find(json!("heldout"), 0, "caption")["gain"].is_null());
    let histograms = data["runs"][0]["histograms"].as_array().unwrap();
    assert_eq!(histograms.len(), (3 + 2) * 2);
}

#[test]
fn what_was_learnt_from_has_a_loss_and_no_outcome() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), 0.25);
    let answer = |index: u64| {
        json!({
            "stage": "sft", "step": 1, "prompt_id": "p", "task": "draw", "index": index, "prompt": "<|user|>a dot",
            "completion": "<svg id='learnt'/>", "token_ids": [1, 2], "learner_logprobs": [-0.5, null],
            "finish_reason": "stop", "loss": 0.5, "chosen": index == 0, "policy_version": 0, "reward_prompt": "a dot",
            "draft": "<svg id='draft'/>",
        })
    };
    let samples = folder.path().join("samples/sft");
    std::fs::create_dir_all(&samples).unwrap();
    let rows = format!("{}\n{}\n", answer(0), answer(1));
    std::fs::write(samples.join("step_000001.jsonl"), rows).unwrap();
    let page = drawn_by(&[folder.path().to_owned()], &[&TargetsOnly], false).unwrap();
    let data = data(&page);
    let groups = data["groups"].as_array().unwrap();
    let group = groups.iter().find(|group| group["stage"] == "sft").unwrap();
    assert!(group["draft"].is_u64() && group["target"].is_null());
    let member = &group["members"][1];
    assert_eq!(
        (&member["learnt"], &member["loss"], &member["chosen"]),
        (&json!(true), &json!(0.5), &json!(false))
    );
    assert!(member["valid"].is_null() && member["total"].is_null());
    let drawn = groups.iter().find(|group| group["stage"] == "rl").unwrap();
    assert_eq!(drawn["members"][0]["learnt"], json!(false));
}

#[test]
fn long_sources_are_whole_until_the_page_is_full_and_then_said_to_be_cut() {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path(), 0.25);
    let samples = folder.path().join("samples/rl");
    let long = |step: u64, characters: usize| {
        let row = |index: usize| {
            json!({
                "stage": "rl", "step": step, "prompt_id": format!("p{index}"), "task": format!("t{index}"), "index": 0,
                "completion": "<".repeat(characters), "token_ids": vec![1; characters], "sampler_logprobs": vec![-12.345; characters],
                "finish_reason": "stop", "valid": false, "reason": "no", "total": 0.0, "advantage": 0.0,
            })
            .to_string()
        };
        let rows: Vec<String> = (0..40).map(row).collect();
        std::fs::write(
            samples.join(format!("step_{step:06}.jsonl")),
            rows.join("\n"),
        )
        .unwrap();
    };
    long(1, 20_000);
    long(10, 60_000);
    long(1400, 100_000);
    let page = drawn_by(&[folder.path().to_owned()], &[&TargetsOnly], false).unwrap();
    assert!(page.len() < 20 << 20, "{}", page.len());
    let data = data(&page);
    let groups = data["groups"].as_array().unwrap();
    let training: Vec<&Value> = groups
        .iter()
        .filter(|group| group["set"].is_null())
        .collect();
    assert_eq!(training.len(), 3 * 40, "each has its beginning");
    let (mut whole, mut cut) = (0, 0);
    for group in training {
        let member = &group["members"][0];
        let length = member["text"].as_str().unwrap().chars().count();
        match member["lacking"].as_str() {
            None => {
                assert!(length >= 20_000);
                whole += 1;
            }
            Some(said) => {
                assert_eq!(length, 6001);
                assert!(said.starts_with("the first 6000 of "), "{said}");
                cut += 1;
            }
        }
    }
    assert!(whole > 10 && cut > 10, "{whole} {cut}");
    assert_eq!(data["shortened"], json!(cut));
    assert_eq!(data["left_out"], json!(0));
}

#[test]
fn runs_are_compared_on_the_same_prompts() {
    let data = data(&page_of(&[0.25, 0.5]));
    let paired = data["paired"].as_array().unwrap();
    let all = &paired[0];
    assert_eq!(
        (&all["part"], &all["task"], &all["prompts"]),
        (&json!("total"), &Value::Null, &json!(2))
    );
    assert_eq!(
        (&all["difference"], &all["error"]),
        (&json!(0.25), &json!(0.0))
    );
    assert!(paired.iter().any(|one| one["task"] == "caption"));
    // Both prompts differ by as much, and both runs' last completions of them are on the page.
    let apart = data["apart"].as_array().unwrap();
    assert_eq!(apart.len(), 2);
    for one in apart {
        assert_eq!(
            (&one["difference"], &one["runs"]),
            (&json!(0.25), &json!([0, 1]))
        );
        for (run, place) in one["groups"].as_array().unwrap().iter().enumerate() {
            let group = &data["groups"][place.as_u64().unwrap() as usize];
            let place = ["run", "step", "set", "prompt_id"].map(|key| group[key].clone());
            let last = [
                json!(run),
                json!(1400),
                json!("heldout"),
                one["prompt_id"].clone(),
            ];
            assert_eq!(place, last);
        }
    }
}

#[test]
fn nothing_of_a_completion_becomes_markup() {
    let page = page_of(&[0.25]);
    // The two elements of the page's own, and no other.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    assert!(!page.contains("<image") && !page.contains("<svg"));
    assert!(page.contains("\\u003cscript\\u003ealert(1)"));
    for word in [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    let (_, policy) = page
        .split_once("Content-Security-Policy\" content=\"")
        .unwrap();
    let policy = policy.split('"').next().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(
        !policy.contains("unsafe") && !policy.contains("connect-src"),
        "{policy}"
    );
}

#[test]
fn a_folder_without_metrics_and_a_broken_line_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.html");
    let error = write_all(&[folder.path().to_owned()], &out).unwrap_err();
    assert!(matches!(error, ReportError::NotARun(_)));
    std::fs::write(folder.path().join("metrics.jsonl"), "{}\n{\n{}\n").unwrap();
    let error = write_all(&[folder.path().to_owned()], &out).unwrap_err();
    assert!(error.to_string().contains("metrics.jsonl:2: "), "{error}");
    assert!(!out.exists());
}
