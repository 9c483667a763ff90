//! Checkpoints of policies that see, as transformers' Auto classes load them; where SVGRL_TEST_PYTHON names a Python
//! with torch and transformers.

use std::process::Command;

use serde_json::json;
use svg::Raster;

use crate::cli::program::{program, scratch, told, write, write_rows};
use crate::cli::tiny::drawing;
use crate::support::fixture;

const CONFIG: &str = "\
device: cpu
model: {path: model}
data: {sources: {rows: {format: jsonl, path: rows.jsonl, task: look}}}
tasks: {look: {type: image_to_svg, templates: ['{image}Draw this.'], render: {size: 32}}}
stages: [{name: sft, algorithm: sft, steps: 1, batch: {size: 2}, optimizer: {learning_rate: 1.0e-3}}]
";

#[test]
fn transformers_loads_processor_and_policy_of_a_checkpoint_with_the_same_answers() {
    let Ok(python) = std::env::var("SVGRL_TEST_PYTHON") else {
        println!("not run: SVGRL_TEST_PYTHON is not set");
        return;
    };
    let script = fixture("parity/checkpoints/make.py");
    let words = fixture("../configs/tiny_vlm_tokenizer/tokenizer.json");
    for family in ["qwen3_vl", "qwen2_5_vl", "internvl"] {
        let folder = scratch(&format!("checkpoint_of_{family}"));
        let made = Command::new(&python)
            .arg(&script)
            .arg(family)
            .arg(folder.join("model"))
            .arg(&words)
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
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
        let theirs = Command::new(&python)
            .arg(&script)
            .arg("--check")
            .args([&checkpoint, &picture, &out])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&theirs.stdout);
        let worst: f64 = text
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&theirs.stderr)));
        println!("{family}: {worst:e}");
        assert!(worst < 1e-4, "{family}: {worst:e}");
    }
}
