//! What is refused, and how it is said.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

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
    let file = write(&folder, "token", "\u{feff}s3cret\r\n");
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
    // The first is being drawn and the second waits for it; the third waits for neither.
    let items = [slow(), slow(), target.clone()]
        .map(|completion| json!({"completion": completion, "reference": {"svg": target}}));
    let out = server.post("/score_batch", &json!({"items": items})).fine();
    let rows = out["items"].as_array().unwrap();
    assert_eq!(rows[2]["valid"], json!(true), "{out}");
    for row in &rows[..2] {
        // Nobody has judged it: it has no total, and callers that need a number get the failure value.
        assert_eq!(
            (row["total"].clone(), row["valid"].clone()),
            (Value::Null, json!(false)),
            "{out}"
        );
        assert_eq!(row["reward"], json!(-1.0), "{out}");
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
    let metrics = server.get("/metrics").text;
    let outcomes = metrics
        .lines()
        .filter(|line| line.starts_with("svgrl_items_total{"));
    let counts = outcomes.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>(), 4, "each has one outcome: {metrics}");
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

#[test]
fn slow_senders_keep_nobody_out() {
    let bounds = "service: {max_requests: 8, patience_ms: 500, body_ms: 60000, idle_ms: 60000}";
    let server = Server::start("service_slow", bounds, &[]);
    let target = circle("red");
    let good = slime(&target, &target);
    // Many more than connections (64) and bodies (8) have places, each with a body that never ends.
    let slow: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{\"res";
            // Those that came first may have been closed.
            let _ = stream.write_all(head);
            stream
        })
        .collect();
    let started = Instant::now();
    for _ in 0..3 {
        let mut answer = server.post("/score", &good);
        while answer.status == 429 {
            assert!(answer.head.contains("retry-after: "), "{answer:?}");
            assert!(started.elapsed() < Duration::from_secs(90), "kept out");
            std::thread::sleep(Duration::from_millis(50));
            answer = server.post("/score", &good);
        }
        assert_eq!(answer.fine()["valid"], true);
    }
    // Far below what a slow caller may take.
    assert!(started.elapsed() < Duration::from_secs(90));
    drop(slow);
}

#[test]
fn a_body_that_does_not_end_is_408() {
    let server = Server::start("service_body", "service: {body_ms: 300}", &[]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
    stream.write_all(head).unwrap();
    let minute = Some(Duration::from_secs(60));
    stream.set_read_timeout(minute).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 408 "), "{text}");
    assert!(text.contains("300 ms"), "{text}");
}

#[test]
fn a_caller_that_sends_too_much_can_read_why() {
    let folder = scratch("service_too_much");
    write(&folder, "token", "s3cret\n");
    let config = config(&folder, "service: {max_body_mib: 1}");
    let token = folder.join("token").display().to_string();
    let server = Server::with(folder, &config, &["--token-file", &token]);
    // More than a socket holds, so that it arrives only if somebody reads it.
    let body = vec![b' '; 3 << 20];
    let chunked = "Transfer-Encoding: chunked\r\n".to_owned();
    let announced = format!("Content-Length: {}\r\n", body.len());
    let bearer = "Authorization: Bearer s3cret\r\n";
    for (path, length, shown, status) in [
        ("/score", &announced, bearer, "413"),
        ("/score_batch", &chunked, bearer, "413"),
        ("/score", &announced, "", "401"),
        ("/nowhere", &announced, bearer, "404"),
    ] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let minute = Some(Duration::from_secs(60));
        stream.set_read_timeout(minute).unwrap();
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{shown}{length}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let sent = match length == &chunked {
            true => stream
                .write_all(format!("{:x}\r\n", body.len()).as_bytes())
                .and_then(|()| stream.write_all(&body))
                .and_then(|()| stream.write_all(b"\r\n0\r\n\r\n")),
            false => stream.write_all(&body),
        };
        sent.unwrap_or_else(|error| panic!("{path} {length}: {error}"));
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    // Who asks first is told without sending.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n{bearer}{announced}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn every_way_to_send_a_request_is_understood_or_refused() {
    let server = Server::start("service_ways", "deadline_ms: 5000", &[]);
    let target = circle("red");
    let good = slime(&target, &target).to_string();
    let length = good.len();
    let talk = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let minute = Some(Duration::from_secs(60));
        stream.set_read_timeout(minute).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let old =
        talk(format!("POST /score HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{good}").as_bytes());
    assert!(
        old.starts_with("HTTP/1.0 200 ") && old.contains("\"valid\":true"),
        "{old}"
    );
    // Two requests at once on one connection are answered in their order.
    let first =
        format!("POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{good}");
    let second = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let both = talk(format!("{first}{second}").as_bytes());
    assert_eq!(both.matches("HTTP/1.1 200 OK").count(), 2, "{both}");
    assert!(
        both.find("\"valid\"") < both.find("\"status\":\"ok\""),
        "{both}"
    );
    let (a, b) = good.split_at(7);
    let chunks = format!(
        "{:x}\r\n{a}\r\n{:x};x=y\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    );
    let chunked = talk(format!("POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes());
    assert!(chunked.contains("\"valid\":true"), "{chunked}");
    let asked = talk(format!("POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{good}").as_bytes());
    assert!(
        asked.starts_with("HTTP/1.1 100 Continue") && asked.contains("\"valid\":true"),
        "{asked}"
    );
    for absurd in [
        "99999999999999999999999",
        "-1",
        "1e3",
        "18446744073709551615",
    ] {
        let said = talk(format!("POST /score HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {absurd}\r\n\r\n").as_bytes());
        assert!(said.starts_with("HTTP/1.1 4"), "{absurd}: {said}");
    }
    let garbage = talk(b"\x16\x03\x01\x02\x00\r\n\r\n");
    assert!(
        garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "),
        "{garbage}"
    );
    let head = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    let long = {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let _ = stream.write_all(head.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(
        long.is_empty() || long.starts_with("HTTP/1.1 431 "),
        "{long}"
    );
    assert_eq!(
        server.post("/score", &slime(&target, &target)).fine()["valid"],
        true
    );
}
