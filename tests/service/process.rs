//! A running service, and plain HTTP to talk to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::program::{program, scratch, write};
use crate::cli::tiny::{TOKENIZER, drawing};

const CONFIG: &str = "\
model: {tokenizer: TOKENIZER, init: {}}
data: {sources: {shapes: {format: shapes, task: draw}}}
rewards: {SECTION}
tasks:
  draw:
    render: {size: 256}
    rubric:
      failure_value: -1
      rewards: [{type: mse, weight: [[0, 1], [10, 3]]}, {type: code_efficiency, weight: 0.5, clip: [0, 1]}]
  look:
    render: {size: 256}
    rubric: {truncated: -0.5, rewards: [{type: ssim, window_size: 7}]}
stages: [{algorithm: grpo}]
";

/// Writes a config whose `rewards` section holds `section` besides.
pub fn config(folder: &Path, section: &str) -> PathBuf {
    let text = CONFIG
        .replace("TOKENIZER", TOKENIZER)
        .replace("SECTION", section);
    write(folder, "rewards.yaml", &text)
}

pub fn circle(colour: &str) -> String {
    drawing(&format!("<circle cx='32' cy='32' r='20' fill='{colour}'/>"))
}

/// A picture that takes a worker about as long as its deadline allows.
pub fn slow() -> String {
    let turbulence = "<feTurbulence baseFrequency='0.01' numOctaves='20'/>".repeat(90);
    drawing(&format!(
        "<filter id='f'>{turbulence}</filter><rect width='64' height='64' filter='url(#f)'/>"
    ))
}

/// A service that is killed at the end.
pub struct Server {
    pub folder: PathBuf,
    pub address: String,
    pub child: Child,
    /// Standard error behind the first line.
    pub log: BufReader<ChildStderr>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks status and that the body's `error` holds `part`.
    #[track_caller]
    pub fn refused(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let said = self.json()["error"].as_str().unwrap().to_owned();
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }

    /// The body of a 200.
    #[track_caller]
    pub fn fine(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

impl Server {
    /// Starts one in a folder of its own; `section` goes into the config's `rewards`.
    pub fn start(name: &str, section: &str, flags: &[&str]) -> Self {
        let folder = scratch(name);
        let config = config(&folder, section);
        Self::with(folder, &config, flags)
    }

    /// Starts one from a config.
    pub fn with(folder: PathBuf, config: &Path, flags: &[&str]) -> Self {
        Self::of(program(), folder, config, flags)
    }

    /// Starts one by a program that has its surroundings.
    pub fn of(mut program: Command, folder: PathBuf, config: &Path, flags: &[&str]) -> Self {
        let mut child = program
            .arg("serve-rewards")
            .arg(config)
            .args(["--addr", "127.0.0.1:0"])
            .args(flags)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(event["event"], "listening", "{line}");
        let address = event["address"].as_str().unwrap().to_owned();
        Self {
            folder,
            address,
            child,
            log,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], body.to_string().as_bytes())
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Answer {
        self.send(method, path, headers, body).answer()
    }

    /// Sends a request without waiting.
    pub fn send(&self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Sent {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let extra: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n{extra}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // A server that has already refused may close before all is sent.
        let _ = stream.write_all(body);
        Sent(stream)
    }

    /// Waits until `count` completions are waiting or being judged.
    pub fn wait_for(&self, count: u64) {
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while self.get("/health").fine()["queue"] != count {
            assert!(
                std::time::Instant::now() < deadline,
                "the queue never held {count}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([name, &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// The rest of the log, once the process has ended.
    pub fn rest(&mut self) -> Vec<Value> {
        let mut text = String::new();
        self.log.read_to_string(&mut text).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that was sent.
pub struct Sent(TcpStream);

impl Sent {
    /// Waits for the answer.
    pub fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        let read = self.0.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{read:?} {text}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer {
            status,
            head: head.to_ascii_lowercase(),
            text: body.to_owned(),
        }
    }
}

/// A request in slime's form.
pub fn slime(response: &str, target: &str) -> Value {
    json!({"prompt": "a dot", "response": response, "label": {"svg": target, "task": "draw"}})
}
