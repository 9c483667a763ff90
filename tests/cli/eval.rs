//! `svgrl eval`: published components, suites of the published layout with everything that may be wrong in them, and
//! results side by side. The numbers of networks are judged in parity/sarena.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, copy, program, rows, scratch, svgrl, told, write, write_rows};
use super::tiny::TOKENIZER;
use crate::support::fixture;

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn components() -> Value {
    json!({
        "sketch": {"judge": 46.0, "mse": 11.99, "dino": 88.25, "lpips": 39.37},
        "edit": {"judge": 67.0, "mse": 8.36, "dino": 93.94, "lpips": 21.34},
        "text": {"judge": 72.8, "clip": 30.55, "dino": 87.46},
        "caption": {"judge": 35.8, "bge_m3": 79.76, "rouge_l": 25.58},
    })
}

fn vectorgym(folder: &Path, components: &Value) -> Told {
    let file = write(folder, "components.json", &components.to_string());
    let mut command = program();
    command
        .args(["eval", "vectorgym", "--components"])
        .arg(file);
    told(command.arg("--out").arg(folder.join("out")))
}

#[test]
fn published_components_are_scored() {
    let folder = scratch("eval_vectorgym");
    let said = vectorgym(&folder, &components()).fine();
    let scores = json_of(&folder.join("out/scores.json"));
    assert!((scores["overall"].as_f64().unwrap() - 66.05).abs() < 0.01);
    let names: Vec<&String> = scores.as_object().unwrap().keys().collect();
    assert_eq!(names, ["sketch", "edit", "text", "caption", "overall"]);
    assert!(
        said.out.contains("| overall | score | 66.0"),
        "{}",
        said.out
    );
    let csv = std::fs::read_to_string(folder.join("out/table.csv")).unwrap();
    assert!(
        csv.starts_with("task,metric,value\nsketch,score,70.72"),
        "{csv}"
    );
}

#[test]
fn wrong_components_are_named_by_file_and_key() {
    let folder = scratch("eval_wrong");
    let mut wrong = components();
    wrong["edit"]["mse"] = json!(-1);
    wrong["caption"].as_object_mut().unwrap().remove("bge_m3");
    vectorgym(&folder, &wrong).refused(
        2,
        &[
            "components.json: edit.mse: must be a number from 0 to 100, got -1",
            "components.json: caption.bge_m3: is missing",
        ],
    );
    assert!(!folder.join("out").exists());
    let file = write(&folder, "broken.json", "{");
    let out = folder.join("out");
    let said = told(
        program()
            .args(["eval", "vectorgym", "--components"])
            .arg(&file)
            .arg("--out")
            .arg(&out),
    );
    said.refused(2, &["broken.json: is not JSON"]);
}

#[test]
fn what_cannot_be_asked_says_what_can() {
    svgrl("eval sarena-icons --out x", &[]).refused(2, &["sarena-icon, sarena-illustration"]);
    svgrl("eval sgp-genbench --out x", &[]).refused(2, &["--config FILE: is needed"]);
    svgrl("eval sarena-icon --out x", &[]).refused(2, &["--config FILE: is needed"]);
    svgrl("eval compare --config c --out x", &[])
        .refused(2, &["--config: means nothing to `compare`"]);
    svgrl("eval compare a --out x", &[]).refused(2, &["a/scores.json"]);
    svgrl("eval vectorgym folder --out x", &[]).refused(2, &["folder: folders of results"]);
    svgrl("eval c.yaml --out x", &[]).refused(2, &["--checkpoint: is needed"]);
    svgrl("eval c.yaml --checkpoint m --model n --out x", &[])
        .refused(2, &["--model: means nothing"]);
    let folder = scratch("eval_asked");
    let asked = |text: &str| {
        let config = write(&folder, "suite.yaml", text);
        let mut command = program();
        command
            .args(["eval", "sarena-icon", "--predictions", ".", "--config"])
            .arg(config);
        told(command.arg("--out").arg(folder.join("out")))
    };
    asked("data: nowhere\n").refused(2, &["data: ", "nowhere: no such folder"]);
    asked("batch: 3\n").refused(2, &["data: is needed"]);
    asked("data: .\nencoder: {}\n").refused(2, &["suite.yaml:2", "encoders"]);
    asked("data: .\nbootstrap: {confidence: 95}\n").refused(
        2,
        &["suite.yaml:2: bootstrap.confidence", "below 1, got 95"],
    );
}

/// A suite without networks: pixels and tokens alone.
fn bare(folder: &Path, data: &Path) -> PathBuf {
    let text = format!(
        "data: {}\ndevice: cpu\ntokenizer: {TOKENIZER}\nbootstrap: {{samples: 100}}\n",
        data.display()
    );
    write(folder, "bare.yaml", &text)
}

fn judged(suite: &str, config: &Path, predictions: &Path, out: &Path) -> Told {
    let mut command = program();
    command.args(["eval", suite, "--config"]).arg(config);
    command.arg("--predictions").arg(predictions);
    told(command.arg("--out").arg(out))
}

