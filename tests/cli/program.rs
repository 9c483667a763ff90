//! Running the program, and reading and writing its files.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Signal, set_parent_process_death_signal};
use serde_json::Value;

pub use crate::support::scratch::{scratch, shared_scratch};

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Told {
    /// Exit status; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Told {
    /// The same, after checking that the status is 0.
    #[track_caller]
    pub fn fine(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Checks that the status is `code` and that standard error holds every one of `parts`.
    #[track_caller]
    pub fn refused(self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not in: {}", self.err);
        }
    }
}

/// The program with one thread and without the caller's ranks.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svgrl"));
    for name in [
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "SVGRL_COLLECTIVE_TIMEOUT_S",
        "SVGRL_SAMPLER",
        "SVGRL_SAMPLERS",
    ] {
        command.env_remove(name);
    }
    command.env("OMP_NUM_THREADS", "1");
    ends_with_its_test(&mut command);
    command
}

/// Has the kernel kill what `command` starts when the test's thread ends: a failed test leaves no run behind that goes
/// on for ever.
#[expect(unsafe_code, reason = "the standard library asks for it")]
fn ends_with_its_test(command: &mut Command) {
    let mark = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec this makes one system call and nothing else.
    unsafe { command.pre_exec(mark) };
}

/// Runs `command` to its end.
pub fn told(command: &mut Command) -> Told {
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told {
        code: output.status.code().unwrap_or(-1),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}

/// Runs the program with `args` split at spaces, then `paths` (which may hold any character).
pub fn svgrl(args: &str, paths: &[&Path]) -> Told {
    told(program().args(args.split_whitespace()).args(paths))
}

/// The folder's files and folders with everything below, copied to `to`.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// Writes `text` as `folder/name`.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Writes one row a line.
pub fn write_rows(folder: &Path, name: &str, rows: &[Value]) -> PathBuf {
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    write(folder, name, &text)
}

/// The rows of a JSONL file.
#[track_caller]
pub fn rows(path: &Path) -> Vec<Value> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Numbers of a list.
pub fn numbers(list: &Value) -> Vec<f64> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect()
}

/// The names of an object's keys, in their order.
pub fn keys(row: &Value) -> Vec<&str> {
    row.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}
