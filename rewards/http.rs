//! One HTTP call with patience: connection failures, timeouts, 429 and 5xx are tried again after
//! growing pauses (or the pause that the other side asks for), as is an answer that is no JSON, which
//! something in between has made or cut off; anything else is final.

use serde_json::Value;
use std::net::ToSocketAddrs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use ureq::{Agent, http::Response};

/// Longest pause between two tries, and the longest that the other side may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// No answer is longer, bytes.
const MAX_ANSWER: u64 = 256 << 20;

/// Where calls go and how patient they are.
pub struct Caller {
    agent: Agent,
    base: String,
    token: Option<String>,
    retries: u32,
    /// Whether a failed try was told.
    told: AtomicBool,
}

/// A call that failed for good.
#[derive(Debug)]
pub struct CallError {
    /// The HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The address, and what went wrong.
    pub message: String,
    /// How often it was sent.
    pub sent: u32,
    /// The pause that the other side asked for.
    pub asked: Option<Duration>,
}

impl CallError {
    /// One that was never sent.
    pub(crate) fn unsent(message: String) -> Self {
        Self {
            status: None,
            message,
            sent: 0,
            asked: None,
        }
    }

    /// Whether the same call may well succeed later: no answer, 408, 425, 429, 5xx, or an answer that was cut off.
    pub fn may_pass(&self) -> bool {
        !matches!(self.status, Some(status) if !(200..300).contains(&status) && !passes(status))
    }

    fn sent(self, sent: u32) -> Self {
        Self { sent, ..self }
    }
}

impl Caller {
    /// `base` is the address without the path of a call; `token` goes into the bearer header.
    pub fn new(base: &str, token: Option<String>, timeout: Duration, retries: u32) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        let mut config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_idle_connections_per_host(64);
        if is_local(&base) {
            config = config.proxy(None);
        }
        Caller {
            agent: config.build().into(),
            base,
            token,
            retries,
            told: AtomicBool::new(false),
        }
    }

    /// Sends `body` (or gets, without one) until it is answered or patience ends; `go_on` is asked
    /// before each further try.
    ///
    /// # Errors
    /// What the last try met.
    pub fn call(
        &self,
        path: &str,
        body: Option<&Value>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Value, CallError> {
        self.persist(path, body, go_on, &|text| serde_json::from_str(text))
    }

    /// [`Self::call`] for answers that may be blank (null) or plain words (a string).
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn tell(
        &self,
        path: &str,
        body: Option<&Value>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Value, CallError> {
        self.persist(path, body, go_on, &|text| {
            let words = || Value::from(text.trim());
            Ok(match text.trim().is_empty() {
                true => Value::Null,
                false => serde_json::from_str(text).unwrap_or_else(|_| words()),
            })
        })
    }

    fn persist(
        &self,
        path: &str,
        body: Option<&Value>,
        go_on: &dyn Fn() -> bool,
        read: &AnswerReader,
    ) -> Result<Value, CallError> {
        let mut tried = 0;
        loop {
            let (error, asked) = match self.once(path, body, read) {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(error)) => return Err(error.sent(tried + 1)),
                Err(Failed::Again(error, asked)) => (error, asked),
            };
            if tried >= self.retries || !go_on() {
                return Err(error.sent(tried + 1));
            }
            if !self.told.swap(true, Ordering::Relaxed) {
                let message = &error.message;
                tracing::warn!(target: "svgrl::http", "{message}: trying again (told once)");
            }
            std::thread::sleep(pause(tried, asked));
            tried += 1;
        }
    }

    fn once(&self, path: &str, body: Option<&Value>, read: &AnswerReader) -> Result<Value, Failed> {
        let url = format!("{}{path}", self.base);
        let again = |error: ureq::Error| {
            let message = format!("{url}: {error}");
            Failed::Again(
                CallError {
                    status: None,
                    message,
                    sent: 1,
                    asked: None,
                },
                None,
            )
        };
        let sent = match body {
            None => {
                let request = self.agent.get(&url);
                match &self.token {
                    Some(token) => request.header("Authorization", format!("Bearer {token}")),
                    None => request,
                }
                .call()
            }
            Some(body) => {
                let request = self.agent.post(&url).content_type("application/json");
                match &self.token {
                    Some(token) => request.header("Authorization", format!("Bearer {token}")),
                    None => request,
                }
                .send(body.to_string())
            }
        };
        let mut answer = sent.map_err(again)?;
        let status = answer.status().as_u16();
        let asked = retry_after(&answer);
        let text = answer
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER)
            .read_to_string();
        let text = text.map_err(again)?;
        if (200..300).contains(&status) {
            return read(&text).map_err(|error| {
                let message = format!(
                    "{url}: status {status}, but the answer is not JSON: {error} (a proxy in between answers in its place, or cuts it off)"
                );
                let status = Some(status);
                Failed::Again(
                    CallError {
                        status,
                        message,
                        sent: 1,
                        asked,
                    },
                    asked,
                )
            });
        }
        let error = CallError {
            status: Some(status),
            message: format!("{url}: status {status}: {}", said(&text)),
            sent: 1,
            asked,
        };
        Err(match status {
            status if passes(status) => Failed::Again(error, asked),
            _ => Failed::Final(error),
        })
    }
}

