//! `svgrl eval` of a model folder, a run and a server: answers are kept, what was interrupted goes on, and what a server
//! does not answer is counted.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::pictures::{expected, media, with_tokenizer};
use super::program::{Told, copy, program, rows, scratch, told, write, write_rows};
use super::tiny::{TOKENIZER, tiny};
use crate::support::chat_server::chat_server;
use crate::support::fixture;

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A suite of drawings from words, and of choices.
fn suite(folder: &Path) -> PathBuf {
    let data = folder.join("Icon");
    copy(&fixture("parity/sarena/Icon"), &data);
    std::fs::remove_dir_all(data.join("edit")).unwrap();
    let asked = |id: usize, words: &str| json!({"id": id, "conversations": [{"value": words}]});
    let list = [
        asked(1, "a red circle"),
        asked(2, "a green square"),
        asked(3, "a blue circle"),
        asked(4, "a black square"),
    ];
    write_rows(&data.join("generation"), "text2svg.jsonl", &list);
    let text = format!(
        "data: {}\ndevice: cpu\nthreads: 1\ntokenizer: {TOKENIZER}\nbootstrap: {{samples: 50}}\nsampling: {{max_new_tokens: 40, slots: 2}}\nserver: {{retries: 0, connections: 3, model: served}}\n",
        data.display()
    );
    write(folder, "suite.yaml", &text)
}

fn eval(config: &Path, from: &str, model: &Path, out: &Path, set: &[&str]) -> Told {
    let mut command = program();
    command
        .args(["eval", "sarena-icon", "--config"])
        .arg(config);
    command.arg(from).arg(model).arg("--out").arg(out);
    for set in set {
        command.args(["--set", set]);
    }
    told(&mut command)
}

#[test]
fn a_model_is_asked_once_and_what_was_interrupted_goes_on() {
    let folder = scratch("eval_model");
    let config = suite(&folder);
    // The model reads words alone.
    std::fs::remove_file(folder.join("Icon/generation/img2svg.jsonl")).unwrap();
    let (whole, parts) = (folder.join("whole"), folder.join("parts"));
    let sampled = ["sampling.temperature=0.8"];
    let said = eval(&config, "--model", &tiny().model(), &whole, &sampled).fine();
    assert!(said.err.contains("img2svg"), "{}", said.err);
    let scores = json_of(&whole.join("scores.json"));
    assert_eq!(scores["tasks"]["text2svg"]["items"], json!(4));
    assert_eq!(scores["tasks"]["understanding"]["items"], json!(4));
    let kept = whole.join("predictions/text2svg/output.jsonl");
    let answers = rows(&kept);
    assert_eq!(answers.len(), 4);
    assert_eq!(
        rows(&whole.join("predictions/understanding/output.jsonl")).len(),
        4
    );
    // What is kept is judged alike as predictions.
    let again = folder.join("again");
    eval(
        &config,
        "--predictions",
        &whole.join("predictions"),
        &again,
        &[],
    )
    .fine();
    let tasks = |of: &Path| json_of(&of.join("scores.json"))["tasks"].clone();
    assert_eq!(tasks(&again), tasks(&whole));
    // An interrupt leaves two answers, the second one torn.
    copy(&whole, &parts);
    let text = std::fs::read_to_string(&kept).unwrap();
    let second: String = text.lines().take(2).collect::<Vec<_>>().join("\n");
    let torn = &second[..second.len() - 5];
    std::fs::write(parts.join("predictions/text2svg/output.jsonl"), torn).unwrap();
    std::fs::remove_file(parts.join("scores.json")).unwrap();
    eval(&config, "--model", &tiny().model(), &parts, &sampled).fine();
    assert_eq!(tasks(&parts), tasks(&whole));
    let first = std::fs::read_to_string(parts.join("predictions/text2svg/output.jsonl")).unwrap();
    assert!(
        first.starts_with(torn),
        "what was there is asked again: {first}"
    );
    assert_eq!(first.lines().count(), 5);
    // Answers of another temperature are no answers to this question.
    eval(&config, "--model", &tiny().model(), &parts, &[])
        .refused(2, &["temperature 0.8, not 0.0", "another --out"]);
}

