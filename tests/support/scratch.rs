//! Folders for tests. One is removed when the test that asked for it has passed: all of them together take gigabytes.
//! A failed test's stays to be looked at, and every one with SVGRL_KEEP in the environment.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::sync::Once;

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
    let folder = shared_scratch(name);
    MADE.with(|made| made.0.borrow_mut().push(folder.clone()));
    folder
}

/// An empty folder that several tests look at: nothing removes it.
pub fn shared_scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
