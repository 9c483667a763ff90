//! What the machine lacks, or others do to it, is blamed on no completion and on no reference.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use super::process::{Server, circle, config, slime};
use crate::cli::program::{program, scratch};
use crate::cli::tiny::drawing;

const WORKER: &str = env!("CARGO_BIN_EXE_svgrl-render-worker");

/// A drawing that only a worker process may draw.
fn words(words: &str) -> String {
    drawing(&format!("<text x='5' y='40' font-size='20'>{words}</text>"))
}

/// A service whose worker program is the one at `worker`.
fn server(name: &str, worker: &Path) -> Server {
    let folder = scratch(name);
    let config = config(&folder, "deadline_ms: 2000");
    let mut command = program();
    command.env("SVGRL_RENDER_WORKER", worker);
    Server::of(command, folder, &config, &[])
}

#[test]
fn without_workers_callers_are_asked_to_come_back() {
    let worker = scratch("service_worker").join("worker");
    std::fs::copy(WORKER, &worker).unwrap();
    let server = server("service_no_worker", &worker);
    let away = worker.with_extension("away");
    std::fs::rename(&worker, &away).unwrap();
    let target = circle("red");
    let asked = slime(&words("a"), &target);
    let aimed = slime(&target, &words("b"));
    let check = json!({"items": [{"reference": {"svg": words("b")}}]});
    for (path, body) in [("/score", &asked), ("/score", &aimed), ("/check", &check)] {
        let answer = server.post(path, body);
        answer.refused(503, "worker_unavailable");
        assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
    }
    std::fs::rename(&away, &worker).unwrap();
    assert_eq!(server.post("/score", &asked).fine()["valid"], true);
    assert_eq!(server.post("/score", &aimed).fine()["valid"], true);
    assert_eq!(
        server.post("/check", &check).fine(),
        json!({"items": [null]})
    );
}

#[test]
fn a_drawing_whose_worker_was_killed_from_outside_is_drawn_by_another() {
    let mark = scratch("service_killed").join("once");
    let worker = mark.with_extension("sh");
    // The first worker dies as one does that the system ends for lack of memory.
    let script = format!(
        "#!/bin/sh\nif [ ! -e {mark} ]; then : > {mark}; read -r _; kill -KILL $$; fi\nexec {WORKER}\n",
        mark = mark.display()
    );
    std::fs::write(&worker, script).unwrap();
    let executable = Command::new("chmod").arg("+x").arg(&worker).status();
    assert!(executable.unwrap().success());
    let server = server("service_killed_worker", &worker);
    let row = server
        .post("/score", &slime(&words("a"), &circle("red")))
        .fine();
    assert!(mark.exists() && row["valid"] == true, "{row}");
}
