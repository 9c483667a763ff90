//! Completions that attack the renderer are rows with reasons, offline and in a run.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::program::{program, rows, scratch, told, write, write_rows};
use super::tiny::{self, drawing};

fn attacks() -> Vec<(&'static str, String)> {
    let laughs: String = (1..9)
        .map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10)))
        .collect();
    let uses: String = (1..12)
        .map(|n| {
            format!(
                "<g id='g{n}'>{}</g>",
                format!("<use href='#g{}'/>", n - 1).repeat(10)
            )
        })
        .collect();
    vec![
        ("bytes", drawing(&" ".repeat(5_000_000))),
        ("deep", drawing(&"<g>".repeat(80_000))),
        (
            "deep_closed",
            drawing(&format!(
                "{}{}",
                "<g>".repeat(30_000),
                "</g>".repeat(30_000)
            )),
        ),
        (
            "entities",
            format!(
                "<!DOCTYPE svg [<!ENTITY e0 \"ha\">{laughs}]>{}",
                drawing("<text>&e8;</text>")
            ),
        ),
        (
            "uses",
            drawing(&format!(
                "<g id='g0'><rect width='1' height='1'/></g>{uses}<use href='#g11'/>"
            )),
        ),
        (
            "cycle",
            drawing("<g id='a'><use href='#a'/></g><use href='#a'/>"),
        ),
        (
            "canvas",
            "<svg xmlns='http://www.w3.org/2000/svg' width='1e9' height='1e9'/>".to_owned(),
        ),
        (
            "filter",
            drawing(
                "<filter id='f'><feGaussianBlur stdDeviation='1e6'/></filter><rect width='64' height='64' filter='url(#f)'/>",
            ),
        ),
        (
            "file",
            drawing(
                "<image href='/etc/passwd' width='9' height='9'/><image href='http://127.0.0.1:1/x.png' width='9' height='9'/>",
            ),
        ),
        ("nul", "<svg\u{0}\u{1}\u{feff}".to_owned()),
        (
            "long_path",
            drawing(&format!("<path d='M0 0{}'/>", " l1 1e30 z".repeat(20_000))),
        ),
        (
            "nan",
            drawing("<circle cx='NaN' cy='1e308' r='-1' transform='matrix(0 0 0 0 0 0)'/>"),
        ),
    ]
}

#[test]
fn every_attack_is_a_row_and_the_command_ends_well() {
    let folder = scratch("hostile");
    let config = tiny::config(&folder);
    let target = drawing("<circle r='9'/>");
    let row = |(id, completion): (&str, String)| json!({"id": id, "prompt": "", "completion": completion, "reference": {"svg": target}});
    let data: Vec<Value> = attacks()
        .into_iter()
        .map(row)
        .chain([row(("good", target.clone()))])
        .collect();
    let data = write_rows(&folder, "data.jsonl", &data);
    let out = folder.join("out.jsonl");
    let begin = Instant::now();
    told(
        program()
            .arg("reward")
            .arg("--config")
            .arg(&config)
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(&out),
    )
    .fine();
    assert!(begin.elapsed() < Duration::from_secs(60));
    let out = rows(&out);
    assert_eq!(out.len(), attacks().len() + 1);
    for row in &out {
        assert_eq!(
            row["valid"] == json!(true),
            row["reason"].is_null(),
            "{row}"
        );
    }
    let valid = |id: &str| out.iter().find(|row| row["id"] == id).unwrap()["valid"].clone();
    for id in [
        "bytes",
        "deep",
        "deep_closed",
        "entities",
        "uses",
        "cycle",
        "nul",
    ] {
        assert_eq!(valid(id), json!(false), "{id}");
    }
    assert_eq!(
        valid("good"),
        json!(true),
        "the renderer still works after the attacks"
    );
}

#[test]
fn a_policy_that_writes_attacks_trains_on() {
    let folder = scratch("hostile_run");
    let config = tiny::config(&folder);
    let row = |id: usize, inner: &str| json!({"id": id, "prompt": format!("an attack {id}"), "svg": drawing("<circle r='9'/>"), "target": drawing(inner)});
    let rows_in = [
        row(0, "<g id='a'><use href='#a'/></g>"),
        row(1, "<g><g><g><g><g><g>"),
        row(2, "<image href='/'/>"),
        row(3, "&lol;"),
    ];
    write_rows(&folder, "drawings.jsonl", &rows_in);
    let run = folder.join("run");
    let train = told(
        program()
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(&run)
            .args(["--set", "data.sources.drawings.held_out=0"]),
    );
    train.fine();
    let samples = rows(&run.join("samples/rl/step_000002.jsonl"));
    assert_eq!(samples.len(), 16);
    assert!(
        samples
            .iter()
            .any(|row| row["valid"] == json!(false) && row["reason"].is_string())
    );
    let hostile = samples
        .iter()
        .any(|row| row["completion"].as_str().unwrap().contains("<g"));
    assert!(hostile, "the policy did not learn the attacks");
    write(&folder, "seen.txt", &samples[0].to_string());
}
