//! A headless Chromium that is told what to do over two pipes (Chrome's DevTools protocol), without a driver.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Why a test that needs it is not run.
pub const NO_BROWSER: &str =
    "no Chromium: `apt-get install chromium`, or name one in SVGRL_TEST_BROWSER";

/// A Chromium with one page.
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    sent: u64,
    /// What it told of without being asked.
    events: Vec<Value>,
    /// It lives as long as the browser.
    _alive: Sender<()>,
}

/// What a test may take, seconds: whatever it waits for then, the browser ends, and the test with it.
const PATIENCE: Duration = Duration::from_secs(240);

/// Kills `process` unless the other end of what is returned is gone before.
fn watch(process: u32) -> Sender<()> {
    let (alive, gone) = channel();
    std::thread::spawn(move || {
        if gone.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").arg(process.to_string()).status();
        }
    });
    alive
}

/// The Chromium of this machine.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("SVGRL_TEST_BROWSER").filter(|name| !name.is_empty());
    if let Some(named) = named {
        return (named != "none").then(|| named.into());
    }
    let folders = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&folders).flat_map(|folder| {
        [
            "chromium",
            "chromium-browser",
            "google-chrome",
            "chrome-headless-shell",
        ]
        .map(|name| folder.join(name))
    });
    places.into_iter().find(|place| place.is_file())
}

impl Browser {
    /// Starts it with its files in `folder`; none where this machine has none.
    pub fn start(folder: &Path) -> Option<Self> {
        let program = program()?;
        let (to, from) = (folder.join("to"), folder.join("from"));
        let made = Command::new("mkfifo").args([&to, &from]).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo");
        // The protocol's pipes are the descriptors 3 and 4.
        let child = Command::new("sh")
            .arg("-c")
            .arg("exec \"$0\" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --no-first-run --user-data-dir=\"$3\" --remote-debugging-pipe about:blank 3<\"$1\" 4>\"$2\"")
            .args([&program, &to, &from, &folder.join("profile")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = File::options().write(true).open(to).unwrap();
        let from = BufReader::new(File::open(from).unwrap());
        let mut browser = Self {
            _alive: watch(child.id()),
            child,
            to,
            from,
            session: None,
            sent: 0,
            events: Vec::new(),
        };
        let page = browser.ask("Target.createTarget", json!({"url": "about:blank"}));
        let target = json!({"targetId": page["targetId"], "flatten": true});
        let session = browser.ask("Target.attachToTarget", target);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    fn read(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser has ended");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Asks for something, and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        loop {
            let answer = self.read();
            if answer["id"] == self.sent {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// Shows an address in a window of this size, and waits until it is there.
    pub fn open(&mut self, address: &str, (width, height): (u32, u32)) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", size);
        // From page to page: to another place of the same one nothing would be loaded.
        for url in ["about:blank", address] {
            self.events.clear();
            self.ask("Page.navigate", json!({"url": url}));
            self.wait_for("Page.loadEventFired");
        }
    }

    /// Waits until the page has told of `method`.
    pub fn wait_for(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let event = self.read();
            self.events.push(event);
        }
    }

    /// What an expression of the page's gives.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", asked);
        assert!(
            answer.get("exceptionDetails").is_none(),
            "{expression}: {answer}"
        );
        answer["result"]["value"].clone()
    }

    /// Errors and warnings of the console so far.
    pub fn errors(&mut self) -> Vec<String> {
        self.value("0");
        let bad = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => event["params"]["entry"]["level"] == "error",
            Some("Runtime.consoleAPICalled") => event["params"]["type"] == "error",
            _ => false,
        };
        let events = self.events.iter();
        events.filter(bad).map(Value::to_string).collect()
    }

    /// Addresses that the page has asked for, data apart.
    pub fn requests(&mut self) -> Vec<String> {
        self.value("0");
        let events = self.events.iter();
        let sent = events.filter(|event| event["method"] == "Network.requestWillBeSent");
        let addresses = sent.filter_map(|event| event["params"]["request"]["url"].as_str());
        let real = addresses.filter(|address| !address.starts_with("data:"));
        real.map(str::to_owned).collect()
    }

    /// Chooses the light or the dark colours.
    pub fn colours(&mut self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", features);
    }

    /// The whole page as a PNG file.
    pub fn picture(&mut self, path: &Path) {
        let asked = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.ask("Page.captureScreenshot", asked);
        let png = STANDARD.decode(answer["data"].as_str().unwrap()).unwrap();
        std::fs::write(path, png).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