/// Pictures stand where the question has its mark; a question that cannot be asked is told, and the others are.
#[test]
fn a_model_that_sees_is_shown_the_suite_s_pictures() {
    let folder = scratch("eval_sees");
    let config = suite(&folder);
    let generation = folder.join("Icon/generation");
    media(&generation, &expected());
    let row = |id: usize| json!({"id": id, "image": format!("media/{}.png", id - 1), "conversations": [{"value": "<image>de"}]});
    let mut lost = row(3);
    lost["image"] = json!("media/9.png");
    write_rows(&generation, "img2svg.jsonl", &[row(1), row(2), lost]);
    let model = with_tokenizer(&folder);
    let out = folder.join("out");
    eval(
        &config,
        "--model",
        &model,
        &out,
        &["sampling.max_new_tokens=12"],
    )
    .fine();
    let scores = json_of(&out.join("scores.json"));
    assert_eq!(
        scores["tasks"]["img2svg"]["reasons"],
        json!({"no_svg": 2, "no_answer": 1})
    );
    // This model's template takes words as parts alone.
    assert_eq!(
        scores["tasks"]["text2svg"]["reasons"],
        json!({"no_answer": 4})
    );
    let kept = rows(&out.join("predictions/img2svg/output.jsonl"));
    let prompts: Vec<Value> = (1..3)
        .map(|id| json!({"id": id.to_string(), "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "de"}]}], "images": [format!("media/{}.png", id - 1)]}))
        .collect();
    let prompts = write_rows(&generation, "prompts.jsonl", &prompts);
    let mut generate = program();
    generate.args([
        "generate",
        "-q",
        "--greedy",
        "--max-new-tokens",
        "12",
        "--device",
        "cpu",
        "--model",
    ]);
    generate.arg(&model).arg("--prompts").arg(prompts);
    told(generate.arg("--out").arg(folder.join("generated.jsonl"))).fine();
    for row in rows(&folder.join("generated.jsonl")) {
        let own = kept.iter().find(|own| own["id"] == row["id"]).unwrap();
        assert_eq!(own["answer"], row["text"]);
    }
    assert_eq!(kept.len(), 2);
}

#[test]
fn a_run_answers_by_its_last_checkpoint() {
    let folder = scratch("eval_run");
    let config = suite(&folder);
    std::fs::remove_file(folder.join("Icon/generation/img2svg.jsonl")).unwrap();
    let out = folder.join("out");
    eval(&config, "--run", &tiny().run, &out, &[]).fine();
    let asked = json_of(&out.join("predictions/asked.json"));
    assert!(
        asked["model"]
            .as_str()
            .unwrap()
            .ends_with("checkpoints/rl/final"),
        "{asked}"
    );
    eval(&config, "--run", &folder, &folder.join("other"), &[]).refused(2, &["is no run folder"]);
}

const SQUARE: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'><rect width='5' height='5' fill='red'/></svg>";

/// A server that draws squares, keeps what it is asked, and has nothing to say to `refused`.
fn server(refused: &'static str, asked: Arc<Mutex<Vec<Value>>>) -> String {
    chat_server(move |question| {
        let words = question["messages"][0]["content"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned();
        asked.lock().unwrap().push(question);
        match words.as_str() {
            "Which?" => json!("A. it is"),
            words if words == refused => Value::Null,
            _ => json!(format!("Here:\n{SQUARE}")),
        }
    })
}

#[test]
fn a_server_is_asked_what_it_has_not_answered() {
    let folder = scratch("eval_server");
    let config = suite(&folder);
    let out = folder.join("out");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = server("a blue circle", asked.clone());
    let said = eval(&config, "--endpoint", Path::new(&address), &out, &[]).fine();
    assert!(
        said.err.contains("1 questions have no answer"),
        "{}",
        said.err
    );
    let scores = json_of(&out.join("scores.json"));
    let task = &scores["tasks"]["text2svg"];
    assert_eq!((&task["items"], &task["valid"]), (&json!(4), &json!(3)));
    assert_eq!(task["reasons"], json!({"no_answer": 1}));
    assert_eq!(scores["tasks"]["img2svg"]["valid"], json!(4));
    // One question in four is right to answer with A.
    assert_eq!(
        scores["tasks"]["understanding"]["metrics"]["accuracy"]["value"],
        json!(25.0)
    );
    {
        let mut asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 12);
        for question in asked.iter() {
            assert_eq!(
                (&question["model"], &question["temperature"]),
                (&json!("served"), &json!(0.0))
            );
            assert_eq!(question["max_tokens"], json!(40));
        }
        // Pictures follow the words, as the released script sends them.
        let shown = asked.iter().filter_map(|question| {
            let content = question["messages"][0]["content"].as_array().unwrap();
            let url = content.get(1)?["image_url"]["url"].as_str()?;
            Some((content[0]["text"].as_str()?.to_owned(), url.to_owned()))
        });
        let shown: Vec<_> = shown.collect();
        assert_eq!(shown.len(), 4);
        for (words, url) in shown {
            assert_eq!(words, "<image>\nDraw it.");
            assert!(
                url.starts_with("data:image/png;base64,iVBORw0KGgo"),
                "{url}"
            );
        }
        asked.clear();
    }
    // The same command asks again what has no answer, and nothing else.
    eval(&config, "--endpoint", Path::new(&address), &out, &[]).fine();
    let again = asked.lock().unwrap().clone();
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(
        again[0]["messages"][0]["content"][0]["text"],
        json!("a blue circle")
    );
    // A server that is not there ends the evaluation with its address.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = format!("http://{gone}/v1");
    let none = folder.join("none");
    let said = eval(&config, "--endpoint", Path::new(&gone), &none, &[]);
    said.refused(1, &[&gone, "none of the first"]);
    assert!(!none.join("scores.json").exists());
}

#[test]
fn a_template_asks_in_other_words() {
    let folder = scratch("eval_template");
    let config = suite(&folder);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let address = server("-", asked.clone());
    let template = "template=Think first. {instruction}";
    eval(
        &config,
        "--endpoint",
        Path::new(&address),
        &folder.join("out"),
        &[template],
    )
    .fine();
    let asked = asked.lock().unwrap();
    let words: Vec<&str> = asked
        .iter()
        .map(|question| {
            question["messages"][0]["content"][0]["text"]
                .as_str()
                .unwrap()
        })
        .collect();
    assert!(words.contains(&"Think first. a red circle"), "{words:?}");
    assert!(
        words.contains(&"Which?"),
        "choices are asked as published: {words:?}"
    );
}
