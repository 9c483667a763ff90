//! The Python that answers for transformers: the one that `make test` prepares, or the user's own.

use std::path::Path;
use std::process::Command;

use super::fixture;

/// The interpreter with torch and transformers, where SVGRL_TEST_PYTHON names one.
pub fn python() -> Option<String> {
    std::env::var("SVGRL_TEST_PYTHON")
        .ok()
        .filter(|name| !name.is_empty() && name != "none")
}

/// Why a test that needs it is not run.
pub const NO_PYTHON: &str = "SVGRL_TEST_PYTHON names no Python with torch and transformers";

/// What a fixture's script prints when it is run with `arguments`.
#[track_caller]
pub fn answer(python: &str, script: &str, arguments: &[&Path]) -> String {
    let output = Command::new(python)
        .arg(fixture(script))
        .args(arguments)
        .output()
        .expect("SVGRL_TEST_PYTHON starts");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The largest difference that a fixture's script has found.
#[track_caller]
pub fn difference(python: &str, script: &str, arguments: &[&Path]) -> f64 {
    let text = answer(python, script, arguments);
    let number = text.trim().parse();
    number.unwrap_or_else(|_| panic!("{script} prints no number: {text}"))
}
