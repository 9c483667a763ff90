//! Rewards of the user's own: a Python function, a command, a service.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, program, rows, scratch, told, write, write_rows};
use super::tiny::{self, TOKENIZER, drawing};

const CONFIG: &str = "\
model: {tokenizer: TOKENIZER, init: {}}
data: {sources: {shapes: {format: shapes, task: draw}}}
tasks:
  draw:
    render: {size: 16}
    rubric: {failure_value: -1, rewards: [REWARD]}
  words:
    completion: {format: text}
    rubric: {failure_value: -1, rewards: [REWARD]}
stages: [{algorithm: grpo}]
";

const PYTHON: &str = "\
import helper

def score(rows):
    print('seen', len(rows))
    return [one(row) for row in rows]

def one(row):
    assert sorted(row) == ['completion', 'id', 'png', 'prompt', 'reference', 'step', 'svg', 'task', 'truncated'] or row['svg'] is None
    if row['prompt'] == 'nothing':
        return None
    if row['prompt'] == 'fault':
        raise ValueError('I cannot')
    if row['svg'] is None:
        return helper.count(row['completion'])
    assert row['png'][:4] == b'\\x89PNG' and row['reference']['text'] == 'dot'
    return {'circles': row['svg'].count('<circle'), 'half': 0.5}
";

struct Scored {
    said: Told,
    out: PathBuf,
}

/// Scores `data` with a reward, in a folder that is not the working directory.
fn score(folder: &Path, reward: &str, data: &[Value]) -> Scored {
    let text = CONFIG
        .replace("TOKENIZER", TOKENIZER)
        .replace("REWARD", reward);
    let config = write(folder, "config.yaml", &text);
    let data = write_rows(folder, "data.jsonl", data);
    let out = folder.join("out.jsonl");
    let mut command = program();
    command.arg("reward").arg("--config").arg(&config);
    let said = told(command.arg("--data").arg(&data).arg("--out").arg(&out));
    Scored { said, out }
}

fn row(prompt: &str, completion: &str) -> Value {
    json!({"id": prompt, "prompt": prompt, "completion": completion, "reference": {"text": "dot"}})
}

fn dots(count: usize) -> String {
    drawing(&"<circle r='9'/>".repeat(count))
}

#[test]
fn a_python_function_scores_with_named_numbers() {
    let folder = scratch("own_python");
    write(&folder, "mine.py", PYTHON);
    write(
        &folder,
        "helper.py",
        "def count(words):\n    return len(words.split())\n",
    );
    let reward =
        "{type: python, path: \"mine.py:score\", name: mine, weight: 2, png: true, batch: 1}";
    let words = json!({"task": "words", "completion": "three small words", "reference": {}});
    let data = [
        row("a", &dots(2)),
        row("b", "<svg"),
        row("nothing", &dots(1)),
        row("fault", &dots(1)),
        row("c", &dots(3)),
        words,
    ];
    let scored = score(&folder, reward, &data);
    let said = scored.said.fine().err;
    let rows = rows(&scored.out);
    assert_eq!(rows[0]["total"], json!(5.0));
    assert_eq!(
        rows[0]["parts"],
        json!({"mine": 2.5, "mine.circles": 2.0, "mine.half": 0.5})
    );
    assert_eq!(
        (&rows[1]["total"], &rows[4]["total"]),
        (&json!(-1.0), &json!(7.0))
    );
    for lost in [2, 3] {
        assert_eq!(
            (&rows[lost]["total"], &rows[lost]["unscored"]),
            (&Value::Null, &json!(["mine"]))
        );
    }
    assert_eq!(rows[5]["total"], json!(6.0));
    assert!(
        said.contains("seen 1") && said.contains("mine: 2 of 6"),
        "{said}"
    );
}

#[test]
fn python_that_cannot_be_loaded_is_refused_by_key() {
    let folder = scratch("own_python_refused");
    write(&folder, "bad.py", "import no_such_module\n");
    write(&folder, "fine.py", "x = 1\n");
    for (reward, parts) in [
        (
            "{type: python, path: \"gone.py:score\"}",
            vec!["rewards.0.path", "gone.py", "no such file"],
        ),
        (
            "{type: python, path: \"bad.py:score\"}",
            vec!["rewards.0.path", "no_such_module", "bad.py, line 1"],
        ),
        (
            "{type: python, path: \"fine.py:score\"}",
            vec!["rewards.0.path", "fine.py:score", "no attribute"],
        ),
        (
            "{type: python, path: \"fine.py:x\"}",
            vec!["rewards.0.path", "no function"],
        ),
        (
            "{type: python, path: \"fine.py:x\", interpreter: no-such-python}",
            vec!["rewards.0.interpreter", "no-such-python"],
        ),
        ("{type: python}", vec!["rewards.0.path", "mine.py:score"]),
        ("{type: command}", vec!["rewards.0.run"]),
        (
            "{type: http, url: nowhere}",
            vec!["rewards.0.url", "http://"],
        ),
    ] {
        let scored = score(&folder, reward, &[row("a", &dots(1))]);
        scored.said.refused(2, &parts);
    }
}

