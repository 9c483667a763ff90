//! A run, and the offline command, whose scoring happens in a service.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::process::{Server, circle, slow};
use crate::cli::program::{Told, program, rows, scratch, told, write, write_rows};
use crate::cli::tiny::{TOKENIZER, config, tiny};

fn samples(run: &Path, step: &str) -> Vec<Value> {
    rows(&run.join(format!("samples/rl/step_{step}.jsonl")))
}

#[test]
fn a_run_scored_by_a_service_has_the_numbers_of_one_that_scores_itself() {
    let folder = scratch("remote_run");
    let config = config(&folder);
    let token = write(&folder, "token", "s3cret");
    let server = Server::with(
        folder.clone(),
        &config,
        &["--token-file", token.to_str().unwrap()],
    );
    let run = folder.join("run");
    let endpoint = format!("rewards.endpoint={}", server.url());
    let set = [
        "--set",
        &endpoint,
        "--set",
        "rewards.remote.token_file=token",
        "--set",
        "rewards.remote.batch=3",
    ];
    told(
        program()
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(&run)
            .args(set),
    )
    .fine();
    for step in ["000001", "000002"] {
        let (here, there) = (samples(&tiny().run, step), samples(&run, step));
        assert_eq!(here.len(), 16);
        for (a, b) in here.iter().zip(&there) {
            for key in [
                "prompt_id",
                "completion",
                "total",
                "parts",
                "valid",
                "reason",
                "advantage",
            ] {
                assert_eq!(a[key], b[key], "{key} of {}", a["completion"]);
            }
        }
    }
    let scored = server
        .ask("GET", "/metrics", &["Authorization: Bearer s3cret"], b"")
        .text;
    assert!(
        !scored.contains("svgrl_item_seconds_count 0"),
        "the service judged nothing"
    );
}

/// `svgrl reward` by the server's config with another endpoint: what it said, and the file of its rows.
fn offline(server: &Server, data: &Path, out: &str, endpoint: &str) -> (Told, PathBuf) {
    let out = server.folder.join(out);
    let mut command = program();
    command
        .arg("reward")
        .arg("--config")
        .arg(server.folder.join("rewards.yaml"));
    command.arg("--data").arg(data).arg("--out").arg(&out);
    let endpoint = format!("rewards.endpoint={endpoint}");
    (told(command.args(["--set", &endpoint])), out)
}

#[test]
fn the_offline_command_can_ask_a_service() {
    // It takes fewer completions at a time than are sent unless the config says otherwise.
    let section = "deadline_ms: 2000, service: {max_items: 5}";
    let server = Server::start("remote_reward", section, &[]);
    let row = |id: usize, completion: String| json!({"id": id, "prompt": "", "completion": completion, "reference": {"svg": circle("red")}});
    let data: Vec<Value> = (0..40)
        .map(|id| {
            row(
                id,
                if id % 3 == 0 {
                    "no".into()
                } else {
                    circle("blue")
                },
            )
        })
        .collect();
    let data = write_rows(&server.folder, "data.jsonl", &data);
    let score = |out: &str, endpoint: &str| offline(&server, &data, out, endpoint);
    let (there, out) = score("there.jsonl", &server.url());
    there.fine();
    let (here, local) = score("here.jsonl", "null");
    here.fine();
    for (a, b) in rows(&out).iter().zip(rows(&local)) {
        for key in ["id", "total", "parts", "valid", "reason"] {
            assert_eq!(a[key], b[key]);
        }
    }
    let bad = write_rows(
        &server.folder,
        "data.jsonl",
        &[json!({"id": 0, "completion": "", "reference": {"svg": "<svg"}})],
    );
    assert!(bad.exists());
    score("bad.jsonl", &server.url())
        .0
        .refused(2, &["data.jsonl:1", "does not render"]);
}

#[test]
fn a_photo_beside_the_rows_reaches_the_service() {
    let server = Server::start("remote_photo", "deadline_ms: 2000", &[]);
    let photo = crate::support::fixture("parity/photos").join("progressive.jpg");
    std::fs::copy(photo, server.folder.join("photo.jpg")).unwrap();
    let row = json!({"id": 0, "task": "look", "completion": circle("red"), "reference": {"image": "photo.jpg"}});
    let data = write_rows(&server.folder, "data.jsonl", &[row]);
    let scores = ["null", &server.url()].map(|endpoint| {
        let (told, out) = offline(&server, &data, "out.jsonl", endpoint);
        told.fine();
        rows(&out).remove(0)["parts"].clone()
    });
    assert_eq!(scores[0], scores[1]);
}

#[test]
fn a_picture_as_large_as_pictures_may_be_reaches_the_service() {
    let server = Server::start("remote_large", "deadline_ms: 2000", &[]);
    let sizes = [(5000, 512), (8192, 512), (8193, 512)];
    for (width, height) in sizes {
        let wide = svg::Raster::filled(width, height, [255, 0, 0, 255]);
        let png = wide.to_png().unwrap();
        std::fs::write(server.folder.join("wide.png"), png).unwrap();
        let row = json!({"id": 0, "task": "look", "completion": circle("red"), "reference": {"image": "wide.png"}});
        let data = write_rows(&server.folder, "data.jsonl", &[row]);
        let scores = ["null", &server.url()].map(|endpoint| {
            let (told, out) = offline(&server, &data, "out.jsonl", endpoint);
            match width > 8192 {
                true => told.refused(2, &["data.jsonl:1", "at most 8192"]),
                false => drop(told.fine()),
            }
            (width <= 8192).then(|| rows(&out).remove(0)["parts"].clone())
        });
        assert_eq!(scores[0], scores[1]);
    }
}

