//! What is answered: the same rows as offline, in order, whatever the completions hold.

use serde_json::{Value, json};

use super::process::{Server, circle, slime, slow};
use crate::cli::program::{keys, rows, scratch, svgrl, write, write_rows};
use crate::cli::tiny::{TOKENIZER, drawing};
use crate::support::fixture;

#[test]
fn one_completion_is_answered_as_slime_sends_it() {
    let server = Server::start("service_score", "deadline_ms: 2000", &[]);
    let target = circle("red");
    let row = server.post("/score", &slime(&target, &target)).fine();
    assert_eq!(
        keys(&row),
        [
            "id",
            "total",
            "parts",
            "valid",
            "reason",
            "render_ms",
            "reward"
        ]
    );
    assert_eq!(row["reward"], row["total"]);
    assert!(
        (row["total"].as_f64().unwrap() - 1.375).abs() < 1e-12,
        "{row}"
    );
    let bad = server.post("/score", &slime("<svg><g>", &target)).fine();
    assert_eq!(
        (bad["reward"].clone(), bad["valid"].clone()),
        (json!(-1.0), json!(false))
    );
    assert!(bad["reason"].as_str().unwrap().starts_with("malformed_xml"));
    let label = json!({"svg": target, "task": "look"}).to_string();
    let chat = json!({"prompt": [{"role": "user", "content": "a dot"}], "response": target, "label": label});
    assert_eq!(server.post("/score", &chat).fine()["total"], 1.0);
}

#[test]
fn a_batch_gets_the_rows_of_the_offline_command() {
    let server = Server::start("service_batch", "deadline_ms: 2000", &[]);
    let target = circle("red");
    let mut items: Vec<Value> = ["red", "blue", "lime"]
        .iter()
        .map(|colour| json!({"id": colour, "prompt": "p", "completion": circle(colour), "reference": {"svg": target}, "step": 5}))
        .collect();
    items.push(json!({"id": 3, "prompt": "p", "completion": "no", "reference": {"svg": target}, "task": "look", "truncated": true}));
    let data = write_rows(&server.folder, "data.jsonl", &items);
    let out = server.folder.join("out.jsonl");
    let config = server.folder.join("rewards.yaml");
    svgrl(
        "reward --config",
        &[&config, "--data".as_ref(), &data, "--out".as_ref(), &out],
    )
    .fine();
    let served = server.post("/score_batch", &json!({"items": items})).fine();
    let served = served["items"].as_array().unwrap();
    assert_eq!(served.len(), 4);
    for (row, offline) in served.iter().zip(rows(&out)) {
        for key in ["id", "total", "parts", "valid", "reason"] {
            assert_eq!(row[key], offline[key]);
        }
    }
}

#[test]
fn a_batch_may_say_what_it_means_and_how_long_it_waits() {
    let server = Server::start("service_terms", "deadline_ms: 2000", &[]);
    let health = server.get("/health").fine();
    assert_eq!(
        (&health["deadline_ms"], &health["drawing_ms"]),
        (&json!(30_000), &json!(2000))
    );
    let target = circle("red");
    let ask = |completion: String, tasks: &Value| {
        let row = json!({"completion": completion, "reference": {"svg": target}});
        let body = json!({"items": [row], "tasks": tasks, "deadline_ms": 300});
        server.post("/score_batch", &body)
    };
    let fine = ask(target.clone(), &health["tasks"]).fine();
    assert_eq!(fine["items"][0]["valid"], true);
    let late = ask(slow(), &json!({})).fine();
    let reason = late["items"][0]["reason"].as_str().unwrap();
    assert_eq!(reason, "service_deadline: not judged within 300 ms");
    let other = json!({"look": health["tasks"]["look"], "draw": "0123456789abcdef"});
    ask(target.clone(), &other).refused(409, "tasks.draw: ");
    let check = json!({"items": [{"reference": {"svg": target}}], "tasks": other});
    server.post("/check", &check).refused(409, "tasks.draw: ");
}