const SQUARE: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><rect width='5' height='5' fill='red'/></svg>";

#[test]
fn rows_that_are_wrong_are_told_and_the_rest_is_judged() {
    let folder = scratch("eval_bad_rows");
    let data = folder.join("Icon");
    copy(&fixture("parity/sarena/Icon"), &data);
    let generation = data.join("generation");
    let list = generation.join("img2svg.jsonl");
    let text = std::fs::read_to_string(&list).unwrap();
    let more = "{\"conversations\": []}\n[1]\n{\"id\": 1, \"image\": \"x\"}\n{\"id\": 9, \"image\": \"images/9.png\"}\n{\"id\": 8, \"image\": \"images/8.png\", \"conversations\": [{\"value\": \"draw\"}]}\n";
    std::fs::write(&list, text + more).unwrap();
    std::fs::remove_file(generation.join("text2svg.jsonl")).unwrap();
    let predictions = folder.join("predictions");
    std::fs::create_dir_all(predictions.join("img2svg")).unwrap();
    let answers = [
        json!({"id": 1, "answer": format!("<think>a</think>```svg\n{SQUARE}\n```")}),
        json!({"id": 2, "answer": "<svg xmlns='http://www.w3.org/2000/svg'><g></svg>"}),
        json!({"id": 3, "answer": "I cannot draw"}),
        json!({"answer": SQUARE}),
        json!({"id": 77, "answer": SQUARE}),
        json!({"id": 8, "answer": SQUARE}),
    ];
    write_rows(&predictions.join("img2svg"), "output.jsonl", &answers);
    let out = folder.join("out");
    let said = judged("sarena-icon", &bare(&folder, &data), &predictions, &out).fine();
    let scores = json_of(&out.join("scores.json"));
    let notes: Vec<&str> = scores["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| note.as_str().unwrap())
        .collect();
    for part in [
        "img2svg.jsonl:5: id: must be a number or text",
        "img2svg.jsonl:6: must be a JSON object",
        "img2svg.jsonl:7: id 1 stands twice",
        "img2svg.jsonl:8: conversations.0.value: must be text",
        "output.jsonl:4: id: must be a number or text",
        "img2svg: 1 answers belong to no item of the suite (the first: id 77)",
        "text2svg.jsonl",
        "edit/flip: no folder",
        "understanding: no folder",
        "img2svg: dino is left out: the config has no encoders.dinov2",
        "img2svg: lpips is left out: the config has no encoders.lpips",
    ] {
        assert!(
            notes.iter().any(|note| note.contains(part)),
            "{part}: {notes:#?}"
        );
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let task = &scores["tasks"]["img2svg"];
    assert_eq!((&task["items"], &task["valid"]), (&json!(5), &json!(2)));
    assert_eq!(
        task["reasons"],
        json!({"malformed_xml": 1, "no_svg": 1, "no_prediction": 1})
    );
    assert_eq!(task["metrics"]["success_rate"]["value"], json!(40.0));
    // Of item 8 there is no reference: no number of pixels, but tokens.
    assert_eq!(task["metrics"]["ssim"]["items"], json!(4));
    assert_eq!(task["metrics"]["ssim"]["left_out"], json!(1));
    assert_eq!(task["metrics"]["tokens"]["items"], json!(2));
    assert_eq!(scores["final"], Value::Null);
    let items = rows(&out.join("items.jsonl"));
    let item = |id: &str| items.iter().find(|item| item["id"] == id).unwrap();
    assert!(
        item("8")["failures"]["psnr"]
            .as_str()
            .unwrap()
            .contains("8.png")
    );
    // A missing picture is a black one, and is counted.
    assert_eq!(item("3")["values"]["ssim"], item("3")["values"]["ssim"]);
    assert!(
        item("3")["values"]["ssim"].as_f64().unwrap()
            < item("1")["values"]["ssim"].as_f64().unwrap()
    );
    assert_eq!(item("3")["valid"], json!(false));
}

#[test]
fn nothing_to_judge_is_an_error_with_every_reason() {
    let folder = scratch("eval_nothing");
    let empty = folder.join("empty");
    std::fs::create_dir_all(&empty).unwrap();
    let config = bare(&folder, &fixture("parity/sarena/Icon"));
    let said = judged("sarena-icon", &config, &empty, &folder.join("out"));
    said.refused(2, &["text2svg: no folder", "nothing there to judge"]);
    assert!(!folder.join("out").exists());
}

#[test]
fn drawn_and_given_pictures_are_compared_by_items() {
    let folder = scratch("eval_compare");
    let config = bare(&folder, &fixture("parity/sarena/Icon"));
    let given = fixture("parity/sarena/predictions");
    let (first, second) = (folder.join("first"), folder.join("second"));
    judged("sarena-icon", &config, &given, &first).fine();
    let worse = folder.join("worse");
    copy(&given, &worse);
    std::fs::remove_file(worse.join("img2svg/images/1.png")).unwrap();
    judged("sarena-icon", &config, &worse, &second).fine();
    let again = folder.join("again");
    judged("sarena-icon", &config, &worse, &again).fine();
    for file in ["scores.json", "items.jsonl", "table.md", "table.csv"] {
        let read = |of: &Path| std::fs::read(of.join(file)).unwrap();
        assert!(
            read(&second) == read(&again),
            "{file} differs between equal evaluations"
        );
    }
    let both = folder.join("both");
    let mut command = program();
    command.args(["eval", "compare"]).args([&first, &second]);
    let said = told(command.arg("--out").arg(&both)).fine();
    let scores = json_of(&both.join("scores.json"));
    let row = scores["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["task"] == "img2svg" && row["metric"] == "psnr")
        .unwrap();
    let difference = &row["differences"][0];
    assert!(difference["value"].as_f64().unwrap() < -20.0, "{row}");
    assert!(
        difference["interval"]["high"].as_f64().unwrap() <= 0.0,
        "{row}"
    );
    assert_eq!(difference["items"], json!(4));
    assert!(said.out.contains("| img2svg | psnr |"), "{}", said.out);
    let csv = std::fs::read_to_string(both.join("table.csv")).unwrap();
    assert!(
        csv.lines()
            .next()
            .unwrap()
            .ends_with("difference low,".to_owned().as_str())
            || csv.contains("difference items")
    );
    // Results of several suites have nothing to compare.
    vectorgym(&folder, &components()).fine();
    let mut command = program();
    command
        .args(["eval", "compare"])
        .args([&first, &folder.join("out")]);
    told(command.arg("--out").arg(&both)).refused(2, &["published components"]);
}

#[test]
fn chemistry_has_no_captions_and_no_tasks_of_icons() {
    let folder = scratch("eval_chemistry");
    let data = folder.join("chemistry");
    copy(&fixture("parity/sarena/Icon/generation"), &data);
    std::fs::remove_file(data.join("caption.jsonl")).unwrap();
    let out = folder.join("out");
    let predictions = fixture("parity/sarena/predictions");
    judged(
        "sarena-chemistry",
        &bare(&folder, &data),
        &predictions,
        &out,
    )
    .fine();
    let scores = json_of(&out.join("scores.json"));
    let tasks: Vec<&String> = scores["tasks"].as_object().unwrap().keys().collect();
    assert_eq!(tasks, ["text2svg", "img2svg"]);
    let notes = scores["notes"].to_string();
    assert!(
        !notes.contains("clip_t2i") && !notes.contains("caption"),
        "{notes}"
    );
    assert!(notes.contains("text2svg: clip_i2i is left out"), "{notes}");
    // With captions, they are asked for.
    let out = folder.join("illustration");
    judged(
        "sarena-illustration",
        &bare(&folder, &data),
        &predictions,
        &out,
    )
    .fine();
    let notes = json_of(&out.join("scores.json"))["notes"].to_string();
    assert!(notes.contains("caption.jsonl"), "{notes}");
}

#[test]
fn refinements_are_named_after_their_pictures() {
    let folder = scratch("eval_sophia");
    let data = folder.join("sophia");
    copy(
        &fixture("parity/sarena/Icon/generation/images"),
        &data.join("images"),
    );
    let row = |picture: &str| json!({"instruction": "Refine <image>. Instruction: it", "input": "", "output": format!("```svg\n{SQUARE}\n```"), "images": [picture]});
    let mut wrong = row("images/4.png");
    wrong["instruction"] = json!(4);
    let list = [
        row("images/1.png"),
        row("images/2.png"),
        row("images/7.png"),
        json!({"instruction": "x", "images": []}),
        wrong,
    ];
    write_rows(&data, "cot_refinement_test.jsonl", &list);
    let predictions = folder.join("predictions");
    copy(&fixture("parity/sarena/predictions/img2svg"), &predictions);
    std::fs::remove_file(predictions.join("svg/2.svg")).unwrap();
    let out = folder.join("out");
    let said = judged("sophia-refine", &bare(&folder, &data), &predictions, &out).fine();
    let scores = json_of(&out.join("scores.json"));
    // One without its SVG did not render; one without reference has no number but counts as missing.
    assert_eq!(scores["tasks"]["refinement"]["items"], json!(3));
    let rate = scores["success_rate"].as_f64().unwrap();
    assert!((rate - 100.0 / 3.0).abs() < 1e-9, "{rate}");
    assert_eq!(
        scores["tasks"]["refinement"]["metrics"]["ssim"]["left_out"],
        json!(1)
    );
    assert!(scores["tokens"].as_f64().unwrap() > 10.0);
    for part in [
        "test.jsonl:4: images: must be a list",
        "test.jsonl:5: instruction: must be text, got 4",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let items = rows(&out.join("items.jsonl"));
    assert_eq!(items[0]["values"]["ssim"], json!(1.0));
    assert!(items[1]["reason"].as_str().unwrap().starts_with("no_svg"));
}
