//! `svgrl logprobs` against what `generate` says of its own samples.

use serde_json::{Value, json};

use super::program::{keys, numbers, program, rows, scratch, told, write_rows};
use super::tiny::tiny;
use crate::support::larger;

#[test]
fn they_are_what_generate_drew_with() {
    let folder = scratch("logprobs");
    let [out, again] = ["out.jsonl", "again.jsonl"].map(|name| folder.join(name));
    let prompts = write_rows(
        &folder,
        "prompts.jsonl",
        &[
            json!({"id": 0, "prompt": "a red circle"}),
            json!({"id": 1, "token_ids": [7, 8, 9, 10]}),
        ],
    );
    let mut generate = program();
    generate
        .args([
            "generate",
            "-q",
            "--n",
            "3",
            "--max-new-tokens",
            "32",
            "--model",
        ])
        .arg(tiny().model());
    told(
        generate
            .arg("--prompts")
            .arg(&prompts)
            .arg("--out")
            .arg(&out),
    )
    .fine();
    let drawn = rows(&out);
    let mut data: Vec<Value> = drawn
        .iter()
        .map(|row| {
            let id = format!("{}-{}", row["id"], row["index"]);
            match row["id"] == 0 {
                true => json!({"id": id, "prompt": "a red circle", "completion_token_ids": row["token_ids"]}),
                false => json!({"id": id, "prompt_token_ids": [7, 8, 9, 10], "completion_token_ids": row["token_ids"]}),
            }
        })
        .collect();
    data.insert(
        1,
        json!({"id": "empty", "prompt": "a red circle", "completion": ""}),
    );
    data.push(
        json!({"id": "text", "messages": [{"role": "user", "content": "a"}], "completion": "<svg"}),
    );
    let data = write_rows(&folder, "data.jsonl", &data);
    told(
        program()
            .args(["logprobs", "-q", "--model"])
            .arg(tiny().model())
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(&again),
    )
    .fine();
    let mut scored = rows(&again);
    assert!(
        scored
            .iter()
            .all(|row| keys(row) == ["id", "logprobs", "sum"])
    );
    assert_eq!(
        scored.pop().unwrap()["logprobs"].as_array().unwrap().len(),
        1,
        "`<svg` is one token"
    );
    let empty = scored.remove(1);
    assert_eq!(
        (&empty["id"], &empty["logprobs"], empty["sum"].as_f64()),
        (&json!("empty"), &json!([]), Some(0.0))
    );
    assert_eq!(scored.len(), drawn.len());
    for (ours, theirs) in scored.iter().zip(&drawn) {
        let (ours_each, theirs_each) = (numbers(&ours["logprobs"]), numbers(&theirs["logprobs"]));
        assert_eq!(ours_each.len(), theirs_each.len());
        // Cached decoding and one packed pass round differently in float32, about 1e-6 here.
        let gap = ours_each
            .iter()
            .zip(&theirs_each)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, larger);
        assert!(gap < 1e-4, "{gap}");
        // The rows hold float32 numbers in their shortest decimals, the sum is of the numbers.
        assert!((ours["sum"].as_f64().unwrap() - ours_each.iter().sum::<f64>()).abs() < 1e-5);
    }
}

#[test]
fn wrong_rows_are_named() {
    let folder = scratch("logprobs_wrong");
    for (name, row) in [
        ("none", json!({"id": 0, "prompt": "a"})),
        (
            "both",
            json!({"id": 0, "prompt": "a", "completion": "b", "completion_token_ids": [1]}),
        ),
        (
            "range",
            json!({"id": 0, "prompt": "a", "completion_token_ids": [-1]}),
        ),
    ] {
        let data = write_rows(
            &folder,
            &format!("{name}.jsonl"),
            &[json!({"id": 1, "prompt": "a", "completion": "b"}), row],
        );
        let told = told(
            program()
                .args(["logprobs", "--model"])
                .arg(tiny().model())
                .arg("--data")
                .arg(&data)
                .arg("--out")
                .arg(folder.join("out.jsonl")),
        );
        told.refused(2, &[&format!("{name}.jsonl:2")]);
        assert!(!folder.join("out.jsonl").exists());
    }
}
