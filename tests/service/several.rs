//! Several scoring services at once: one that is lost changes no reward.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::process::{Server, circle};
use crate::cli::program::{Told, program, rows, told, write_rows};

/// A service that says that it is well, and is lost with the first completions: its address, and how often it was asked.
fn lost_service(health: String) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
            stream.read_line(&mut first).unwrap();
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            if first.starts_with("GET /health") {
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
                let answer = format!("{head} {}\r\n\r\n{health}", health.len());
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            } else {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    (address, asked)
}

fn score(server: &Server, data: &Path, out: &str, set: &[String]) -> (Told, Vec<Value>) {
    let out = server.folder.join(out);
    let mut command = program();
    command
        .arg("reward")
        .arg("--config")
        .arg(server.folder.join("rewards.yaml"));
    command.arg("--data").arg(data).arg("--out").arg(&out);
    for set in set {
        command.arg("--set").arg(set);
    }
    let told = told(&mut command);
    let scored = if out.exists() { rows(&out) } else { Vec::new() };
    (told, scored)
}

#[test]
fn one_of_three_services_lost_changes_no_reward() {
    let section = "deadline_ms: 2000, remote: {batch: 4, connections: 2, retries: 2}";
    let servers = ["several_a", "several_b"].map(|name| Server::start(name, section, &[]));
    let (lost, asked) = lost_service(servers[0].get("/health").text);
    let colours = ["red", "green", "blue"];
    let row = |id: usize| json!({"id": id, "prompt": "", "completion": circle(colours[id % 3]), "reference": {"svg": circle("red")}});
    let data: Vec<Value> = (0..60).map(row).collect();
    let data = write_rows(&servers[0].folder, "data.jsonl", &data);
    let all = [servers[0].url(), lost.clone(), servers[1].url()];
    let (there, scored) = score(
        &servers[0],
        &data,
        "there.jsonl",
        &[format!("rewards.endpoints={all:?}")],
    );
    there.fine();
    assert!(
        asked.load(Ordering::SeqCst) > 0,
        "the lost one was never asked"
    );
    let (here, own) = score(&servers[0], &data, "here.jsonl", &[]);
    here.fine();
    assert_eq!(scored.len(), 60);
    for (a, b) in scored.iter().zip(&own) {
        for key in ["id", "total", "parts", "valid", "reason"] {
            assert_eq!(a[key], b[key]);
        }
    }
    // Both others were given work.
    for server in &servers {
        let metrics = server.get("/metrics").text;
        assert!(
            !metrics.contains("svgrl_item_seconds_count 0"),
            "one judged nothing"
        );
    }
    // With nobody left, all addresses' patience ends and one is named.
    let gone = [
        "http://127.0.0.1:9".to_owned(),
        "http://127.0.0.1:11".to_owned(),
    ];
    let (told, _) = score(
        &servers[0],
        &data,
        "gone.jsonl",
        &[format!("rewards.endpoints={gone:?}")],
    );
    told.refused(1, &["127.0.0.1:9", "127.0.0.1:11"]);
    let both = [
        format!("rewards.endpoints={gone:?}"),
        "rewards.endpoint=http://127.0.0.1:9".into(),
    ];
    score(&servers[0], &data, "both.jsonl", &both)
        .0
        .refused(2, &["rewards.endpoints", "leave `endpoint` out"]);
}