#[test]
fn pictures_come_as_base64_or_by_a_registered_name() {
    let folder = crate::cli::program::scratch("service_images_source");
    let file = write(&folder, "target.svg", &circle("red"));
    svgrl("render --size 256 --out", &[&folder, &file]).fine();
    let png = folder.join("target.png");
    let section = format!("service: {{images: {{dot: {}}}}}", png.display());
    let server = Server::start("service_images", &section, &[]);
    let coded = base64(&std::fs::read(&png).unwrap());
    let ask = |image: &str| {
        let row =
            json!({"task": "look", "completion": circle("red"), "reference": {"image": image}});
        server.post("/score_batch", &json!({"items": [row]}))
    };
    for image in ["dot", &coded] {
        let total = ask(image).fine()["items"][0]["total"].as_f64().unwrap();
        assert!(total > 0.999, "{total}");
    }
    for path in [
        png.to_str().unwrap(),
        "/etc/passwd",
        "file:///etc/passwd",
        "nodot",
    ] {
        ask(path).refused(422, "items.0.reference.image");
    }
}

fn base64(bytes: &[u8]) -> String {
    use std::fmt::Write;
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0u32, |word, &byte| (word << 8) | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place)) as usize & 63] as char;
            let _ = write!(out, "{}", if place <= chunk.len() { letter } else { '=' });
        }
    }
    out
}

#[test]
fn hostile_completions_and_references_leave_the_service_answering() {
    let server = Server::start("service_hostile", "deadline_ms: 300", &[]);
    let target = circle("red");
    let nested = drawing(&"<g>".repeat(80_000));
    let entities = "<!DOCTYPE svg [<!ENTITY a 'aaaa'>]><svg viewBox='0 0 1 1'>&a;</svg>".to_owned();
    let reads = drawing("<image href='/etc/passwd' width='9' height='9'/>");
    // Its reason speaks of references, those of the completion itself.
    let cycle = drawing("<g id='a'><use href='#a'/></g>");
    for attack in [
        nested,
        cycle,
        entities,
        slow(),
        "\u{0}".into(),
        " ".repeat(3 << 20),
        reads,
    ] {
        let row = server.post("/score", &slime(&attack, &target)).fine();
        assert_eq!(row["valid"] == json!(true), row["reason"].is_null());
        let answer = server.post("/score", &slime(&target, &attack));
        assert!([200, 422].contains(&answer.status), "{answer:?}");
    }
    let broken = drawing("<g>");
    server
        .post("/score", &slime(&target, &broken))
        .refused(422, "reference does not render: malformed_xml");
    let row = server.post("/score", &slime(&target, &target)).fine();
    assert_eq!(row["valid"], json!(true));
}

