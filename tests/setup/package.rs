//! `launch/package.py`: the folder runs wherever it is moved, in an empty environment, by the libraries inside.

use std::path::Path;
use std::process::Command;

use crate::cli::program::{scratch, told, write};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A program of the package, with nothing of this process' environment.
fn packed(folder: &Path, name: &str) -> Command {
    let mut command = Command::new(folder.join(name));
    command
        .env_clear()
        .env("OMP_NUM_THREADS", "1")
        .current_dir(folder.parent().unwrap());
    command
}

#[test]
fn a_package_runs_where_it_is_moved() {
    let folder = scratch("package");
    let made = folder.join("made");
    let mut command = Command::new("python3");
    command.arg(Path::new(ROOT).join("launch/package.py"));
    command
        .args(["--program", env!("CARGO_BIN_EXE_svgrl"), "--out"])
        .arg(&made);
    told(&mut command).fine();
    let moved = folder.join("moved away");
    std::fs::rename(&made, &moved).unwrap();

    // Every library of libtorch is the package's own; the loader says so itself.
    let mut ask = packed(&moved, "svgrl");
    let said = told(ask.env("LD_TRACE_LOADED_OBJECTS", "1")).fine().out;
    let names = ["libtorch", "libc10", "libgomp", "libcu"];
    let is_own = |line: &&str| names.iter().any(|name| line.trim_start().starts_with(name));
    let own: Vec<&str> = said.lines().filter(is_own).collect();
    assert!(own.len() >= 3, "{said}");
    for line in own {
        assert!(
            line.contains(&format!("=> {}", moved.join("lib").display())),
            "{line}"
        );
    }
    let program = std::fs::read(moved.join("svgrl")).unwrap();
    let path = b"$ORIGIN/lib\0";
    assert!(
        program.windows(path.len()).any(|bytes| bytes == path),
        "no path relative to the program"
    );

    // It computes, draws, and draws in its worker.
    let config = moved.join("configs/quickstart.yaml");
    let mut train = packed(&moved, "svgrl");
    train
        .arg("train")
        .arg(config)
        .args(["--run-dir", "run", "-q"]);
    for set in [
        "stages.sft.steps=1",
        "stages.rl.steps=1",
        "stages.rl.batch.size=1",
        "stages.sft.eval.prompts=1",
        "stages.rl.eval.prompts=1",
    ] {
        train.args(["--set", set]);
    }
    told(&mut train).fine();
    assert!(
        folder
            .join("run/checkpoints/rl/final/model.safetensors")
            .exists()
    );
    let heavy = "<g filter='url(#a)'><circle r='9'/></g>".repeat(40);
    let svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 99 99'><filter id='a'><feGaussianBlur stdDeviation='3'/></filter>{heavy}</svg>"
    );
    let file = write(&folder, "heavy.svg", &svg);
    told(
        packed(&moved, "svgrl")
            .arg("render")
            .arg(file)
            .args(["--size", "900", "--out", "png"]),
    )
    .fine();

    for file in [
        "svgrl-render-worker",
        "LICENSE",
        "docs/tutorial.md",
        "launch/clients/verl_reward.py",
        "man/man1/svgrl-train.1",
        "completions/svgrl",
    ] {
        assert!(moved.join(file).exists(), "{file}");
    }
}

#[test]
fn what_cannot_be_packed_is_told() {
    let folder = scratch("package_refused");
    let pack = |program: &Path, out: &Path| {
        let mut command = Command::new("python3");
        command.arg(Path::new(ROOT).join("launch/package.py"));
        told(command.arg("--program").arg(program).arg("--out").arg(out))
    };
    pack(&folder.join("svgrl"), &folder.join("out")).refused(1, &["make package"]);
    let text = write(&folder, "svgrl", "no program");
    pack(&text, &folder.join("out")).refused(1, &["is no 64-bit ELF program"]);
    std::fs::create_dir(folder.join("mine")).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_svgrl"));
    pack(program, &folder.join("mine")).refused(1, &["is there and no package"]);
    assert!(!folder.join("out").exists() && !folder.join("out.part").exists());
}
