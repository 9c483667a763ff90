//! The stand-in's side of HTTP: a request that is read, and what goes back.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;

use serde_json::{Value, json};

/// What goes back.
pub struct Reply {
    pub status: u16,
    pub body: String,
    /// Whether half of the body must do.
    pub cut: bool,
}

/// What was asked for.
pub fn fine(body: &Value) -> Reply {
    Reply {
        status: 200,
        body: body.to_string(),
        cut: false,
    }
}

/// An error in the servers' form.
pub fn refused(status: u16, why: &str) -> Reply {
    Reply {
        status,
        body: json!({"error": {"message": why}}).to_string(),
        cut: false,
    }
}

/// Path and body of the next request; `None` when the other side has closed.
pub fn read_request(stream: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let lower = line.trim().to_ascii_lowercase();
        if lower.is_empty() {
            break;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((path, serde_json::from_slice(&body).unwrap_or_default()))
}