/// Makes a value of an answer's text.
type AnswerReader<'a> = dyn Fn(&str) -> serde_json::Result<Value> + 'a;

/// Whether a status may be another one next time.
fn passes(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

enum Failed {
    Again(CallError, Option<Duration>),
    Final(CallError),
}

/// A fifth of a second, doubling, unless the other side asks for longer.
pub(crate) fn pause(tried: u32, asked: Option<Duration>) -> Duration {
    let own = Duration::from_millis(200u64 << tried.min(10));
    let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
    own.min(LONGEST_PAUSE).max(asked)
}

fn retry_after<T>(answer: &Response<T>) -> Option<Duration> {
    waiting_time(answer.headers().get("retry-after")?.to_str().ok()?)
}

/// What `Retry-After` says: seconds, or the date of another try.
fn waiting_time(text: &str) -> Option<Duration> {
    match text.trim().parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Err(_) => {
            let date = httpdate::parse_http_date(text.trim()).ok()?;
            date.duration_since(SystemTime::now()).ok()
        }
    }
}

/// The sentence in an error's body.
fn said(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let error = &value["error"];
    let sentence = error.as_str().or_else(|| error["message"].as_str());
    let sentence = sentence.unwrap_or(text.trim());
    sentence.chars().take(300).collect()
}

/// Whether the address is this machine by a loopback address, which no proxy reaches.
pub fn is_local(base: &str) -> bool {
    let host = base.split("://").nth(1).unwrap_or(base);
    let host = host.split('/').next().unwrap_or(host);
    let with_port = if host
        .rsplit(':')
        .next()
        .is_some_and(|p| p.parse::<u16>().is_ok())
    {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    with_port
        .to_socket_addrs()
        .is_ok_and(|mut found| found.all(|address| address.ip().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn pauses_grow_to_a_bound_and_obey_the_other_side() {
        let pauses: Vec<u128> = [0, 1, 5, 99].map(|n| pause(n, None).as_millis()).to_vec();
        assert_eq!(pauses, [200, 400, 6400, 15_000]);
        assert_eq!(
            pause(0, Some(Duration::from_secs(3))),
            Duration::from_secs(3)
        );
        let minute = Some(Duration::from_secs(60));
        assert_eq!(pause(0, minute), Duration::from_secs(60));
        assert_eq!(pause(0, Some(Duration::MAX)), LONGEST_ASKED);
    }

    /// An address whose calls get these bodies, one after another, each with status 200.
    fn bodies(bodies: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for body in bodies {
                let mut stream = listener.accept().unwrap().0;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
                );
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn an_answer_that_is_no_json_is_asked_for_again() {
        let call = |said: Vec<&'static str>| {
            let address = bodies(said);
            let caller = Caller::new(&address, None, Duration::from_secs(60), 2);
            caller.call("/health", None, &|| true)
        };
        let page = "<html>Bad gateway</html>";
        let cut = "{\"status\": \"o";
        let fine = call(vec![page, cut, "{\"status\": \"ok\"}"]).unwrap();
        assert_eq!(fine["status"], "ok");
        let error = call(vec![page; 3]).unwrap_err();
        assert_eq!((error.status, error.sent), (Some(200), 3));
        let once = Caller::new(&bodies(vec![page]), None, Duration::from_secs(60), 0);
        assert_eq!(once.call("/health", None, &|| true).unwrap_err().sent, 1);
        for part in ["/health: ", "not JSON", "proxy"] {
            assert!(error.message.contains(part), "{}", error.message);
        }
    }

    #[test]
    fn a_time_to_come_back_is_seconds_or_a_date() {
        assert_eq!(waiting_time("7"), Some(Duration::from_secs(7)));
        assert_eq!(waiting_time(" 1.5 "), Some(Duration::from_millis(1500)));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        let seconds = waiting_time(&soon).unwrap().as_secs();
        assert!((25..=30).contains(&seconds), "{seconds}");
        for nothing in ["-1", "NaN", "inf", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(waiting_time(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_addresses() {
        assert!(is_local("http://127.0.0.1:8700"));
        assert!(is_local("http://[::1]:1/v1"));
        assert!(!is_local("http://192.0.2.1:80"));
    }
}
