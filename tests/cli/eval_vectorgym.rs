//! `svgrl eval vectorgym` of a server: the published table's four tasks in the released words, a judge, and the same again from
//! what is kept.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::program::{Told, program, rows, scratch, told, write};
use crate::support::chat_server::chat_server;
use crate::support::fixture;

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

const CUT: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 64 64'><rect x='4' y='8' width='32' height='32' fill='red'/>";

fn eval(folder: &Path, more: &str, from: [&str; 2], out: &Path) -> Told {
    let table = fixture("parity/vectorgym/table");
    let text = format!(
        "data: {}\ndevice: cpu\nthreads: 1\nbootstrap: {{samples: 50}}\nencoders: {{dinov2: {}}}\n{more}",
        table.display(),
        fixture("parity/encoders/dinov2").display()
    );
    let config = write(folder, "vectorgym.yaml", &text);
    let mut command = program();
    command.args(["eval", "vectorgym", "--config"]).arg(config);
    told(command.args(from).arg("--out").arg(out))
}

#[test]
fn a_server_is_asked_the_table_s_four_tasks() {
    let folder = scratch("eval_vectorgym_asked");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    let address = chat_server(move |question| {
        let content = question["messages"][0]["content"].as_array().unwrap();
        let words = content[0]["text"].as_str().unwrap().to_owned();
        kept.lock()
            .unwrap()
            .push((words.clone(), content.len(), question.clone()));
        match words {
            words if words.contains("`score: NUMBER`") => json!("score: 8\ngood"),
            words if words.starts_with("Describe") => json!("a red square"),
            // Cut off, as by the length limit.
            _ => json!(CUT),
        }
    });
    let out = folder.join("out");
    let server = "server: {retries: 0, connections: 2}\n";
    let judge = format!("{server}judge: {{endpoint: \"{address}\", model: m, retries: 0}}\n");
    let said = eval(&folder, &judge, ["--endpoint", &address], &out).fine();
    let scores = json_of(&out.join("scores.json"));
    for (task, items) in [("sketch", 2), ("edit", 3), ("text", 2), ("caption", 2)] {
        let own = &scores["tasks"][task];
        assert_eq!(
            (&own["items"], &own["valid"]),
            (&json!(items), &json!(items)),
            "{task}"
        );
        assert_eq!(own["metrics"]["judge"]["value"], json!(80.0), "{task}");
    }
    // What was cut off is closed: the red square is the first drawing.
    let items = rows(&out.join("items.jsonl"));
    let mse = |id: &str| {
        let mut all = items.iter();
        let item = all
            .find(|item| item["task"] == "sketch" && item["id"] == id)
            .unwrap();
        item["values"]["mse"].as_f64().unwrap()
    };
    assert!(
        mse("a") < 1e-6 && mse("b") > 0.01,
        "{} {}",
        mse("a"),
        mse("b")
    );
    assert!(
        said.err.contains("sketch: 1 rows are no samples of it"),
        "{}",
        said.err
    );
    let first = {
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 18);
        let (_, parts, question) = asked
            .iter()
            .find(|(words, ..)| words == "Convert the input sketch image into an SVG")
            .unwrap();
        assert_eq!(
            (*parts, &question["top_p"], &question["temperature"]),
            (2, &json!(0.9), &json!(0.0))
        );
        assert_eq!(question["max_tokens"], json!(8096));
        let (_, parts, _) = asked
            .iter()
            .find(|(words, ..)| words.starts_with("Edit this SVG with the following instruction: make it green\n\nOriginal SVG:\n<svg"))
            .unwrap();
        assert_eq!(*parts, 1, "edits are asked in text alone");
        asked.len()
    };
    // Nothing is asked again, of the model or of the judge.
    eval(&folder, &judge, ["--endpoint", &address], &out).fine();
    assert_eq!(asked.lock().unwrap().len(), first);
    // What is kept can be judged alone, and the judge's answers are those of before.
    let predictions = out.join("predictions");
    let again = folder.join("again");
    std::fs::create_dir_all(&again).unwrap();
    std::fs::copy(out.join("judged.jsonl"), again.join("judged.jsonl")).unwrap();
    let judge = judge.replace(server, "");
    let from = ["--predictions", predictions.to_str().unwrap()];
    eval(&folder, &judge, from, &again).fine();
    assert_eq!(asked.lock().unwrap().len(), first);
    assert_eq!(
        json_of(&again.join("scores.json"))["tasks"],
        scores["tasks"]
    );
    // Without a table there is nothing to ask.
    let none = write(&folder, "none.yaml", "device: cpu\n");
    let mut command = program();
    command.args(["eval", "vectorgym", "--config"]).arg(none);
    command
        .args(["--endpoint", &address, "--out"])
        .arg(folder.join("none"));
    told(&mut command).refused(2, &["data: is needed"]);
}
