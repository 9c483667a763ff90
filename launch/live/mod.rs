//! A page of a running job on this machine's loopback address: built anew when the run's files change.
//!
//! Two addresses are answered, `/` and `/version`, and nothing else; a request that names another host than this
//! machine is refused, so that no page of the web can read it through a reader's browser.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::report::{self, ReportError};

/// Bytes of a request's head.
const MOST_HEAD: usize = 8 << 10;
/// What a reader may take to send it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two pages at least.
const PAUSE: Duration = Duration::from_secs(5);

/// The page that is shown now.
struct ShownPage {
    html: String,
    version: u64,
    /// What the files were like when it was made.
    stamp: Vec<Option<(u64, SystemTime)>>,
    made: Instant,
    /// What making it took.
    took: Duration,
}

/// Follows some runs.
pub struct LiveReport {
    runs: Vec<PathBuf>,
    shown: Mutex<ShownPage>,
}

impl LiveReport {
    /// Of `runs`, whose page is made now.
    ///
    /// # Errors
    /// What a report has against the folders.
    pub fn new(runs: Vec<PathBuf>) -> Result<Self, ReportError> {
        let begun = Instant::now();
        let shown = ShownPage {
            stamp: stamp(&runs),
            html: report::rendered(&runs, true)?,
            version: 1,
            made: Instant::now(),
            took: begun.elapsed(),
        };
        Ok(Self {
            runs,
            shown: Mutex::new(shown),
        })
    }

    /// Answers on `listener` until the process ends.
    pub fn run(self, listener: &TcpListener) {
        let this = Arc::new(self);
        for stream in listener.incoming().flatten() {
            let this = this.clone();
            // A slow reader holds up itself alone.
            std::thread::spawn(move || {
                // Who hung up wants no answer.
                let _ = this.answer(stream);
            });
        }
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let head = head(&mut stream)?;
        let reply = self.reply(&head);
        stream.write_all(&reply)?;
        stream.flush()
    }

    /// The whole answer to a request with this head.
    fn reply(&self, head: &str) -> Vec<u8> {
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split_whitespace();
        let (method, path) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let host = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("host").then(|| value.trim())
        });
        if !host.is_some_and(is_loopback) {
            return response(
                "403 Forbidden",
                "text/plain",
                "this page is for this machine alone",
            );
        }
        let reply = match (method, path) {
            ("GET" | "HEAD", "/") => response(
                "200 OK",
                "text/html; charset=utf-8",
                &self.fresh(|page| page.html.clone()),
            ),
            ("GET" | "HEAD", "/version") => response(
                "200 OK",
                "text/plain",
                &self.fresh(|page| page.version.to_string()),
            ),
            ("GET" | "HEAD", _) => {
                response("404 Not Found", "text/plain", "there are / and /version")
            }
            _ => response("405 Method Not Allowed", "text/plain", "GET alone"),
        };
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
        match (method, end) {
            ("HEAD", Some(end)) => reply[..end + 4].to_vec(),
            _ => reply,
        }
    }

    /// Something of the page, which is made anew where the files have changed and it is time.
    fn fresh(&self, of: impl Fn(&ShownPage) -> String) -> String {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = PAUSE.max(5 * shown.took);
        if shown.made.elapsed() > pause {
            let (now, begun) = (stamp(&self.runs), Instant::now());
            shown.made = begun;
            // A file that is being replaced is read the next time.
            if now != shown.stamp
                && let Ok(html) = report::rendered(&self.runs, true)
            {
                *shown = ShownPage {
                    html,
                    version: shown.version + 1,
                    stamp: now,
                    made: Instant::now(),
                    took: begun.elapsed(),
                };
            }
        }
        of(&shown)
    }
}

/// Sizes and times of what changes when a run goes on.
fn stamp(runs: &[PathBuf]) -> Vec<Option<(u64, SystemTime)>> {
    let of = |path: &Path| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.len(), data.modified().ok()?))
    };
    let files = runs.iter().flat_map(|run| {
        let names = [
            "metrics.jsonl",
            "samples",
            "checkpoints",
            "logs/rank_0.jsonl",
        ];
        names.map(|name| run.join(name))
    });
    files.map(|path| of(&path)).collect()
}

/// A request up to its empty line.
fn head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = stream.read(&mut part)?;
        if count == 0 || bytes.len() + count > MOST_HEAD {
            return Err(std::io::Error::other("no request"));
        }
        bytes.extend(&part[..count]);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a `Host` header names this machine itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let address = name.parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(folder: &Path) -> LiveReport {
        std::fs::write(
            folder.join("metrics.jsonl"),
            "{\"stage\":\"rl\",\"step\":1,\"optim/lr\":0.5}\n",
        )
        .unwrap();
        LiveReport::new(vec![folder.to_owned()]).unwrap()
    }

    fn asked(live: &LiveReport, line: &str, host: &str) -> String {
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        String::from_utf8(live.reply(&head)).unwrap()
    }

    #[test]
    fn a_changed_run_has_a_new_version_after_a_pause() {
        let folder = tempfile::tempdir().unwrap();
        let live = live(folder.path());
        let page = asked(&live, "GET /", "127.0.0.1:8710");
        assert!(
            page.starts_with("HTTP/1.1 200 OK") && page.contains("\"live\":true"),
            "{page}"
        );
        assert!(page.contains("connect-src 'self'"));
        let version = |live: &LiveReport| asked(live, "GET /version", "localhost").split_off(0);
        assert!(version(&live).ends_with("\r\n\r\n1"));
        std::fs::write(
            folder.path().join("metrics.jsonl"),
            "{\"stage\":\"rl\",\"step\":22,\"optim/lr\":0.5}\n",
        )
        .unwrap();
        assert!(
            version(&live).ends_with("\r\n\r\n1"),
            "not every step is a new page"
        );
        live.shown.lock().unwrap().made -= Duration::from_secs(60);
        assert!(version(&live).ends_with("\r\n\r\n2"));
        live.shown.lock().unwrap().made -= Duration::from_secs(60);
        assert!(
            version(&live).ends_with("\r\n\r\n2"),
            "nothing has changed since"
        );
        // A run that is torn for a moment keeps its page.
        std::fs::remove_file(folder.path().join("metrics.jsonl")).unwrap();
        live.shown.lock().unwrap().made -= Duration::from_secs(60);
        assert!(version(&live).ends_with("\r\n\r\n2"));
    }

    #[test]
    fn other_hosts_paths_and_methods_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let live = live(folder.path());
        for host in ["evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", ""] {
            assert!(
                asked(&live, "GET /", host).starts_with("HTTP/1.1 403"),
                "{host}"
            );
        }
        for host in ["localhost:1", "127.0.0.1", "[::1]:8710"] {
            assert!(
                asked(&live, "GET /", host).starts_with("HTTP/1.1 200"),
                "{host}"
            );
        }
        assert!(asked(&live, "GET /../etc/passwd", "localhost").starts_with("HTTP/1.1 404"));
        assert!(asked(&live, "POST /", "localhost").starts_with("HTTP/1.1 405"));
        assert!(asked(&live, "HEAD /", "localhost").ends_with("\r\n\r\n"));
    }
}
