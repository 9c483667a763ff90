//! A server that stands in for an OpenAI-compatible one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

/// Its address up to the version. `answer` makes the answer's content of a request's body; every answer closes its connection.
pub fn chat_server(answer: impl Fn(Value) -> Value + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut length, mut line) = (0, String::new());
            while stream.read_line(&mut line).unwrap() > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let content = answer(serde_json::from_slice(&body).unwrap());
            let usage = json!({"prompt_tokens": 500, "completion_tokens": 5});
            let text =
                json!({"choices": [{"message": {"content": content}}], "usage": usage}).to_string();
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length:";
            let answer = format!("{head} {}\r\n\r\n{text}", text.len());
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}
