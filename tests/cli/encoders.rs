//! Rewards that networks judge, in `svgrl reward` and `svgrl train`; the numbers are judged in parity/rewards.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, copy, numbers, program, rows, scratch, told, write, write_rows};
use super::tiny::{self, drawing};
use crate::support::fixture;

const CONFIG: &str = "\
model: {tokenizer: TOKENIZER, init: {}}
device: cpu
data: {sources: {shapes: {format: shapes, task: draw}}}
encoders:
  dino: {path: ENCODERS/dinov2}
  clip: {path: ENCODERS/clip}
  bge: {path: ENCODERS/bge_m3}
  unused: {path: nowhere}
tasks:
  draw:
    render: {size: 64}
    rubric:
      rewards: [{type: dino, encoder: dino}, {type: dino, name: cls, encoder: dino, pool: cls, scale: raw}, {type: image_text, encoder: clip}]
  caption:
    completion: {format: text}
    rubric: {failure_value: -1, rewards: [{type: text_similarity, encoder: bge, scale: rescaled}]}
stages: [{algorithm: grpo}]
";

fn encoders() -> PathBuf {
    fixture("parity/encoders")
}

fn config(folder: &Path) -> PathBuf {
    let text = CONFIG
        .replace("TOKENIZER", tiny::TOKENIZER)
        .replace("ENCODERS", &encoders().display().to_string());
    write(folder, "encoders.yaml", &text)
}

fn tell(folder: &Path, data: &[Value], set: &[&str]) -> Told {
    let data = write_rows(folder, "data.jsonl", data);
    let mut command = program();
    command
        .arg("reward")
        .arg("--config")
        .arg(config(folder))
        .arg("--data")
        .arg(data);
    for set in set {
        command.arg("--set").arg(set);
    }
    told(command.arg("--out").arg(folder.join("out.jsonl")))
}

fn scores(folder: &Path, data: &[Value], set: &[&str]) -> Vec<Value> {
    tell(folder, data, set).fine();
    rows(&folder.join("out.jsonl"))
}

fn circle(colour: &str) -> String {
    drawing(&format!("<circle cx='32' cy='32' r='20' fill='{colour}'/>"))
}

/// A drawing against a red circle.
fn row(id: usize, completion: &str) -> Value {
    json!({"id": id, "prompt": "a red circle", "completion": completion, "reference": {"svg": circle("red")}})
}

#[test]
fn a_copy_of_the_reference_has_cosine_one_and_a_bad_svg_waits_for_nobody() {
    let folder = scratch("encoders_copy");
    let out = scores(
        &folder,
        &[
            row(0, &circle("red")),
            row(1, "<svg"),
            row(2, &circle("blue")),
        ],
        &[],
    );
    let part = |row: usize, name: &str| out[row]["parts"][name].as_f64().unwrap();
    for name in ["dino", "cls"] {
        assert!((part(0, name) - 1.0).abs() < 1e-6, "{}", out[0]);
        assert!(part(2, name) < 1.0 - 1e-4, "{}", out[2]);
    }
    assert!(part(0, "image_text").abs() <= 1.0 && part(0, "image_text") != part(2, "image_text"));
    assert_eq!(
        (&out[1]["valid"], &out[1]["total"]),
        (&json!(false), &json!(0.0))
    );
}

/// Whatever shape a completion gives itself, it is a row and not the encoder's end.
#[test]
fn a_line_of_pixels_is_scored_and_one_too_long_is_invalid() {
    let folder = scratch("encoders_thin");
    let whole = folder.join("whole");
    copy(&encoders().join("dinov2"), &whole);
    let settings = whole.join("preprocessor_config.json");
    let text = std::fs::read_to_string(&settings).unwrap();
    let uncut = text.replace("\"do_center_crop\": true", "\"do_center_crop\": false");
    assert_ne!(uncut, text);
    std::fs::write(settings, uncut).unwrap();
    let thin = |size: &str| {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' {size}><rect width='999' height='999' fill='red'/></svg>"
        )
    };
    let sizes = ["width='1024' height='1'", "width='1' height='1024'"];
    let mut data: Vec<Value> = sizes
        .iter()
        .enumerate()
        .map(|(id, size)| row(id, &thin(size)))
        .collect();
    data.push(row(2, &circle("red")));
    let render = "tasks.draw.render={canvas: intrinsic, size: 1024}";
    for scored in scores(&folder, &data, &[render]) {
        assert_eq!(scored["valid"], json!(true), "{scored}");
    }
    let path = format!("encoders.dino.path={}", whole.display());
    let out = scores(&folder, &data, &[render, &path]);
    for scored in &out[..2] {
        let reason = scored["reason"].as_str().unwrap();
        assert!(reason.contains("at most 16384 on a side"), "{reason}");
        assert_eq!(
            (&scored["valid"], &scored["total"]),
            (&json!(false), &json!(0.0))
        );
    }
    assert_eq!(out[2]["valid"], json!(true));
}

