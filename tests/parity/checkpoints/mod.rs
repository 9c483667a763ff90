//! Checkpoints as transformers' Auto classes load them: weights, tokenizer, chat template, processor.

use std::path::Path;

use serde_json::json;
use svg::Raster;

use crate::cli::program::{program, scratch, told, write, write_rows};
use crate::cli::tiny::{drawing, tiny};
use crate::support::fixture;
use crate::support::python::{NO_PYTHON, answer, difference, python};
use crate::support::skip::skip;

const SCRIPT: &str = "parity/checkpoints/make.py";

const CONFIG: &str = "\
device: cpu
model: {path: model}
data: {sources: {rows: {format: jsonl, path: rows.jsonl, task: look}}}
tasks: {look: {type: image_to_svg, templates: ['{image}Draw this.'], render: {size: 32}}}
stages: [{name: sft, algorithm: sft, steps: 1, batch: {size: 2}, optimizer: {learning_rate: 1.0e-3}}]
";

#[test]
fn transformers_loads_processor_and_policy_of_a_checkpoint_with_the_same_answers() {
    let Some(python) = python() else {
        skip!("{NO_PYTHON}");
    };
    let words = fixture("../configs/tiny_vlm_tokenizer/tokenizer.json");
    for family in ["qwen3_vl", "qwen2_5_vl", "internvl"] {
        let folder = scratch(&format!("checkpoint_of_{family}"));
        answer(
            &python,
            SCRIPT,
            &[Path::new(family), &folder.join("model"), &words],
        );
        let raster = Raster {
            width: 40,
            height: 30,
            rgba: (0..4800)
                .map(|at| {
                    if at % 4 == 3 {
                        255
                    } else {
                        (at * 7 % 256) as u8
                    }
                })
                .collect(),
        };
        let picture = folder.join("picture.png");
        std::fs::write(&picture, raster.to_png().unwrap()).unwrap();
        let row =
            json!({"images": ["picture.png"], "svg": drawing("<rect width='8' height='4'/>")});
        write_rows(&folder, "rows.jsonl", &[row.clone(), row]);
        let run = folder.join("run");
        let config = write(&folder, "run.yaml", CONFIG);
        told(
            program()
                .arg("train")
                .arg(config)
                .arg("--run-dir")
                .arg(&run),
        )
        .fine();
        let checkpoint = run.join("checkpoints/sft/final");
        let row = json!({"id": 0, "images": ["picture.png"], "completion": "<svg width=\"10\"/>", "messages": [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Draw this."}]}]});
        let data = write_rows(&folder, "asked.jsonl", &[row]);
        let out = folder.join("out.jsonl");
        let mut ours = program();
        ours.arg("logprobs")
            .arg("--model")
            .arg(&checkpoint)
            .arg("--data")
            .arg(data);
        told(ours.arg("--out").arg(&out).args(["--device", "cpu"])).fine();
        let worst = difference(
            &python,
            SCRIPT,
            &[Path::new("--check"), &checkpoint, &picture, &out],
        );
        println!("{family}: {worst:e}");
        assert!(worst < 1e-4, "{family}: {worst:e}");
    }
}

#[test]
fn transformers_loads_the_end_of_a_run_with_the_same_answers() {
    let Some(python) = python() else {
        skip!("{NO_PYTHON}");
    };
    let folder = scratch("checkpoint_of_a_run");
    let asked: Vec<_> = ["a red circle", "a blue square"]
        .iter()
        .enumerate()
        .map(|(id, prompt)| {
            let completion = drawing("<circle cx=\"20\" cy=\"32\" r=\"12\" fill=\"red\"/>");
            json!({"id": id, "messages": [{"role": "user", "content": prompt}], "completion": completion})
        })
        .collect();
    let (data, out) = (
        write_rows(&folder, "asked.jsonl", &asked),
        folder.join("out.jsonl"),
    );
    let mut ours = program();
    ours.args(["logprobs", "--device", "cpu", "--model"])
        .arg(tiny().model());
    told(ours.arg("--data").arg(&data).arg("--out").arg(&out)).fine();
    let worst = difference(
        &python,
        SCRIPT,
        &[Path::new("--check-run"), &tiny().model(), &data, &out],
    );
    println!("the end of a run: {worst:e}");
    assert!(worst < 1e-4, "{worst:e}");
}
