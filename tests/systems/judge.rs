//! A judge that stands in for one behind an endpoint: a score from 1 to 100 that depends on the picture alone, or a
//! critique where JSON is asked for, and now and then nonsense.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;

use serde_json::{Value, json};

/// Its address.
pub fn judge() -> String {
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
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let parts = asked["messages"][0]["content"].as_array().unwrap();
            let picture = parts
                .iter()
                .find_map(|part| part["image_url"]["url"].as_str());
            let sum: u64 = picture.unwrap().bytes().map(u64::from).sum();
            let critique = json!({"score": sum % 11, "critique": "it is small", "suggestions": "make it larger"});
            let words = match parts[0]["text"].as_str().unwrap().contains("JSON") {
                false => (1 + sum % 100).to_string(),
                true if sum.is_multiple_of(7) => "no idea".to_owned(),
                true => critique.to_string(),
            };
            let text = json!({"choices": [{"message": {"content": words}}]}).to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    address
}