#[test]
fn the_reference_text_goes_before_the_prompt() {
    let folder = scratch("encoders_text");
    let with = |text: &str| {
        let mut row = row(0, &circle("red"));
        row["reference"]["text"] = json!(text);
        row
    };
    let out = scores(
        &folder,
        &[
            row(0, &circle("red")),
            with("a red circle"),
            with("two stars"),
        ],
        &[],
    );
    let told: Vec<&Value> = out.iter().map(|row| &row["parts"]["image_text"]).collect();
    assert!(told[0] == told[1] && told[1] != told[2], "{told:?}");
}

#[test]
fn scores_do_not_depend_on_who_shared_a_pass() {
    let folder = scratch("encoders_batch");
    let colours = ["red", "blue", "green", "black", "orange", "teal", "navy"];
    let all: Vec<Value> = colours
        .iter()
        .enumerate()
        .map(|(id, colour)| row(id, &circle(colour)))
        .collect();
    let mut firsts = Vec::new();
    for batch in ["1", "4"] {
        let set: Vec<String> = ["dino", "clip"]
            .iter()
            .map(|name| format!("encoders.{name}.batch={batch}"))
            .collect();
        let set: Vec<&str> = set.iter().map(String::as_str).collect();
        let together = scores(&folder, &all, &set);
        for (alone, together) in all.iter().zip(&together) {
            let alone = &scores(&folder, std::slice::from_ref(alone), &set)[0];
            assert_eq!(alone["parts"], together["parts"], "batch {batch}");
        }
        firsts.push(together[1]["total"].as_f64().unwrap());
    }
    assert!((firsts[0] - firsts[1]).abs() < 1e-5, "{firsts:?}");
}

#[test]
fn each_encoder_computes_in_its_own_kind() {
    let folder = scratch("encoders_kind");
    let data = [row(0, &circle("blue"))];
    let parts = |set: &[&str]| scores(&folder, &data, set)[0]["parts"].clone();
    let (full, half) = (parts(&[]), parts(&["encoders.dino.dtype=float16"]));
    for name in ["dino", "cls"] {
        let far = (full[name].as_f64().unwrap() - half[name].as_f64().unwrap()).abs();
        assert!(far > 0.0 && far < 1e-3, "{name}: {full} and {half}");
    }
    assert_eq!(
        full["image_text"], half["image_text"],
        "only one is in half precision"
    );
    let moved = parts(&["tasks.draw.rubric.rewards.2.scale=rescaled"]);
    let raw = full["image_text"].as_f64().unwrap();
    assert!((moved["image_text"].as_f64().unwrap() - (raw + 1.0) / 2.0).abs() < 1e-9);
}

#[test]
fn captions_are_compared_as_texts() {
    let folder = scratch("encoders_caption");
    let caption = |id: usize, text: &str| json!({"id": id, "task": "caption", "prompt": "", "completion": text, "reference": {"text": "a red circle"}});
    let out = scores(
        &folder,
        &[
            caption(0, "a red circle"),
            caption(1, "two green stars"),
            caption(2, "  "),
        ],
        &[],
    );
    let totals: Vec<f64> = out
        .iter()
        .map(|row| row["total"].as_f64().unwrap())
        .collect();
    assert!(
        (totals[0] - 1.0).abs() < 1e-6 && totals[1] < 1.0 - 1e-4,
        "{totals:?}"
    );
    assert_eq!((totals[2], &out[2]["reason"]), (-1.0, &json!("no_text")));
    let mut bare = caption(0, "a");
    bare["reference"] = json!({});
    tell(&folder, &[bare], &[]).refused(2, &["data.jsonl:1", "reference.text"]);
}

