//! `make quickstart`: what it says before the build and at the end, with programs that do nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::program::{Told, scratch, told, write};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/launch/quickstart.sh");
/// What the script itself uses.
const TOOLS: [&str; 5] = ["sh", "dirname", "getconf", "cat", "env"];

fn script(folder: &Path, name: &str, body: &str) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let path = write(folder, name, &format!("#!/bin/sh\n{body}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The script in a clone of its own, with `programs` that say their name.
fn quickstart(name: &str, programs: &[&str]) -> Told {
    let folder = scratch(name);
    let bin = folder.join("bin");
    std::fs::create_dir_all(folder.join("clone/launch")).unwrap();
    std::fs::copy(SCRIPT, folder.join("clone/launch/quickstart.sh")).unwrap();
    for tool in TOOLS {
        script(
            &bin,
            tool,
            &format!("PATH=/usr/bin:/bin exec {tool} \"$@\""),
        );
    }
    for program in programs {
        script(&bin, program, &format!("echo '{program} runs'"));
    }
    script(&folder.join("target/release"), "svgrl", "echo \"svgrl $*\"");
    let mut command = Command::new("/bin/sh");
    command
        .arg(folder.join("clone/launch/quickstart.sh"))
        .env_clear();
    told(
        command
            .env("PATH", &bin)
            .env("CARGO_TARGET_DIR", folder.join("target")),
    )
}

#[test]
fn it_says_what_it_does_before_and_where_the_report_is_after() {
    let out = quickstart("quickstart_whole", &["cargo", "g++", "python3", "make"])
        .fine()
        .out;
    let at = |part: &str| {
        out.find(part)
            .unwrap_or_else(|| panic!("`{part}` is not in: {out}"))
    };
    assert!(at("libtorch is downloaded") < at("make runs"));
    assert!(at("minutes on two cores") < at("make runs"));
    assert!(
        at("make runs") < at("cargo runs")
            && at("cargo runs") < at("svgrl train configs/quickstart.yaml")
    );
    let last = out.lines().last().unwrap();
    assert!(
        last.starts_with("report: file:///")
            && last.ends_with("/clone/runs/quickstart/report.html"),
        "{last}"
    );
}

#[test]
fn it_names_everything_that_is_missing_at_once() {
    let told = quickstart("quickstart_bare", &[]);
    told.refused(2, &["https://rustup.rs", "g++", "python3-pip"]);
}
