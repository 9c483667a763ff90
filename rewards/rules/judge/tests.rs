//! A judge made of a socket, and what becomes of its answers.

#![allow(clippy::unwrap_used)]

use super::{Judge, RewardFn, fill};
use crate::error::RewardError;
use crate::judge::{JudgeClient, Question};
use crate::picture::Picture;
use crate::scores::{Scores, Verdict};
use crossbeam_channel as channel;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Answers each request with the next of `answers` (status and words), then closes; gives what was
/// asked: the head and the body.
fn judge(answers: Vec<(u16, &'static str)>) -> (String, Receiver<(String, serde_json::Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    let (sender, asked) = channel();
    std::thread::spawn(move || {
        for (status, words) in answers {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let (mut head, mut line) = (String::new(), String::new());
            while stream.read_line(&mut line).unwrap() > 2 {
                head += &line.to_ascii_lowercase();
                line.clear();
            }
            let length = head.split("content-length: ").nth(1).unwrap();
            let length = length.split("\r\n").next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            sender
                .send((head, serde_json::from_slice(&body).unwrap()))
                .unwrap();
            let content = serde_json::json!({"choices": [{"message": {"content": words}}], "usage": {"prompt_tokens": 1000, "completion_tokens": 10}});
            let text = content.to_string();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, asked)
}

fn rule(endpoint: &str) -> Judge {
    Judge {
        endpoint: endpoint.into(),
        model: "m".into(),
        connections: 1,
        retries: 1,
        failure_value: Some(-0.5),
        price: [2.0, 10.0],
        ..Judge::default()
    }
}

/// A rule with the client that asks for it.
struct Asking {
    rule: Judge,
    client: JudgeClient,
}

fn start(rule: Judge) -> Result<Asking, RewardError> {
    let client = JudgeClient::start(rule.judge().unwrap())?;
    Ok(Asking { rule, client })
}

impl Asking {
    fn ask(
        &self,
        [prompt, text]: [&str; 2],
        pictures: Vec<&Picture>,
    ) -> channel::Receiver<Verdict> {
        self.client.ask(&Question {
            model: &self.rule.model,
            text: fill(&self.rule.question, [prompt, text, ""]),
            pictures,
            max_tokens: self.rule.max_tokens,
            temperature: self.rule.temperature,
        })
    }
}

fn picture() -> Picture {
    Picture {
        width: 1,
        height: 1,
        rgb: vec![255, 0, 0],
    }
}

#[test]
fn a_picture_and_a_question_go_out_and_a_number_comes_back() {
    let (endpoint, asked) = judge(vec![
        (200, "I say 7 of 10"),
        (200, "12"),
        (200, "well"),
        (503, ""),
        (200, "2.5"),
        (400, ""),
    ]);
    let judge = start(rule(&endpoint)).unwrap();
    let mut values = Vec::new();
    for _ in 0..5 {
        values.push(
            judge
                .ask(["a {text}", "a dot"], vec![&picture()])
                .recv()
                .unwrap(),
        );
    }
    // In range, above it, no number, a second try, and a refusal.
    let said: Vec<Result<f64, String>> = values
        .into_iter()
        .map(|answer: Verdict| answer.map(|s| s.value).map_err(|why| why.to_string()))
        .collect();
    assert_eq!((&said[0], &said[3]), (&Ok(0.7), &Ok(0.25)));
    for (answer, why) in [(1, "\"12\""), (2, "\"well\""), (4, "status 400")] {
        let said = said[answer].as_ref().unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    let (head, body) = asked.recv().unwrap();
    assert!(head.starts_with("post /v1/chat/completions "), "{head}");
    let content = &body["messages"][0]["content"];
    let question = content[0]["text"].as_str().unwrap();
    assert!(
        question.starts_with("The picture was drawn for the request: a dot\n"),
        "{question}"
    );
    let url = content[1]["image_url"]["url"].as_str().unwrap();
    assert!(
        url.starts_with("data:image/png;base64,iVBORw0KGgo"),
        "{url}"
    );
    let count = judge.client.count();
    assert_eq!(
        (count.asked, count.failed, count.tokens),
        (5, 3, [4000, 40])
    );
    assert!((count.cost - 0.0084).abs() < 1e-12, "{count:?}");
}

#[test]
fn a_question_holds_words_and_source_and_none_of_theirs_is_filled() {
    let question = "{text} of {prompt} in {other}: {svg}{";
    let filled = fill(question, ["{svg}", "{prompt}", "<svg>{text}</svg>"]);
    assert_eq!(filled, "{prompt} of {svg} in {other}: <svg>{text}</svg>{");
}

#[test]
fn a_judge_that_is_not_there_gives_nothing() {
    let gone = Judge {
        retries: 0,
        ..rule("http://127.0.0.1:9/v1")
    };
    let judge = start(gone).unwrap();
    let why = judge.ask(["", ""], Vec::new()).recv().unwrap().unwrap_err();
    assert!(why.contains("http://127.0.0.1:9/v1"), "{why}");
}

#[test]
fn questions_are_spread_over_the_minute() {
    let (endpoint, _asked) = judge(vec![(200, "1"), (200, "1"), (200, "1")]);
    let slow = Judge {
        per_minute: 600,
        ..rule(&endpoint)
    };
    let judge = start(slow).unwrap();
    let started = Instant::now();
    let answers: Vec<_> = (0..3).map(|_| judge.ask(["", ""], Vec::new())).collect();
    for answer in answers {
        answer.recv().unwrap().unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[test]
fn a_second_try_waits_for_its_turn_as_well() {
    let (endpoint, _asked) = judge(vec![(503, ""), (200, "5")]);
    let slow = Judge {
        per_minute: 60,
        ..rule(&endpoint)
    };
    let judge = start(slow).unwrap();
    let started = Instant::now();
    assert_eq!(
        judge.ask(["", ""], Vec::new()).recv(),
        Ok(Ok(Scores::of(0.5)))
    );
    // The pause between tries alone is a fifth of a second.
    assert!(started.elapsed() >= Duration::from_millis(1000));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let said = |rule: Judge| rule.check().unwrap_err();
    assert!(said(Judge::default()).starts_with("endpoint: "));
    assert!(
        said(Judge {
            model: String::new(),
            ..rule("http://a/v1")
        })
        .starts_with("model: ")
    );
    assert!(
        said(Judge {
            range: [1.0, 1.0],
            ..rule("http://a/v1")
        })
        .starts_with("range: ")
    );
    let keyless = Judge {
        api_key_env: Some("SVGRL_NO_SUCH_KEY".into()),
        ..rule("http://a/v1")
    };
    assert!(
        start(keyless)
            .err()
            .unwrap()
            .to_string()
            .contains("SVGRL_NO_SUCH_KEY")
    );
}
