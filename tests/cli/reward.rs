//! `svgrl reward`: one scored row for each row, in order; a bad SVG is data, a bad row is not.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, keys, program, rows, scratch, svgrl, told, write, write_rows};
use super::tiny::{drawing, tiny};

const CONFIG: &str = "\
model: {tokenizer: TOKENIZER, init: {}}
data: {sources: {shapes: {format: shapes, task: draw}}}
tasks:
  draw:
    render: {size: 32}
    rubric:
      failure_value: -1
      rewards: [{type: mse, weight: [[0, 1], [10, 3]]}, {type: code_efficiency, weight: 0.5, clip: [0, 1]}]
  fenced:
    completion: {format: ctrl_s}
    rubric: {truncated: -0.5, rewards: [{type: format}]}
stages: [{algorithm: grpo}]
";

struct Case(PathBuf);

impl Case {
    fn new(name: &str) -> Self {
        let folder = scratch(name);
        write(
            &folder,
            "rewards.yaml",
            &CONFIG.replace("TOKENIZER", super::tiny::TOKENIZER),
        );
        Self(folder)
    }

    fn tell(&self, data: &Path, flags: &[&str]) -> Told {
        let mut command = program();
        command
            .arg("reward")
            .arg("--config")
            .arg(self.0.join("rewards.yaml"))
            .arg("--data")
            .arg(data);
        told(
            command
                .arg("--out")
                .arg(self.0.join("out.jsonl"))
                .args(flags),
        )
    }

    fn rows(&self, data: &[Value], flags: &[&str]) -> Vec<Value> {
        self.tell(&write_rows(&self.0, "data.jsonl", data), flags)
            .fine();
        rows(&self.0.join("out.jsonl"))
    }
}

fn circle(colour: &str) -> String {
    drawing(&format!("<circle cx='32' cy='32' r='20' fill='{colour}'/>"))
}

fn total(row: &Value) -> f64 {
    row["total"].as_f64().unwrap()
}

#[test]
fn rows_keep_their_order_and_a_bad_svg_is_a_row() {
    let case = Case::new("reward_order");
    let target = circle("red");
    let row = |id: Value, completion: &str| json!({"id": id, "prompt": "a red circle", "completion": completion, "reference": {"svg": target}});
    let out = case.rows(
        &[
            row(json!("same"), &target),
            row(json!(2), "<svg"),
            row(json!("other"), &circle("blue")),
            row(json!(null), "words"),
            row(json!("empty"), ""),
        ],
        &[],
    );
    assert_eq!(
        out.iter().map(|row| row["id"].clone()).collect::<Vec<_>>(),
        [
            json!("same"),
            json!(2),
            json!("other"),
            json!(null),
            json!("empty")
        ]
    );
    for row in &out {
        assert_eq!(
            keys(row),
            ["id", "total", "parts", "valid", "reason", "render_ms"]
        );
        assert_eq!(keys(&row["parts"]), ["mse", "code_efficiency"]);
        assert_eq!(
            row["valid"] == json!(true),
            row["reason"].is_null(),
            "{row}"
        );
    }
    let same = &out[0]["parts"];
    let weighted = same["mse"].as_f64().unwrap() + 0.5 * same["code_efficiency"].as_f64().unwrap();
    assert!((total(&out[0]) - weighted).abs() < 1e-12);
    assert!(
        total(&out[0]) > total(&out[2]),
        "the right colour earns more"
    );
    for bad in [1, 3, 4] {
        assert_eq!(
            (out[bad]["valid"].clone(), total(&out[bad])),
            (json!(false), -1.0)
        );
    }
}

