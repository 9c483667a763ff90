//! Judging a folder of predictions goes on where it was after a kill, and judges anew what is no longer the same.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::program::{program, rows, scratch, told, write, write_rows};
use super::tiny::drawing;
use crate::parity::perceptual::{ALEX, ALEX_WIDTHS, inception_file, lpips_folder};
use crate::support::fixture;

const ITEMS: usize = 9;

fn square(at: usize, colour: &str) -> String {
    drawing(&format!(
        r#"<rect x="{at}" y="8" width="20" height="24" fill="{colour}"/>"#
    ))
}

/// A suite of words and pictures with as many predictions, judged in small batches.
fn suite(folder: &Path) -> (PathBuf, PathBuf) {
    let generation = folder.join("Icon/generation");
    std::fs::create_dir_all(generation.join("images")).unwrap();
    let shown = fixture("parity/sarena/Icon/generation/images");
    let ids = || 1..=ITEMS;
    for id in ids() {
        let from = shown.join(format!("{}.png", 1 + id % 4));
        std::fs::copy(from, generation.join(format!("images/{id}.png"))).unwrap();
    }
    let asked = |id: usize| json!({"id": id, "image": format!("images/{id}.png"), "conversations": [{"value": "draw"}]});
    let all: Vec<Value> = ids().map(asked).collect();
    write_rows(&generation, "text2svg.jsonl", &all);
    write_rows(&generation, "img2svg.jsonl", &all);
    let caption = |id: usize| json!({"image": format!("{id}.png"), "caption": [{"generated_text": format!("shape {id}")}]});
    write_rows(
        &generation,
        "caption.jsonl",
        &ids().map(caption).collect::<Vec<_>>(),
    );
    let predictions = folder.join("predictions");
    for task in ["text2svg", "img2svg"] {
        let answer = |id: usize| json!({"id": id, "answer": square(id, "teal")});
        let own = predictions.join(task);
        std::fs::create_dir_all(&own).unwrap();
        write_rows(&own, "output.jsonl", &ids().map(answer).collect::<Vec<_>>());
    }
    let encoders = fixture("parity/encoders");
    let text = format!(
        "data: {}\ndevice: cpu\nthreads: 1\nbatch: 2\nbootstrap: {{samples: 50}}\nencoders:\n  clip_l14: {}\n  clip_b32: {}\n  dinov2: {}\n  lpips: {}\n  inception: {}\n",
        folder.join("Icon").display(),
        encoders.join("clip").display(),
        encoders.join("longclip_hf").display(),
        encoders.join("dinov2").display(),
        lpips_folder("eval_interrupted", &ALEX, ALEX_WIDTHS).display(),
        inception_file("inception_eval_interrupted").display(),
    );
    (write(folder, "suite.yaml", &text), predictions)
}

fn eval(config: &Path, predictions: &Path, out: &Path) -> std::process::Command {
    let mut command = program();
    command
        .args(["eval", "sarena-icon", "--config"])
        .arg(config);
    command.arg("--predictions").arg(predictions);
    command.arg("--out").arg(out);
    command
}

fn lines(path: &Path) -> usize {
    let text = std::fs::read(path).unwrap_or_default();
    text.iter().filter(|byte| **byte == b'\n').count()
}

/// Numbers of every item and of the tasks as wholes, within float32's rounding of other batches.
fn same(one: &Path, other: &Path) {
    let numbers = |out: &Path| -> Vec<(String, f64)> {
        let text = std::fs::read_to_string(out.join("scores.json")).unwrap();
        let scores: Value = serde_json::from_str(&text).unwrap();
        let tasks = scores["tasks"].as_object().unwrap().clone();
        let wholes = tasks.iter().flat_map(|(task, own)| {
            let metrics = own["metrics"].as_object().unwrap().clone();
            let number = |(metric, value): (String, Value)| {
                (format!("{task} {metric}"), value["value"].as_f64().unwrap())
            };
            metrics.into_iter().map(number).collect::<Vec<_>>()
        });
        let items = rows(&out.join("items.jsonl"));
        let of_items = items.iter().flat_map(|item| {
            let place = format!("{} {}", item["task"], item["id"]);
            let values = item["values"].as_object().unwrap().clone();
            let number = move |(metric, value): (String, Value)| {
                (format!("{place} {metric}"), value.as_f64().unwrap())
            };
            values.into_iter().map(number)
        });
        wholes.chain(of_items).collect()
    };
    let (one, other) = (numbers(one), numbers(other));
    assert!(one.len() > 70 && one.len() == other.len());
    for ((name, a), (also, b)) in one.iter().zip(&other) {
        assert!(
            name == also && (a - b).abs() <= 1e-4 * a.abs().max(1.0),
            "{name}: {a} {also}: {b}"
        );
    }
}

#[test]
fn what_was_judged_before_a_kill_is_taken_over_and_what_has_changed_is_not() {
    let folder = scratch("eval_interrupted");
    let (config, predictions) = suite(&folder);
    let (whole, killed) = (folder.join("whole"), folder.join("killed"));
    told(&mut eval(&config, &predictions, &whole)).fine();
    assert_eq!(lines(&whole.join("scored.jsonl")), 2 * ITEMS);
    let mut child = eval(&config, &predictions, &killed)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = killed.join("scored.jsonl");
    while lines(&journal) < 4 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = lines(&journal);
    assert!(before < 2 * ITEMS && !killed.join("scores.json").exists());
    let kept = std::fs::read_to_string(&journal).unwrap();
    let said = told(&mut eval(&config, &predictions, &killed)).fine();
    let taken = format!("{before} items were judged before and are taken over");
    assert!(said.err.contains(&taken), "{}", said.err);
    let first: String = kept
        .lines()
        .take(before)
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(
        std::fs::read_to_string(&journal)
            .unwrap()
            .starts_with(&first)
    );
    same(&whole, &killed);
    // One prediction is another one, and one reference.
    let list = predictions.join("img2svg/output.jsonl");
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(
        &list,
        text.replace(&square(5, "teal").replace('"', "\\\""), "none"),
    )
    .unwrap();
    let images = folder.join("Icon/generation/images");
    std::fs::copy(images.join("1.png"), images.join("2.png")).unwrap();
    let said = told(&mut eval(&config, &predictions, &killed)).fine();
    let taken = format!(
        "{} items were judged before and are taken over",
        2 * ITEMS - 3
    );
    assert!(
        said.err.contains(&taken) && said.err.contains("; 3 are not what they were"),
        "{}",
        said.err
    );
    let fresh = folder.join("fresh");
    told(&mut eval(&config, &predictions, &fresh)).fine();
    same(&fresh, &killed);
    // Judged by another network all is new.
    let other = fixture("parity/encoders/dinov2_giant");
    let text = std::fs::read_to_string(&config).unwrap();
    let dino = fixture("parity/encoders/dinov2");
    let text = text.replace(
        &format!("{}\n", dino.display()),
        &format!("{}\n", other.display()),
    );
    std::fs::write(&config, text).unwrap();
    let said = told(&mut eval(&config, &predictions, &killed)).fine();
    let told = "0 items were judged before and are taken over";
    assert!(
        said.err.contains(told) && said.err.contains(&format!("; {} are not", 2 * ITEMS)),
        "{}",
        said.err
    );
}