#[test]
fn a_function_that_dies_or_hangs_fails_its_batch_alone() {
    let folder = scratch("own_python_dies");
    let text = "\
import os, time
def score(rows):
    if rows[0]['prompt'] == 'die':
        os._exit(3)
    if rows[0]['prompt'] == 'hang':
        time.sleep(60)
    return [1 for _ in rows]
";
    write(&folder, "mine.py", text);
    let reward = "{type: python, path: \"mine.py:score\", batch: 1, timeout_ms: 3000}";
    let data = ["a", "die", "b", "hang", "c"].map(|prompt| row(prompt, &dots(1)));
    let scored = score(&folder, reward, &data);
    scored.said.fine();
    let totals: Vec<Value> = rows(&scored.out)
        .iter()
        .map(|row| row["total"].clone())
        .collect();
    assert_eq!(
        totals,
        [json!(1.0), Value::Null, json!(1.0), Value::Null, json!(1.0)]
    );
}

#[test]
fn a_command_reads_rows_and_writes_numbers() {
    let folder = scratch("own_command");
    // It runs in the config's folder, and reads its rows however it likes.
    write(
        &folder,
        "score.sh",
        "cat > rows.txt; sed -e 's/.*nothing.*/null/' -e 's/.*<circle.*/{\"score\": 1, \"length\": 7}/' rows.txt\n",
    );
    let reward = "{type: command, run: \"sh score.sh\"}";
    let data = [
        row("a", &dots(1)),
        row("nothing", &dots(1)),
        row("b", "no svg"),
    ];
    let scored = score(&folder, reward, &data);
    scored.said.fine();
    let rows = rows(&scored.out);
    assert_eq!(
        rows[0]["parts"],
        json!({"command": 1.0, "command.length": 7.0})
    );
    assert_eq!(
        (&rows[1]["total"], &rows[2]["total"]),
        (&Value::Null, &json!(-1.0))
    );
    for (run, why) in [
        ("exit 3", "exit status: 3"),
        ("echo 1; echo 2; cat >/dev/null", "1 rows went in, 2 lines"),
        ("cat >/dev/null; echo x", "not JSON"),
    ] {
        let scored = score(
            &folder,
            &format!("{{type: command, run: \"{run}\"}}"),
            &data[..1],
        );
        let said = scored.said.fine().err;
        assert!(said.contains(why), "{run}: {said}");
    }
}

/// A service that fails its first request and then gives each row the length of its prompt; what it was asked last.
fn service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1/score?x=1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line, mut first) = (0, String::new(), String::new());
            while stream.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if first.is_empty() {
                    first.clone_from(&line);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            assert!(first.starts_with("POST /v1/score?x=1 "), "{first}");
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let answer = |row: &Value| {
                assert!(
                    row["svg"].is_string()
                        && row["reference"]["text"] == "dot"
                        && row["id"].is_string()
                );
                match row["prompt"].as_str().unwrap() {
                    "nothing" => json!({"error": "no idea"}),
                    prompt => json!(prompt.len()),
                }
            };
            let rows: Vec<Value> = asked["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(answer)
                .collect();
            let (status, text) = match index {
                0 => (503, "{}".to_owned()),
                _ => (200, json!({"items": rows}).to_string()),
            };
            let answer = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}

#[test]
fn a_service_is_asked_again_and_scores_what_it_can() {
    let folder = scratch("own_http");
    let reward = format!("{{type: http, url: \"{}\"}}", service());
    let data = [
        row("abc", &dots(1)),
        row("nothing", &dots(1)),
        row("de", "<svg"),
    ];
    let scored = score(&folder, &reward, &data);
    let said = scored.said.fine().err;
    let totals: Vec<Value> = rows(&scored.out)
        .iter()
        .map(|row| row["total"].clone())
        .collect();
    assert_eq!(totals, [json!(3.0), Value::Null, json!(-1.0)]);
    assert!(
        said.contains("status 503") && said.contains("no idea"),
        "{said}"
    );
}

#[test]
fn a_run_draws_a_curve_for_each_named_number() {
    let folder = scratch("own_run");
    let config = tiny::config(&folder);
    write(
        &folder,
        "mine.py",
        "def score(rows):\n    return [{'long': len(row['svg']), 'id': len(row['id'])} for row in rows]\n",
    );
    let run = folder.join("run");
    let mut command = program();
    command.arg("train").arg(&config).arg("--run-dir").arg(&run);
    for set in [
        "tasks.draw.rubric.rewards=[{type: python, path: \"mine.py:score\"}]",
        "stages.rl.rollout.temperature=0.3",
        "stages.rl.steps=1",
    ] {
        command.args(["--set", set]);
    }
    told(&mut command).fine();
    let metrics = rows(&run.join("metrics.jsonl"));
    let curve = |name: &str| {
        metrics
            .iter()
            .any(|row| row[name].as_f64().is_some_and(|mean| mean > 1.0))
    };
    for name in [
        "reward/python.long/mean",
        "reward/python.id/mean",
        "reward/draw/python.long/mean",
    ] {
        assert!(curve(name), "{name}");
    }
}