#[test]
fn task_step_and_truncation_come_from_the_row() {
    let case = Case::new("reward_rows");
    let target = circle("red");
    let fenced = format!("<think>a circle</think>\n```svg\n{target}\n```");
    let row = |extra: Value| {
        let mut row =
            json!({"id": 0, "prompt": "", "completion": target, "reference": {"svg": target}});
        row.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        row
    };
    let out = case.rows(
        &[
            row(json!({})),
            row(json!({"step": 10})),
            row(json!({"task": "fenced", "completion": fenced})),
            row(json!({"task": "fenced", "completion": fenced, "truncated": true})),
            row(json!({"task": "fenced"})),
        ],
        &[],
    );
    let mse = out[0]["parts"]["mse"].as_f64().unwrap();
    assert!(
        (total(&out[1]) - total(&out[0]) - 2.0 * mse).abs() < 1e-12,
        "the weight rises from 1 to 3"
    );
    let found: Vec<_> = out[2..]
        .iter()
        .map(|row| (total(row), row["valid"].clone()))
        .collect();
    assert_eq!(
        found,
        [(1.0, json!(true)), (-0.5, json!(true)), (0.0, json!(false))]
    );
    let out = case.rows(&[row(json!({"completion": fenced}))], &["--task", "fenced"]);
    assert_eq!(total(&out[0]), 1.0);
}

#[test]
fn an_image_reference_is_relative_to_the_data_file() {
    let case = Case::new("reward_image");
    let target = write(&case.0, "target.svg", &circle("red"));
    svgrl(
        "render --size 32 --out",
        &[&case.0.join("pictures"), &target],
    )
    .fine();
    let image = json!({"id": 0, "prompt": "", "completion": circle("red"), "reference": {"image": "pictures/target.png"}});
    let set = ["--set", "tasks.draw.rubric.rewards=[{type: mse}]"];
    let out = case.rows(std::slice::from_ref(&image), &set);
    assert!(total(&out[0]) > 0.999, "{}", out[0]);
    let mut gone = image;
    gone["reference"]["image"] = json!("pictures/gone.png");
    case.tell(&write_rows(&case.0, "gone.jsonl", &[gone]), &set)
        .refused(2, &["gone.jsonl:1", "gone.png"]);
}

#[test]
fn files_may_come_from_other_systems_and_none_is_lost() {
    let case = Case::new("reward_files");
    let row = json!({"id": 0, "prompt": "", "completion": circle("red"), "reference": {"svg": circle("red")}});
    let text = format!("\u{feff}{row}\r\n\r\n{row}\r\n{row}");
    let data = write(&case.0, "windows.jsonl", &text);
    case.tell(&data, &[]).fine();
    assert_eq!(rows(&case.0.join("out.jsonl")).len(), 3);
    let onto = |out: &Path| {
        let mut command = program();
        command
            .arg("reward")
            .arg("--config")
            .arg(case.0.join("rewards.yaml"));
        told(command.arg("--data").arg(&data).arg("--out").arg(out))
    };
    onto(&data).refused(2, &["--out", "--data"]);
    onto(&case.0).refused(2, &["--out", "folder"]);
    assert_eq!(std::fs::read_to_string(&data).unwrap(), text);
    let mut endless = row;
    endless["reference"] = json!({"image": "/dev/zero"});
    let set = ["--set", "tasks.draw.rubric.rewards=[{type: mse}]"];
    case.tell(&write_rows(&case.0, "endless.jsonl", &[endless]), &set)
        .refused(2, &["endless.jsonl:1", "/dev/zero", "bytes"]);
}

#[test]
fn what_a_row_lacks_is_named_with_file_and_line() {
    let case = Case::new("reward_wrong");
    let good =
        json!({"id": 0, "prompt": "", "completion": "x", "reference": {"svg": circle("red")}});
    for (name, row, part) in [
        (
            "lacks",
            json!({"id": 0, "prompt": "", "completion": "x", "reference": {}}),
            "reference.svg",
        ),
        (
            "absent",
            json!({"id": 0, "prompt": "", "completion": "x"}),
            "reference",
        ),
        (
            "broken",
            json!({"id": 0, "prompt": "", "completion": "x", "reference": {"svg": "<svg"}}),
            "does not render",
        ),
        (
            "task",
            json!({"id": 0, "task": "drow", "prompt": "", "completion": "x", "reference": {"svg": circle("red")}}),
            "drow",
        ),
        (
            "type",
            json!({"id": 0, "prompt": "", "completion": 5, "reference": {"svg": circle("red")}}),
            "string",
        ),
    ] {
        let data = write_rows(&case.0, &format!("{name}.jsonl"), &[good.clone(), row]);
        case.tell(&data, &[])
            .refused(2, &[&format!("{name}.jsonl:2"), part]);
        assert!(!case.0.join("out.jsonl").exists());
    }
    let data = write_rows(&case.0, "good.jsonl", &[good]);
    case.tell(&data, &["--task", "drow"]).refused(2, &["drow"]);
}

