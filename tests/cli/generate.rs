//! `svgrl generate`: kinds of rows, order, stopping, and what the result may not depend on.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, copy, keys, numbers, program, rows, scratch, told, write, write_rows};
use super::tiny::tiny;

struct Case {
    folder: PathBuf,
    model: PathBuf,
}

impl Case {
    fn new(name: &str) -> Self {
        Self {
            folder: scratch(name),
            model: tiny().model(),
        }
    }

    fn tell(&self, prompts: &Path, flags: &[&str]) -> Told {
        let mut command = program();
        command
            .args(["generate", "-q", "--max-new-tokens", "24", "--model"])
            .arg(&self.model);
        command
            .arg("--prompts")
            .arg(prompts)
            .arg("--out")
            .arg(self.folder.join("out.jsonl"));
        told(command.args(flags))
    }

    fn rows(&self, prompts: &[Value], flags: &[&str]) -> Vec<Value> {
        let prompts = write_rows(&self.folder, "prompts.jsonl", prompts);
        self.tell(&prompts, flags).fine();
        rows(&self.folder.join("out.jsonl"))
    }
}

/// A model folder whose generation ends at every third id, so that stop tokens are met soon.
fn stops_soon(folder: &Path) -> PathBuf {
    let model = folder.join("stops_soon");
    copy(&tiny().model(), &model);
    let ids: Vec<i64> = (0..520).filter(|id| id % 3 == 0).collect();
    write(
        &model,
        "generation_config.json",
        &json!({"eos_token_id": ids}).to_string(),
    );
    model
}

#[test]
fn rows_come_in_input_order_with_the_named_keys() {
    let case = Case::new("generate_order");
    let prompts = [
        json!({"id": "b", "prompt": "a red circle"}),
        json!({"id": 7, "messages": [{"role": "user", "content": "a red circle"}]}),
        json!({"id": "a", "token_ids": [5, 6, 7]}),
    ];
    let out = case.rows(&prompts, &["--n", "3"]);
    let places: Vec<_> = out
        .iter()
        .map(|row| (row["id"].clone(), row["index"].as_u64().unwrap()))
        .collect();
    let expected: Vec<_> = prompts
        .iter()
        .flat_map(|row| (0..3).map(|index| (row["id"].clone(), index)))
        .collect();
    assert_eq!(places, expected);
    for row in &out {
        assert_eq!(
            keys(row),
            [
                "id",
                "index",
                "text",
                "token_ids",
                "logprobs",
                "finish_reason"
            ]
        );
        let logprobs = numbers(&row["logprobs"]);
        assert_eq!(logprobs.len(), row["token_ids"].as_array().unwrap().len());
        assert!(!logprobs.is_empty() && logprobs.iter().all(|value| *value <= 0.0));
        assert!(["stop", "length"].contains(&row["finish_reason"].as_str().unwrap()));
    }
    let one = case.rows(&prompts, &[]);
    assert_eq!(one.len(), 3, "n is 1 unless given");
}

#[test]
fn messages_and_their_templated_text_are_the_same_prompt() {
    let case = Case::new("generate_messages");
    let text = "<|im_start|>user\na red circle<|im_end|>\n<|im_start|>assistant\n";
    let out = case.rows(
        &[
            json!({"id": 0, "messages": [{"role": "user", "content": "a red circle"}]}),
            json!({"id": 1, "prompt": text}),
        ],
        &["--greedy"],
    );
    assert_eq!(out[0]["token_ids"], out[1]["token_ids"]);
    assert_eq!(out[0]["logprobs"], out[1]["logprobs"]);
    let zero = case.rows(
        &[json!({"id": 0, "prompt": text})],
        &["--temperature", "0", "--seed", "99"],
    );
    assert_eq!(
        zero[0]["token_ids"], out[0]["token_ids"],
        "temperature 0 is greedy"
    );
}

