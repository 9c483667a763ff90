//! Checkpoints that are written while learning goes on.

use std::path::Path;
use std::process::Command;

use super::tiny::Tiny;
use crate::cli::program::told;

/// Every file of a checkpoint, with its bytes.
fn files(checkpoint: &Path) -> Vec<(String, Vec<u8>)> {
    let mut out = Vec::new();
    for part in ["", "trainer"] {
        for entry in std::fs::read_dir(checkpoint.join(part)).unwrap().flatten() {
            if entry.path().is_file() {
                let name = entry.file_name().to_string_lossy().into_owned();
                out.push((name, std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    out.sort();
    out
}

#[test]
fn a_checkpoint_written_meanwhile_is_the_one_that_was_waited_for() {
    let (meanwhile, waited) = (Tiny::new(), Tiny::new());
    told(&mut meanwhile.command()).fine();
    let mut command = waited.command();
    for stage in ["sft", "rl"] {
        let key = format!("stages.{stage}.checkpoint.background=false");
        command.args(["--set", &key]);
    }
    told(&mut command).fine();
    for name in ["sft/step_000004", "sft/final", "rl/step_000002", "rl/final"] {
        let of = |tiny: &Tiny| files(&tiny.run_folder().join("checkpoints").join(name));
        let (a, b) = (of(&meanwhile), of(&waited));
        assert!(a.len() > 6 && a == b, "{name}");
    }
}

#[test]
fn a_disk_that_fills_up_meanwhile_ends_the_run_and_leaves_no_half() {
    let tiny = Tiny::new();
    let mut inner = tiny.command();
    inner.args(["--set", "stages.sft.checkpoint.every=2"]);
    // Weights fit, the optimizer's state does not; a write beyond the limit is an error, not a signal.
    let mut command = Command::new("bash");
    command.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "bash"]);
    command.arg(inner.get_program()).args(inner.get_args());
    command.env_remove("WORLD_SIZE");
    told(&mut command).refused(1, &["optimizer.safetensors"]);
    let stage = tiny.run_folder().join("checkpoints/sft");
    let names = std::fs::read_dir(stage).unwrap().flatten();
    for entry in names {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(name.starts_with('.'), "{name} is there");
    }
    told(&mut tiny.command()).fine();
}