#[test]
fn an_encoder_that_does_not_fit_is_refused_by_key() {
    let folder = scratch("encoders_refused");
    let good = [row(0, &circle("red"))];
    for (set, parts) in [
        (
            "tasks.draw.rubric.rewards.0.encoder=dyno",
            &["tasks.draw.rubric.rewards.0.encoder", "dyno"][..],
        ),
        ("tasks.draw.rubric.rewards.0.encoder=", &["encoder"]),
        (
            "tasks.draw.rubric.rewards.0.encoder=unused",
            &["encoders.unused.path", "nowhere"],
        ),
        (
            "tasks.draw.rubric.rewards.0.encoder=bge",
            &["encoders.bge", "texts alone"],
        ),
        (
            "tasks.draw.rubric.rewards.2.encoder=dino",
            &["encoders.dino", "pictures alone"],
        ),
        (
            "tasks.draw.rubric.rewards.0={type: dreamsim, encoder: dino}",
            &["encoders.dino.path", "is not DreamSim's ensemble", "`dino`"],
        ),
        (
            "encoders.dino.device=tpu",
            &["encoders.dino.device", "cuda:N"],
        ),
        // Both who says so and who is put there have nothing to gain.
        (
            "encoders.dino={path: x, device: cpu, offload: true}",
            &["encoders.dino.offload", "on the CPU"],
        ),
        (
            "encoders.dino.offload=true",
            &["encoders.dino.offload", "`device`"],
        ),
        (
            "encoders.dino.device=cuda:99",
            &["encoders.dino.device", "cuda:99"],
        ),
        (
            "encoders.dino.dtype=bfloat16",
            &["encoders.dino.dtype", "float16"],
        ),
        ("encoders.dino.batch=5000", &["encoders.dino.batch", "4096"]),
        (
            "tasks.draw.completion.format=text",
            &["tasks.draw.rubric.rewards.0.type"],
        ),
        (
            "tasks.caption.completion.format=svg",
            &["tasks.caption.rubric.rewards.0.type"],
        ),
    ] {
        tell(&folder, &good, &[set]).refused(2, parts);
    }
}

/// The tiny run's GRPO stage with encoders instead of pixels.
fn train(name: &str, extra: &[&str]) -> PathBuf {
    let folder = scratch(name);
    let config = tiny::config(&folder);
    let text = std::fs::read_to_string(&config).unwrap();
    let section = format!(
        "encoders:\n  dino: {{path: {0}/dinov2}}\n  clip: {{path: {0}/clip, batch: 3}}\ntasks:",
        encoders().display()
    );
    std::fs::write(&config, text.replace("tasks:", &section)).unwrap();
    let mut command = program();
    command
        .arg("train")
        .arg(&config)
        .arg("--run-dir")
        .arg(folder.join("run"));
    let rewards = "tasks.draw.rubric.rewards=[{type: dino, encoder: dino}, {type: image_text, encoder: clip, weight: 0.5}]";
    for set in ["stages.sft.steps=40", rewards].iter().chain(extra) {
        command.arg("--set").arg(set);
    }
    told(&mut command).fine();
    folder.join("run")
}

#[test]
fn a_run_with_encoders_is_reproduced_bitwise_and_has_a_curve_for_each() {
    let [a, b] = ["encoders_run_a", "encoders_run_b"].map(|name| train(name, &[]));
    for step in 1..=2 {
        let samples = |run: &Path| -> Vec<Value> {
            let mut samples = rows(&run.join(format!("samples/rl/step_{step:06}.jsonl")));
            samples
                .iter_mut()
                .for_each(|row| row["render_ms"] = json!(0));
            samples
        };
        assert!(samples(&a) == samples(&b), "step {step}");
    }
    let metrics = rows(&a.join("metrics.jsonl"));
    let last = metrics
        .iter()
        .rfind(|row| row["stage"] == "rl" && row.get("reward/total/mean").is_some())
        .unwrap();
    for key in ["reward/dino/mean", "reward/image_text/mean"] {
        assert!(last[key].is_number(), "{key}: {last}");
    }
}

#[test]
fn parts_are_normalised_within_the_group_when_asked() {
    let run = train("encoders_gdpo", &["tasks.draw.rubric.normalise=group"]);
    let samples = rows(&run.join("samples/rl/step_000001.jsonl"));
    // A group with something to compare.
    let told = samples.iter().find(|row| row["advantage"] != json!(0.0));
    let told = &told.expect("some group's completions differ")["prompt_id"];
    let group: Vec<&Value> = samples
        .iter()
        .filter(|row| row["prompt_id"] == *told)
        .collect();
    assert_eq!(group.len(), 4);
    let column = |name: &str| -> Vec<f64> {
        group
            .iter()
            .map(|row| row["parts"][name].as_f64().unwrap())
            .collect()
    };
    let score = |values: &[f64]| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / 4.0;
        let deviation = (values
            .iter()
            .map(|value| (value - mean).powi(2))
            .sum::<f64>()
            / 3.0)
            .sqrt();
        values
            .iter()
            .map(|value| (value - mean) / (deviation + 1e-4))
            .collect()
    };
    let shaped: Vec<f64> = score(&column("dino"))
        .iter()
        .zip(score(&column("image_text")))
        .map(|(a, b)| a + 0.5 * b)
        .collect();
    let got = numbers(&json!(
        group
            .iter()
            .map(|row| row["advantage"].clone())
            .collect::<Vec<_>>()
    ));
    // GRPO's advantage has the same form, over the group and with the same epsilon.
    let want = score(&shaped);
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() < 1e-9, "{got} and {want}");
    }
    assert!(want.iter().any(|value| value.abs() > 0.5), "{want:?}");
}
