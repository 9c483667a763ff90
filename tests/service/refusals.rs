//! What is refused, and how it is said.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use super::process::{Server, circle, config, slime, slow};
use crate::cli::program::{program, scratch, told, write};

#[test]
fn what_is_wrong_is_400_or_422_and_named() {
    let server = Server::start(
        "service_wrong",
        "service: {max_body_mib: 1, max_items: 2}",
        &[],
    );
    let target = circle("red");
    let raw = |path: &str, body: &str| server.ask("POST", path, &[], body.as_bytes());
    raw("/score", "{\"prompt\"").refused(400, "JSON");
    raw("/score", "").refused(400, "JSON");
    raw("/score", "[]").refused(422, "");
    server
        .post("/score", &json!({"prompt": "", "response": 5}))
        .refused(422, "response");
    server
        .post("/score", &json!({"response": "", "label": {"svg": 5}}))
        .refused(422, "label.svg");
    server
        .post(
            "/score",
            &json!({"response": "", "label": {"task": "drow", "svg": target}}),
        )
        .refused(422, "drow");
    server
        .post(
            "/score",
            &json!({"response": "", "label": {"task": "draw"}}),
        )
        .refused(422, "label.svg");
    server
        .post("/score", &slime(&target, "<svg"))
        .refused(422, "malformed_xml");
    let item = |completion: &str| json!({"completion": completion, "reference": {"svg": target}});
    let batch = |items: serde_json::Value| server.post("/score_batch", &json!({"items": items}));
    batch(json!([item("a"), {"completion": "b"}])).refused(422, "items.1.reference.svg");
    batch(json!([item("a"), {"reference": {}}])).refused(422, "completion");
    batch(json!([item("a"), item("b"), item("c")])).refused(413, "items: at most 2");
    batch(json!("no")).refused(422, "items");
    raw("/score", &" ".repeat(2 << 20)).refused(413, "body: at most 1 MiB");
    server.get("/score").refused(405, "POST");
    server.get("/else").refused(404, "/score_batch");
    assert_eq!(
        server.post("/score", &slime(&target, &target)).fine()["valid"],
        true
    );
}

#[test]
fn only_the_token_opens() {
    let folder = scratch("service_token_file");
    let file = write(&folder, "token", "s3cret\n");
    let server = Server::start(
        "service_token",
        "deadline_ms: 2000",
        &["--token-file", file.to_str().unwrap()],
    );
    let body = slime(&circle("red"), &circle("red")).to_string();
    let ask = |headers: &[&str]| server.ask("POST", "/score", headers, body.as_bytes());
    for headers in [
        &[][..],
        &["Authorization: Bearer s3cre"],
        &["Authorization: s3cret"],
        &["Authorization: Basic s3cret"],
    ] {
        ask(headers).refused(401, "authorization");
    }
    assert_eq!(ask(&["Authorization: Bearer s3cret"]).status, 200);
    assert_eq!(
        (server.get("/health").status, server.get("/metrics").status),
        (200, 401)
    );
}

#[test]
fn an_open_address_needs_a_token() {
    let folder = scratch("service_open");
    let config = config(&folder, "deadline_ms: 2000");
    let serve = |flags: &[&str]| told(program().arg("serve-rewards").arg(&config).args(flags));
    serve(&["--addr", "0.0.0.0:0"]).refused(2, &["--token-file", "loopback"]);
    serve(&["--addr", "[::]:0"]).refused(2, &["--token-file"]);
    serve(&["--addr", "nonsense"]).refused(2, &["--addr"]);
    let empty = write(&folder, "empty", "\n");
    serve(&["--token-file", empty.to_str().unwrap()]).refused(2, &["--token-file", "no token"]);
    serve(&["--set", "rewards.service.queue=0"]).refused(2, &["rewards.service.queue"]);
    serve(&["--set", "rewards.service.images={a: gone.png}"])
        .refused(2, &["rewards.service.images.a"]);
}

