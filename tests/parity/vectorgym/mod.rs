//! `svgrl eval vectorgym` on folders as the released code leaves them, against independent packages on the same PNGs (see
//! make.py), and a judge that answers, refuses and talks nonsense.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::program::{Told, program, rows, scratch, told, write};
use crate::cli::tiny::TOKENIZER;
use crate::parity::perceptual::{ALEX, ALEX_WIDTHS, lpips_folder};
use crate::support::chat_server::chat_server;
use crate::support::fixture;
use crate::support::scores::same_score;

/// A judge that gives 7 of 10, but nothing to use for wishes of triangles; it takes that pictures follow the words.
fn judge() -> String {
    chat_server(move |question| {
        let content = question["messages"][0]["content"].as_array().unwrap();
        let words = content[0]["text"].as_str().unwrap();
        let pictures = match words {
            words if words.contains("captions") => 0,
            words if words.contains("was to show") => 1,
            _ => 2,
        };
        assert_eq!(content.len(), 1 + pictures, "{words}");
        assert_eq!(
            (&question["temperature"], &question["max_tokens"]),
            (&json!(0.0), &json!(500))
        );
        let said = match words.contains("triangles") {
            true => "no idea",
            false => "score: 7\nIt is near.",
        };
        json!(said)
    })
}

fn eval(folder: &Path, judge: &str, out: &Path) -> Told {
    let encoders = fixture("parity/encoders");
    let text = format!(
        "device: cpu\nthreads: 1\ntokenizer: {TOKENIZER}\nbootstrap: {{samples: 100}}\nencoders:\n  clip_b32: {}\n  dinov2: {}\n  bge_m3: {}\n  lpips: {}\n{judge}",
        encoders.join("longclip_hf").display(),
        encoders.join("dinov2").display(),
        encoders.join("bge_m3").display(),
        lpips_folder("vectorgym", &ALEX, ALEX_WIDTHS).display(),
    );
    let config = write(folder, "vectorgym.yaml", &text);
    let mut command = program();
    command.args(["eval", "vectorgym", "--config"]).arg(config);
    command
        .arg("--predictions")
        .arg(fixture("parity/vectorgym/predictions"));
    told(command.arg("--out").arg(out))
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn numbers_are_those_of_the_packages_and_the_judge_s() {
    let folder = scratch("vectorgym_parity");
    let out = folder.join("out");
    let asked = format!(
        "judge: {{endpoint: \"{}\", model: m, retries: 0}}\n",
        judge()
    );
    eval(&folder, &asked, &out).fine();
    let expected = json_of(&fixture("parity/vectorgym/expected.json"));
    let items = rows(&out.join("items.jsonl"));
    let scores = json_of(&out.join("scores.json"));
    let mut seen = 0;
    for (task, own) in expected.as_object().unwrap() {
        for (id, values) in own.as_object().unwrap() {
            let item = items
                .iter()
                .find(|item| item["task"] == *task && item["id"] == *id)
                .unwrap();
            for (metric, want) in values.as_object().unwrap() {
                let got = &item["values"][metric];
                same_score(&format!("{task} {id} {metric}"), got, want);
                seen += 1;
            }
            let judged = item["values"].get("judge").is_some();
            let unusable = task != "sketch" && id == "c3";
            assert_eq!(judged, !unusable, "{item}");
            if unusable {
                assert!(
                    item["failures"]["judge"]
                        .as_str()
                        .unwrap()
                        .contains("no idea"),
                    "{item}"
                );
            }
        }
    }
    assert!(seen > 35, "{seen}");
    assert_eq!(items.len(), 12);
    let mean = |task: &str, metric: &str| {
        scores["tasks"][task]["metrics"][metric]["value"]
            .as_f64()
            .unwrap()
    };
    assert_eq!(mean("edit", "judge"), 70.0);
    assert_eq!(
        scores["tasks"]["edit"]["metrics"]["judge"]["left_out"],
        json!(1)
    );
    assert_eq!(scores["tasks"]["edit"]["reasons"], json!({"no_compile": 1}));
    // One caption is right, one is empty.
    let caption = |id: &str| {
        &items
            .iter()
            .find(|item| item["task"] == "caption" && item["id"] == id)
            .unwrap()["values"]
    };
    assert_eq!(caption("a1")["rouge_l"], json!(1.0));
    assert!((caption("a1")["bge_m3"].as_f64().unwrap() - 1.0).abs() < 1e-6);
    assert_eq!(
        (&caption("c3")["rouge_l"], &caption("c3")["bge_m3"]),
        (&json!(0.0), &json!(0.0))
    );
    assert!((caption("b2")["rouge_l"].as_f64().unwrap() - 0.25).abs() < 1e-12);
    let want = [
        (
            "sketch",
            (70.0 + 100.0 * mean("sketch", "dino") + 100.0 - 100.0 * mean("sketch", "mse") + 100.0
                - 100.0 * mean("sketch", "lpips"))
                / 4.0,
        ),
        (
            "text",
            (70.0 + mean("text", "clip") + 100.0 * mean("text", "dino")) / 3.0,
        ),
        (
            "caption",
            (70.0 + 100.0 * mean("caption", "bge_m3") + 100.0 * mean("caption", "rouge_l")) / 3.0,
        ),
    ];
    for (name, want) in want {
        let got = scores[name].as_f64().unwrap();
        assert!((got - want).abs() < 1e-9, "{name}: {got} {want}");
    }
    let four = ["sketch", "edit", "text", "caption"].map(|name| scores[name].as_f64().unwrap());
    assert!((scores["overall"].as_f64().unwrap() - four.iter().sum::<f64>() / 4.0).abs() < 1e-9);
}

#[test]
fn without_a_judge_scores_that_need_it_are_null() {
    let folder = scratch("vectorgym_no_judge");
    let out = folder.join("out");
    eval(&folder, "", &out).fine();
    let scores = json_of(&out.join("scores.json"));
    assert_eq!(
        (&scores["overall"], &scores["text"]),
        (&Value::Null, &Value::Null)
    );
    assert!(scores["tasks"]["text"]["metrics"]["clip"]["value"].is_number());
    assert!(scores["tasks"]["text"]["metrics"].get("judge").is_none());
    let refused = eval(
        &folder,
        "judge: {endpoint: nowhere}\n",
        &folder.join("other"),
    );
    refused.refused(2, &["judge.endpoint: must be the address"]);
}