#[test]
fn a_service_that_gives_up_before_a_drawing_ends_is_refused() {
    let section = "deadline_ms: 2000, service: {deadline_ms: 1500}";
    let server = Server::start("remote_impatient", section, &[]);
    let row = json!({"id": 0, "completion": slow(), "reference": {"svg": circle("red")}});
    let data = write_rows(&server.folder, "data.jsonl", &[row]);
    offline(&server, &data, "out.jsonl", &server.url())
        .0
        .refused(
            2,
            &["rewards.service.deadline_ms >= 3000", "rewards.deadline_ms"],
        );
}

/// What the offline command gets from the service for so many completions that draw for long.
fn judged_slowly(server: &Server, count: usize) -> Vec<Value> {
    let row =
        |id: usize| json!({"id": id, "completion": slow(), "reference": {"svg": circle("red")}});
    let data: Vec<Value> = (0..count).map(row).collect();
    let data = write_rows(&server.folder, "data.jsonl", &data);
    let (told, out) = offline(server, &data, "out.jsonl", &server.url());
    told.fine();
    rows(&out)
}

#[test]
fn slow_completions_are_waited_for_as_long_as_the_service_judges() {
    // Six are drawn one after another, and the service answers after two.
    let section = "workers: 1, deadline_ms: 1000, service: {deadline_ms: 2500}, remote: {retries: 0, connections: 1}";
    let server = Server::start("remote_slow", section, &[]);
    for row in judged_slowly(&server, 6) {
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.starts_with("deadline: "), "{row}");
    }
}

#[test]
fn a_queue_that_is_full_of_a_runs_own_completions_is_waited_for() {
    let section = "workers: 1, deadline_ms: 400, service: {queue: 1, deadline_ms: 3000}, remote: {retries: 2, connections: 16}";
    let server = Server::start("remote_full", section, &[]);
    let rows = judged_slowly(&server, 16);
    assert_eq!(rows.len(), 16);
    // Each was drawn until its own deadline, not given up before its turn.
    for row in rows {
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.starts_with("deadline: "), "{row}");
    }
}

#[test]
fn a_judge_that_keeps_silent_fails_there_as_it_does_here() {
    // Callers are taken in and never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = scratch("remote_silent_judge");
    let text = format!(
        "model: {{tokenizer: {TOKENIZER}, init: {{}}}}\ndata: {{sources: {{shapes: {{format: shapes, task: draw}}}}}}\n\
         rewards: {{deadline_ms: 500, service: {{deadline_ms: 2000}}, remote: {{retries: 1}}}}\ntasks: {{draw: {{render: {{size: 64}}, \
         rubric: {{rewards: [{{type: judge, endpoint: \"http://{}/v1\", model: m, failure_value: 0.25}}]}}}}}}\n\
         stages: [{{algorithm: grpo}}]\n",
        silent.local_addr().unwrap()
    );
    let config = write(&folder, "rewards.yaml", &text);
    let server = Server::with(folder, &config, &[]);
    let row = |id: usize| json!({"id": id, "completion": circle("red")});
    let data = write_rows(&server.folder, "data.jsonl", &[row(0), row(1)]);
    let (told, out) = offline(&server, &data, "out.jsonl", &server.url());
    told.fine();
    for row in rows(&out) {
        assert_eq!((&row["total"], &row["valid"]), (&json!(0.25), &json!(true)));
    }
}

#[test]
fn a_service_that_scores_otherwise_or_stays_away_is_refused() {
    let server = Server::start("remote_other", "deadline_ms: 2000", &[]);
    let data = write_rows(
        &server.folder,
        "data.jsonl",
        &[json!({"id": 0, "completion": "", "reference": {"svg": circle("red")}})],
    );
    let ask = |set: &[&str]| {
        let mut command = program();
        command
            .arg("reward")
            .arg("--config")
            .arg(server.folder.join("rewards.yaml"));
        command
            .arg("--data")
            .arg(&data)
            .arg("--out")
            .arg(server.folder.join("out.jsonl"));
        for set in set {
            command.args(["--set", set]);
        }
        told(&mut command)
    };
    let there = format!("rewards.endpoint={}", server.url());
    ask(&[&there, "tasks.draw.render.size=33"])
        .refused(2, &["rewards.endpoint", "\"draw\"", "another way"]);
    ask(&["rewards.endpoint=localhost:1"]).refused(2, &["rewards.endpoint", "http://"]);
    ask(&[
        "rewards.endpoint=http://127.0.0.1:9",
        "rewards.remote.retries=1",
    ])
    .refused(1, &["rewards.endpoint", "127.0.0.1:9"]);
    ask(&[&there, "rewards.remote.batch=0"]).refused(2, &["rewards.remote.batch"]);
}