#[test]
fn health_and_metrics_tell_what_happened() {
    let server = Server::start("service_metrics", "deadline_ms: 2000", &[]);
    let target = circle("red");
    server.post("/score", &slime(&target, &target)).fine();
    server.post("/score", &slime("x", &target)).fine();
    server.post("/score", &json!({})).refused(422, "response");
    let health = server.get("/health").fine();
    assert_eq!(health["status"], "ok");
    assert_eq!(keys(&health["tasks"]), ["draw", "look"]);
    let text = server.get("/metrics").text;
    for line in [
        "# TYPE svgrl_items_total counter",
        "svgrl_items_total{outcome=\"valid\"} 1",
        "svgrl_items_total{outcome=\"invalid\"} 1",
        "svgrl_invalid_total{reason=\"no_svg\"} 1",
        "svgrl_requests_total{path=\"/score\",status=\"200\"} 2",
        "svgrl_requests_total{path=\"/score\",status=\"422\"} 1",
        "svgrl_item_seconds_count 2",
        "svgrl_queue_items 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_judge_that_keeps_silent_holds_up_nobody_else() {
    // Callers are taken in and never answered.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = crate::cli::program::scratch("service_silent_judge");
    let endpoint = format!("http://{}/v1", silent.local_addr().unwrap());
    let text = CONFIG_WITH_A_JUDGE
        .replace("TOKENIZER", crate::cli::tiny::TOKENIZER)
        .replace(
            "CLIP",
            crate::support::fixture("parity/encoders/clip")
                .to_str()
                .unwrap(),
        )
        .replace("ENDPOINT", &endpoint);
    let config = write(&folder, "rewards.yaml", &text);
    let server = Server::with(folder, &config, &[]);
    let row = |task: &str| json!({"task": task, "prompt": "a dot", "completion": circle("red")});
    let out = server
        .post(
            "/score_batch",
            &json!({"items": [row("asked"), row("seen"), row("seen")]}),
        )
        .fine();
    let reason = |index: usize| out["items"][index]["reason"].clone();
    assert!(
        reason(0).as_str().unwrap().starts_with("service_deadline"),
        "{out}"
    );
    assert_eq!((reason(1), reason(2)), (json!(null), json!(null)), "{out}");
    // What came too late says nothing of the completion.
    let late = &out["items"][0];
    assert_eq!(
        (&late["total"], &late["reward"]),
        (&json!(null), &json!(-0.5))
    );
    assert_eq!(late["unscored"], json!(["judge"]));
}

#[test]
fn what_a_judge_could_not_judge_is_named_beside_the_failure_value() {
    let folder = scratch("service_no_judge");
    let text = CONFIG_WITH_A_JUDGE
        .replace("TOKENIZER", crate::cli::tiny::TOKENIZER)
        .replace("encoders: {clip: {path: CLIP}}\n", "")
        .replace("type: image_text, encoder: clip", "type: format")
        .replace("timeout_ms: 60000", "retries: 0")
        .replace("ENDPOINT", "http://127.0.0.1:9/v1");
    let config = write(&folder, "rewards.yaml", &text);
    let server = Server::with(folder, &config, &[]);
    let asked = json!({"prompt": [{"role": "user", "content": "a dot"}], "response": circle("red"), "label": {"task": "asked"}});
    let answer = server.post("/score", &asked).fine();
    assert_eq!(
        (&answer["total"], &answer["reward"]),
        (&json!(null), &json!(-0.5))
    );
    assert_eq!(
        (&answer["valid"], &answer["unscored"]),
        (&json!(true), &json!(["judge"]))
    );
    let seen = json!({"prompt": "a dot", "response": circle("red"), "label": {"task": "seen"}});
    let answer = server.post("/score", &seen).fine();
    assert_eq!(
        (&answer["total"], &answer["reward"]),
        (&json!(1.0), &json!(1.0))
    );
    assert!(answer.get("unscored").is_none(), "{answer}");
    let text = server.get("/metrics").text;
    assert!(
        text.contains("svgrl_unscored_total{part=\"judge\"} 1\n"),
        "{text}"
    );
}

const CONFIG_WITH_A_JUDGE: &str = "\
model: {tokenizer: TOKENIZER, init: {}}
device: cpu
data: {sources: {shapes: {format: shapes, task: seen}}}
encoders: {clip: {path: CLIP}}
rewards: {service: {deadline_ms: 3000}}
tasks:
  seen: {render: {size: 64}, rubric: {rewards: [{type: image_text, encoder: clip}]}}
  asked: {render: {size: 64}, rubric: {failure_value: -0.5, rewards: [{type: judge, endpoint: ENDPOINT, model: m, timeout_ms: 60000}]}}
stages: [{algorithm: grpo}]
";

/// What is encoded twice would be counted twice.
#[test]
fn references_are_encoded_once_whoever_asks() {
    let folder = scratch("service_encoders");
    let text = format!(
        "model: {{tokenizer: {TOKENIZER}, init: {{}}}}\ndata: {{sources: {{shapes: {{format: shapes, task: draw}}}}}}\n\
         encoders: {{dino: {{path: {}}}}}\ntasks: {{draw: {{render: {{size: 64}}, rubric: {{rewards: [{{type: dino, encoder: dino}}]}}}}}}\n\
         stages: [{{algorithm: grpo}}]\n",
        fixture("parity/encoders/dinov2").display()
    );
    let config = write(&folder, "rewards.yaml", &text);
    let server = Server::with(folder, &config, &[]);
    let colours = ["red", "blue", "green", "black"];
    let items: Vec<Value> = (0..8)
        .map(|item| {
            let (own, target) = (circle(colours[item % 4]), circle(colours[item / 4]));
            json!({"completion": own, "reference": {"svg": target}})
        })
        .collect();
    let encoded = || {
        let text = server.get("/metrics").text;
        let name = "svgrl_encoder_items_total{encoder=\"dino\"} ";
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{text}"))
            .parse::<u64>()
            .unwrap()
    };
    let ask = || server.post("/score_batch", &json!({"items": items})).fine();
    let first = ask();
    assert_eq!(encoded(), 8 + 2, "completions and references");
    let again = ask();
    assert_eq!(encoded(), 8 + 2 + 8, "references are kept by their content");
    let totals = |out: &Value| -> Vec<Value> {
        let rows = out["items"].as_array().unwrap();
        rows.iter().map(|row| row["total"].clone()).collect()
    };
    assert_eq!(totals(&first), totals(&again));
    assert!((first["items"][0]["total"].as_f64().unwrap() - 1.0).abs() < 1e-6);
}
