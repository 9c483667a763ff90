//! `svgrl eval sarena-icon` against independent packages on the same PNGs (see make.py), every quirk that changes a number
//! among them: black pictures for missing ones, uniform windows, LPIPS' normalisation, means of all tokens, items without
//! a value, answers by their first letter.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::program::{Told, program, rows, scratch, told, write};
use crate::parity::perceptual::{ALEX, ALEX_WIDTHS, inception_file, lpips_folder};
use crate::support::fixture;
use crate::support::scores::same_score;

/// The config of the tiny suite, with networks of this test's own.
pub fn config(folder: &Path, name: &str) -> PathBuf {
    let root = fixture("parity");
    let encoders = root.join("encoders");
    let text = format!(
        "data: {}\ndevice: cpu\nthreads: 1\nbatch: 3\ntokenizer: {}\nbootstrap: {{samples: 200}}\nencoders:\n  clip_l14: {}\n  clip_b32: {}\n  dinov2: {}\n  lpips: {}\n  inception: {}\n",
        root.join("sarena/Icon").display(),
        crate::cli::tiny::TOKENIZER,
        encoders.join("clip").display(),
        encoders.join("longclip_hf").display(),
        encoders.join("dinov2").display(),
        lpips_folder(name, &ALEX, ALEX_WIDTHS).display(),
        inception_file(&format!("inception_{name}")).display(),
    );
    write(folder, "sarena.yaml", &text)
}

fn eval(config: &Path, predictions: &Path, out: &Path) -> Told {
    let mut command = program();
    command
        .args(["eval", "sarena-icon", "--config"])
        .arg(config);
    command.arg("--predictions").arg(predictions);
    told(command.arg("--out").arg(out))
}

#[test]
fn numbers_are_those_of_the_packages() {
    let folder = scratch("sarena_parity");
    let out = folder.join("out");
    let config = config(&folder, "sarena_parity");
    let said = eval(&config, &fixture("parity/sarena/predictions"), &out).fine();
    let text = std::fs::read_to_string(fixture("parity/sarena/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let scores: Value =
        serde_json::from_str(&std::fs::read_to_string(out.join("scores.json")).unwrap()).unwrap();
    let mut seen = 0;
    for (task, metrics) in expected["means"].as_object().unwrap() {
        let own = scores["tasks"][task]["metrics"].as_object().unwrap();
        for (metric, want) in metrics.as_object().unwrap() {
            same_score(&format!("{task} {metric}"), &own[metric]["value"], want);
            seen += 1;
        }
        assert_eq!(
            own.len(),
            metrics.as_object().unwrap().len(),
            "{task}: {own:?}"
        );
    }
    for (name, want) in expected["overall"].as_object().unwrap() {
        same_score(name, &scores[name], want);
        let interval = &scores["intervals"][name];
        assert!(
            interval["low"].as_f64() <= scores[name].as_f64(),
            "{name}: {interval}"
        );
        assert!(
            interval["high"].as_f64() >= scores[name].as_f64(),
            "{name}: {interval}"
        );
    }
    assert!(seen > 25, "{seen}");
    let items = rows(&out.join("items.jsonl"));
    for (task, own) in expected["items"].as_object().unwrap() {
        for (id, values) in own.as_object().unwrap() {
            let item = items
                .iter()
                .find(|item| item["task"] == *task && item["id"] == *id)
                .unwrap();
            let got = item["values"].as_object().unwrap();
            for (metric, want) in values.as_object().unwrap() {
                same_score(&format!("{task} {id} {metric}"), &got[metric], want);
            }
            assert_eq!(got.len(), values.as_object().unwrap().len(), "{item}");
        }
    }
    assert_eq!(items.len(), 17);
    // What has no value is told and counted.
    let rotate = &scores["tasks"]["edit/rotate"];
    assert_eq!(rotate["metrics"]["ssim"]["left_out"], json!(1));
    assert_eq!(rotate["metrics"]["ssim"]["items"], json!(2));
    let unequal = items
        .iter()
        .find(|item| item["task"] == "edit/rotate" && item["id"] == "2")
        .unwrap();
    assert!(
        unequal["failures"]["psnr"]
            .as_str()
            .unwrap()
            .contains("200x200")
    );
    assert_eq!(scores["tasks"]["text2svg"]["valid_frac"], json!(0.75));
    assert_eq!(
        scores["tasks"]["text2svg"]["reasons"],
        json!({"no_prediction": 1})
    );
    assert_eq!(scores["notes"], json!([]), "{}", said.err);
    for file in ["table.md", "table.csv"] {
        let table = std::fs::read_to_string(out.join(file)).unwrap();
        assert!(
            table.contains("final") && table.contains("clip_t2i"),
            "{table}"
        );
    }
    assert!(said.out.contains("| edit/flip | lpips |"), "{}", said.out);
}
