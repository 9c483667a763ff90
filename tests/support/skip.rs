//! What is not run, and why: said on standard output, and in the file whose lines `make test` prints
//! at its end (SVGRL_SKIPPED names it).

use std::io::Write;

/// Ends a test that cannot run on this machine, with the reason.
macro_rules! skip {
    ($($why:tt)*) => {{
        $crate::support::skip::skipped(module_path!(), &format!($($why)*));
        return;
    }};
}
pub(crate) use skip;

/// Notes that a test of `module` is not run. One write a line, so that tests side by side do not mix theirs.
pub fn skipped(module: &str, why: &str) {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main");
    let line = format!("{}: {why}\n", test.unwrap_or(module));
    print!("skipped {line}");
    if let Some(path) = std::env::var_os("SVGRL_SKIPPED") {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .expect("SVGRL_SKIPPED names a file that can be written");
    }
}
