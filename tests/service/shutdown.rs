//! How it ends: what is in flight is answered, nothing more is taken.

use std::time::Duration;

use super::process::{Server, circle, slime, slow};

#[test]
fn a_signal_ends_it_after_what_is_in_flight_is_answered() {
    for (name, signal) in [("service_term", "-TERM"), ("service_int", "-INT")] {
        let mut server = Server::start(name, "deadline_ms: 4000", &[]);
        let sent = server.send(
            "POST",
            "/score",
            &[],
            slime(&slow(), &circle("red")).to_string().as_bytes(),
        );
        server.wait_for(1);
        server.signal(signal);
        while std::net::TcpStream::connect(&server.address).is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
        // It listens no more, and has not ended: what is in flight takes a while yet.
        assert!(server.child.try_wait().unwrap().is_none());
        let row = sent.answer().fine();
        assert!(
            row["reason"].as_str().unwrap().starts_with("deadline"),
            "{row}"
        );
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
        let events = server.rest();
        let last = events.last().unwrap();
        assert_eq!(
            (last["event"].as_str(), last["unanswered"].as_u64()),
            (Some("stopped"), Some(0))
        );
        let request = events.iter().find(|e| e["event"] == "request").unwrap();
        assert_eq!(
            (
                request["path"].as_str(),
                request["status"].as_u64(),
                request["items"].as_u64()
            ),
            (Some("/score"), Some(200), Some(1))
        );
    }
}

#[test]
fn the_grace_bounds_the_end() {
    let mut server = Server::start(
        "service_grace",
        "deadline_ms: 5000, service: {grace_ms: 100}",
        &[],
    );
    let _sent = server.send(
        "POST",
        "/score",
        &[],
        slime(&slow(), &circle("red")).to_string().as_bytes(),
    );
    server.wait_for(1);
    server.signal("-TERM");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    let last = server.rest().pop().unwrap();
    assert_eq!(
        (last["event"].as_str(), last["unanswered"].as_u64()),
        (Some("stopped"), Some(1))
    );
}