#[test]
fn a_full_queue_is_429_with_a_time_to_come_back() {
    let server = Server::start(
        "service_full",
        "deadline_ms: 1500, service: {queue: 2}",
        &[],
    );
    let body = slime(&slow(), &circle("red")).to_string();
    let send = || server.send("POST", "/score", &[], body.as_bytes());
    let (first, second) = (send(), send());
    server.wait_for(2);
    let third = send().answer();
    third.refused(429, "queue");
    let wait = third
        .head
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "));
    assert!(
        wait.unwrap().trim().parse::<u64>().unwrap() >= 1,
        "{third:?}"
    );
    for sent in [first, second] {
        assert_eq!(
            sent.answer().fine()["reason"]
                .as_str()
                .map(|r| r.starts_with("deadline")),
            Some(true)
        );
    }
    assert_eq!(
        server
            .post("/score", &slime(&circle("red"), &circle("red")))
            .status,
        200
    );
}

#[test]
fn an_item_that_waits_too_long_is_a_row_and_frees_its_place() {
    let server = Server::start(
        "service_late",
        "workers: 1, deadline_ms: 1500, service: {deadline_ms: 300}",
        &[],
    );
    let server = &server;
    let target = circle("red");
    let items = [
        json!({"completion": slow(), "reference": {"svg": target}}),
        json!({"completion": target, "reference": {"svg": target}}),
    ];
    let out = server.post("/score_batch", &json!({"items": items})).fine();
    for row in out["items"].as_array().unwrap() {
        assert_eq!(
            (row["total"].clone(), row["valid"].clone()),
            (json!(-1.0), json!(false)),
            "{out}"
        );
        assert!(
            row["reason"]
                .as_str()
                .unwrap()
                .starts_with("service_deadline"),
            "{out}"
        );
    }
    server.wait_for(0);
    assert_eq!(
        server.post("/score", &slime(&target, &target)).fine()["valid"],
        true
    );
}

#[test]
fn odd_requests_are_answered_as_http_has_it() {
    let server = Server::start("service_odd", "service: {max_items: 2}", &[]);
    let target = circle("red");
    let good = slime(&target, &target).to_string();
    let head = server.ask("HEAD", "/health", &[], b"");
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    for (method, path, allowed) in [
        ("GET", "/score", "allow: post"),
        ("HEAD", "/score", "allow: post"),
        ("POST", "/metrics", "allow: get, head"),
    ] {
        let answer = server.ask(method, path, &[], b"");
        assert_eq!(answer.status, 405, "{answer:?}");
        assert!(answer.head.contains(allowed), "{answer:?}");
    }
    let ask = |header: &str| server.ask("POST", "/score", &[header], good.as_bytes());
    ask("Content-Encoding: gzip").refused(415, "content-encoding");
    assert_eq!(ask("Content-Encoding: identity").status, 200);
    let raw = |body: &[u8]| server.ask("POST", "/score", &[], body);
    raw(b"[null, \"\", \"<svg\"]").refused(422, "must be an object");
    raw(b"7").refused(422, "an object {prompt, response, label}");
    raw(b"{\"response\": \"\xff\"}").refused(400, "JSON");
    raw(b"{\"response\": \"a\", \"response\": \"b\"}").refused(422, "duplicate");
    let deep = format!("{{\"response\": \"\", \"label\": {}", "[".repeat(100_000));
    raw(deep.as_bytes()).refused(400, "recursion");
    let rows = json!({"items": [{}, {}, {}]});
    server
        .post("/check", &rows)
        .refused(413, "items: at most 2");
    let none = server.post("/score_batch", &json!({"items": []})).fine();
    assert_eq!(none, json!({"items": []}));
    let with_nul = server
        .post("/score", &slime("<svg>\0</svg>", &target))
        .fine();
    assert_eq!(with_nul["valid"], false, "{with_nul}");
}

#[test]
fn callers_who_say_nothing_keep_nobody_out() {
    let server = Server::start(
        "service_silent",
        "service: {max_requests: 1, idle_ms: 500}",
        &[],
    );
    // More than may be open at the same time, each in the middle of a head.
    let silent: Vec<TcpStream> = (0..80)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream
                .write_all(b"POST /score HTTP/1.1\r\nHost: x")
                .unwrap();
            stream
        })
        .collect();
    assert_eq!(server.get("/health").status, 200);
    for mut stream in silent {
        let mut rest = Vec::new();
        stream
            .set_read_timeout(Some(std::time::Duration::from_secs(60)))
            .unwrap();
        let closed = stream.read_to_end(&mut rest);
        let kind = closed.err().map(|error| error.kind());
        assert!(kind != Some(std::io::ErrorKind::WouldBlock), "still open");
    }
}
