//! Folders for tests. One is removed when the test that asked for it has passed: all of them together take gigabytes.
//! A failed test's stays to be looked at, and every one with SVGRL_KEEP in the environment.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once};
use std::thread::ThreadId;

/// The folders of the test on this thread; each test has a thread of its own.
struct Made(RefCell<Vec<PathBuf>>);

thread_local! {
    static MADE: Made = const { Made(RefCell::new(Vec::new())) };
    /// Whether anything failed on this thread: a caught panic is none any more when the thread ends.
    static FAILED: Cell<bool> = const { Cell::new(false) };
}

impl Drop for Made {
    fn drop(&mut self) {
        if !FAILED.get() && std::env::var_os("SVGRL_KEEP").is_none() {
            for folder in self.0.take() {
                // What cannot be removed fails no test.
                let _ = std::fs::remove_dir_all(folder);
            }
        }
    }
}

/// The tests that asked for a folder of a name, in that order: each has its own.
static ASKED: Mutex<BTreeMap<String, Vec<ThreadId>>> = Mutex::new(BTreeMap::new());

/// Whether this process was started by a test, from the same binary.
fn is_child() -> bool {
    let parent = std::os::unix::process::parent_id();
    let binary = std::fs::read_link(format!("/proc/{parent}/exe")).ok();
    binary.is_some() && binary == std::env::current_exe().ok()
}

/// The name for this test: a number is added where another test has asked for it before.
fn own(name: &str) -> String {
    let mut asked = ASKED.lock().unwrap();
    let tests = asked.entry(name.to_owned()).or_default();
    let this = std::thread::current().id();
    let place = tests.iter().position(|test| *test == this);
    let place = place.unwrap_or_else(|| {
        tests.push(this);
        tests.len() - 1
    });
    match place {
        0 => name.to_owned(),
        place => format!("{name}-{}", place + 1),
    }
}

/// An empty folder for one test.
pub fn scratch(name: &str) -> PathBuf {
    static NOTED: Once = Once::new();
    NOTED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            FAILED.set(true);
            before(panic);
        }));
    });
    let folder = shared_scratch(&own(name));
    MADE.with(|made| made.0.borrow_mut().push(folder.clone()));
    folder
}

/// An empty folder that several tests look at: nothing removes it. A process that a test started has others.
pub fn shared_scratch(name: &str) -> PathBuf {
    let name = match is_child() {
        true => format!("{name}-of-{}", std::process::id()),
        false => name.to_owned(),
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
