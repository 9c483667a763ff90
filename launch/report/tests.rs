//! A synthetic run folder and the page made of it.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::*;

const HOSTILE: &str = "<svg><script>alert(1)</script><image href='http://x/'/></svg>";

/// An SFT and a GRPO stage with evaluations, samples and a half-written last line.
fn run_folder(folder: &Path) {
    let mut metrics = String::new();
    let mut row = |value: serde_json::Value| {
        writeln!(metrics, "{value}").unwrap();
    };
    for step in 1..=5 {
        row(
            json!({"stage": "sft", "step": step, "time": 1e9 + f64::from(step), "sft/loss": 3.0 / f64::from(step)}),
        );
    }
    row(
        json!({"stage": "rl", "step": 0, "time": 1e9, "eval/heldout/reward/total/mean": 0.625, "eval/heldout/svg/valid_frac": 0.875}),
    );
    for step in 1..=400 {
        row(json!({
            "stage": "rl", "step": step, "time": 1e9 + f64::from(step),
            "reward/total/mean": f64::from(step) / 400.0, "reward/ssim/mean": 0.5,
            "reward/draw/total/mean": 0.5, "reward/edit/total/mean": 0.25, "optim/lr": 3e-4, "policy/kl_ref": null,
        }));
    }
    row(
        json!({"stage": "rl", "step": 400, "time": 1e9, "eval/heldout/reward/total/mean": 0.75, "eval/heldout/svg/valid_frac": 1.0}),
    );
    metrics.push_str("{\"stage\": \"rl\", \"st");
    std::fs::write(folder.join("metrics.jsonl"), metrics).unwrap();
    std::fs::write(folder.join("environment.json"), r#"{"commit": "abc<"}"#).unwrap();
    let samples = folder.join("samples/rl");
    std::fs::create_dir_all(&samples).unwrap();
    for step in [1, 10, 400] {
        let rows: Vec<String> = (0..16)
            .map(|index| {
                json!({
                    "stage": "rl", "step": step, "prompt_id": index / 8, "task": "draw", "index": index % 8,
                    "prompt": format!("prompt {} of {step}", index / 8), "completion": HOSTILE,
                    "finish_reason": "length", "valid": index != 0, "reason": "bad <tag>",
                    "parts": {"ssim": 0.25}, "total": 0.5, "advantage": -1.5,
                    "reference": {"svg": "<svg id='target'/>"},
                })
                .to_string()
            })
            .collect();
        let path = samples.join(format!("step_{step:06}.jsonl"));
        std::fs::write(path, rows.join("\n")).unwrap();
    }
}

/// Targets render, completions do not.
fn target_only(source: &str) -> Option<Vec<u8>> {
    source
        .contains("target")
        .then(|| vec![0x89, b'P', b'N', b'G'])
}

fn page() -> String {
    let folder = tempfile::tempdir().unwrap();
    run_folder(folder.path());
    let out = folder.path().join("report.html");
    write(folder.path(), &out, &target_only).unwrap();
    std::fs::read_to_string(out).unwrap()
}

#[test]
fn held_out_numbers_stand_before_and_after() {
    let page = page();
    assert!(page.contains(
        "<tr><td>heldout/reward/total/mean</td><td>0.625</td><td>0.750</td><td>+0.125</td></tr>"
    ));
    assert!(page.contains("<th>step 0</th><th>step 400</th>"));
}

#[test]
fn every_stage_has_its_curves() {
    let page = page();
    let (sft, rl) = page.split_once("<h2>rl</h2>").unwrap();
    assert!(sft.contains("<figcaption>Loss</figcaption>"));
    for title in [
        "Reward, total",
        "Reward parts",
        "Reward by task",
        "Learning rate",
    ] {
        assert!(
            rl.contains(&format!("<figcaption>{title}</figcaption>")),
            "{title}"
        );
    }
    assert!(!rl.contains("KL divergence"), "null is no point");
}

#[test]
fn samples_of_the_first_and_last_step_show_each_prompt() {
    let page = page();
    assert!(page.contains("Samples of step 1<") && page.contains("Samples of step 400<"));
    assert!(!page.contains("Samples of step 10<"));
    assert!(page.contains("prompt 0 of 400") && page.contains("prompt 1 of 400"));
    let png = "<img alt=\"target\" src=\"data:image/png;base64,iVBORw==\">";
    assert_eq!(page.matches(png).count(), 16);
    assert_eq!(page.matches("bad &lt;tag&gt;").count(), 16);
}

#[test]
fn nothing_of_a_completion_becomes_markup() {
    let page = page();
    assert!(!page.contains("<script") && !page.contains("<image"));
    assert!(page.contains("&lt;script&gt;alert(1)"));
    assert!(page.contains("commit abc&lt;"));
}

#[test]
fn a_folder_without_metrics_and_a_broken_line_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report.html");
    let error = write(folder.path(), &out, &target_only).unwrap_err();
    assert!(matches!(error, ReportError::NotARun(_)));
    std::fs::write(folder.path().join("metrics.jsonl"), "{}\n{\n{}\n").unwrap();
    let error = write(folder.path(), &out, &target_only).unwrap_err();
    assert!(error.to_string().contains("metrics.jsonl:2: "), "{error}");
    assert!(!out.exists());
}