#[test]
fn offline_scores_are_the_scores_of_the_run() {
    let case = Case::new("reward_same");
    let samples = rows(&tiny().run.join("samples/rl/step_000001.jsonl"));
    let data: Vec<Value> = samples
        .iter()
        .enumerate()
        .map(|(id, row)| json!({"id": id, "task": row["task"], "prompt": row["prompt"], "completion": row["completion"], "reference": row["reference"], "truncated": row["finish_reason"] == "length", "step": row["step"]}))
        .collect();
    let data = write_rows(&case.0, "data.jsonl", &data);
    let out = case.0.join("out.jsonl");
    told(
        program()
            .arg("reward")
            .arg("--config")
            .arg(&tiny().config)
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(&out),
    )
    .fine();
    for (row, sample) in rows(&out).iter().zip(&samples) {
        for key in ["total", "parts", "valid", "reason"] {
            assert_eq!(row[key], sample[key], "{key} of {}", sample["completion"]);
        }
    }
}

#[test]
fn a_task_s_metrics_stand_beside_its_parts_and_change_no_total() {
    let case = Case::new("reward_metrics");
    let target = circle("red");
    let data: Vec<Value> = [&target, &circle("blue"), "words"]
        .into_iter()
        .map(|completion| json!({"id": 0, "prompt": "", "completion": completion, "reference": {"svg": target, "draft": circle("white")}}))
        .collect();
    let plain = case.rows(&data, &[]);
    assert!(plain[0].get("metrics").is_none());
    let refined = case.rows(&data, &["--metrics", "--set", "tasks.draw.type=refinement"]);
    for (plain, refined) in plain.iter().zip(&refined) {
        assert_eq!(total(plain), total(refined));
        assert_eq!(plain["parts"], refined["parts"]);
    }
    // `mse` is rewarded already.
    assert_eq!(
        keys(&refined[0]["metrics"]),
        ["improvement", "ssim", "length"]
    );
    let metric = |row: usize, name: &str| refined[row]["metrics"][name].as_f64();
    assert_eq!(metric(0, "length"), Some(target.len() as f64));
    assert!(metric(0, "improvement") > metric(1, "improvement"));
    assert_eq!((metric(2, "length"), metric(2, "ssim")), (None, Some(-1.0)));
    let data = write_rows(&case.0, "data.jsonl", &data);
    let weighted = "tasks.draw.metrics=[{type: ssim, weight: 2}]";
    case.tell(&data, &["--set", weighted])
        .refused(2, &["tasks.draw.metrics.0.weight"]);
    let lost = "tasks.draw.metrics=[{type: dino, encoder: eye}]";
    case.tell(&data, &["--set", lost])
        .refused(2, &["tasks.draw.metrics.0.encoder", "eye"]);
}

#[test]
fn half_a_character_in_a_completion_is_no_bad_row() {
    let case = Case::new("reward_halves");
    let row = json!({"prompt": "p", "completion": drawing("<!--HALF--><rect width='9' height='9'/>"), "reference": {"svg": drawing("")}});
    let data = row.to_string().replace("HALF", "\\ud83d");
    let data = write(&case.0, "data.jsonl", &data);
    case.tell(&data, &[]).fine();
    assert_eq!(rows(&case.0.join("out.jsonl"))[0]["valid"], true);
}