#[test]
fn the_stop_token_is_in_the_ids_and_not_in_the_text() {
    let mut case = Case::new("generate_stop_token");
    case.model = stops_soon(&case.folder);
    let out = case.rows(
        &[json!({"id": 0, "prompt": "a red circle"})],
        &["--n", "16", "--temperature", "1.5"],
    );
    let mut stopped = 0;
    for row in &out {
        let ids: Vec<i64> = row["token_ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_i64().unwrap())
            .collect();
        let (last, before) = ids.split_last().unwrap();
        assert!(
            before.iter().all(|id| id % 3 != 0),
            "went on after a stop token: {row}"
        );
        assert_eq!(row["finish_reason"] == "stop", last % 3 == 0);
        stopped += u32::from(last % 3 == 0);
    }
    assert!(stopped > 0, "no stop token was drawn");
    // The text of a one-token completion is empty: its only token is the stop token.
    for row in out.iter().filter(|row| {
        row["finish_reason"] == "stop" && row["token_ids"].as_array().unwrap().len() == 1
    }) {
        assert_eq!(row["text"], "");
    }
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let case = Case::new("generate_stop_string");
    let prompt = json!({"id": 0, "messages": [{"role": "user", "content": "a red circle"}]});
    let whole = case
        .rows(std::slice::from_ref(&prompt), &["--greedy"])
        .remove(0);
    let text = whole["text"].as_str().unwrap();
    let stop = text
        .get(10..14)
        .expect("the drawings start with fifty ASCII characters");
    let cut = case
        .rows(
            std::slice::from_ref(&prompt),
            &["--greedy", "--stop", "no such thing", "--stop", stop],
        )
        .remove(0);
    assert_eq!(cut["text"], text[..text.find(stop).unwrap()]);
    assert_eq!(cut["finish_reason"], "stop");
    assert!(
        cut["token_ids"].as_array().unwrap().len() < whole["token_ids"].as_array().unwrap().len()
    );
    let kept = case
        .rows(
            std::slice::from_ref(&prompt),
            &["--greedy", "--include-stop", "--stop", stop],
        )
        .remove(0);
    assert_eq!(kept["text"], text[..text.find(stop).unwrap() + stop.len()]);
}

#[test]
fn the_seed_alone_decides_not_the_slots() {
    let case = Case::new("generate_seed");
    let prompts: Vec<_> = (0..3)
        .map(|id| json!({"id": id, "prompt": format!("a {id} circle")}))
        .collect();
    let first = case.rows(&prompts, &["--n", "3", "--seed", "5"]);
    assert_eq!(case.rows(&prompts, &["--n", "3", "--seed", "5"]), first);
    let ids = |rows: &[Value]| {
        rows.iter()
            .map(|row| row["token_ids"].clone())
            .collect::<Vec<_>>()
    };
    let two = case.rows(&prompts, &["--n", "3", "--seed", "5", "--slots", "2"]);
    assert_eq!(ids(&two), ids(&first));
    assert_ne!(
        ids(&case.rows(&prompts, &["--n", "3", "--seed", "6"])),
        ids(&first)
    );
}

#[test]
fn a_folder_without_a_tokenizer_takes_ids_and_gives_no_text() {
    let mut case = Case::new("generate_ids");
    let model = case.folder.join("bare");
    copy(&tiny().model(), &model);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::remove_file(model.join(name)).unwrap();
    }
    case.model = model;
    let out = case.rows(
        &[json!({"id": 0, "token_ids": [5, 6, 7]})],
        &["--top-k", "1"],
    );
    assert_eq!(out[0]["text"], Value::Null);
    let prompts = write_rows(
        &case.folder,
        "text.jsonl",
        &[json!({"id": 0, "prompt": "a"})],
    );
    case.tell(&prompts, &[])
        .refused(2, &["text.jsonl:1", "token ids"]);
}

#[test]
fn wrong_rows_and_flags_are_named() {
    let case = Case::new("generate_wrong");
    let good = r#"{"id": 0, "prompt": "a"}"#;
    for (name, line, part) in [
        ("json", "{", "json.jsonl:3: is not JSON (column 1): EOF"),
        ("list", "[1]", "a row must be a JSON object"),
        (
            "type",
            r#"{"id": 0, "prompt": 5}"#,
            "type.jsonl:3: prompt: invalid type: integer `5`, expected a string",
        ),
        (
            "message",
            r#"{"id": 0, "messages": [{"role": "user"}]}"#,
            "message.jsonl:3: messages: missing field `content`",
        ),
        (
            "both",
            r#"{"id": 0, "prompt": "a", "token_ids": [1]}"#,
            "exactly one",
        ),
        ("range", r#"{"id": 0, "token_ids": [99999]}"#, "99999"),
        ("none", r#"{"id": 0, "token_ids": []}"#, "no tokens"),
        ("id", r#"{"prompt": "a"}"#, "id"),
        ("silence", r#"{"id": 0, "messages": []}"#, "messages"),
    ] {
        let file = write(
            &case.folder,
            &format!("{name}.jsonl"),
            &format!("{good}\n\n{line}\n"),
        );
        case.tell(&file, &[])
            .refused(2, &[&format!("{name}.jsonl:3"), part]);
    }
    let file = write(&case.folder, "good.jsonl", &format!("\u{feff}{good}\r\n"));
    case.tell(&file, &[]).fine();
    case.tell(&file, &["--n", "0"]).refused(2, &["--n"]);
    case.tell(&file, &["--top-p", "0"]).refused(2, &["--top-p"]);
    case.tell(&file, &["--temperature", "-1"])
        .refused(2, &["--temperature: must be >= 0, got -1"]);
    case.tell(&case.folder.join("missing.jsonl"), &[])
        .refused(2, &["missing.jsonl"]);
    let nowhere = Case {
        model: case.folder.join("nowhere"),
        ..Case::new("generate_nowhere")
    };
    nowhere
        .tell(&file, &[])
        .refused(2, &["nowhere: is not there"]);
}
