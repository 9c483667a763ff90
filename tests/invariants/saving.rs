//! Writing weights holds no second copy of them.

use std::process::Command;

use models::{Decoder, DecoderConfig, FolderExport, save_folder};
use tch::{Device, Kind};

use crate::support::network_folder;

/// A kibibyte count of /proc/self/status.
fn status(key: &str) -> i64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
#[ignore = "run in a process of its own by weights_are_written_a_tensor_at_a_time"]
fn body() {
    let shape = DecoderConfig {
        hidden_size: 256,
        intermediate_size: 1024,
        num_layers: 24,
        ..DecoderConfig::read(&network_folder("qwen3_untied")).unwrap()
    };
    let kib = 4 * shape.parameters() / 1024;
    assert!(kib > 50_000, "{kib}");
    let model = Decoder::new(shape, Kind::Float, Device::Cpu);
    model.randomise(1);
    let folder = tempfile::tempdir().unwrap();
    let peak = |work: &mut dyn FnMut()| {
        // From here on the peak is that of what follows.
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let before = status("VmRSS:");
        work();
        status("VmHWM:") - before
    };
    save_folder(&model, Kind::Float, folder.path()).unwrap();
    for kind in [Kind::Float, Kind::BFloat16] {
        let most = peak(&mut || save_folder(&model, kind, folder.path()).unwrap());
        println!("{kind:?}: {most} KiB above {kib} KiB of weights");
        assert!(most < kib / 8, "{kind:?}: {most} KiB of {kib}");
    }
    let copied = peak(&mut || drop(FolderExport::of(&model, Kind::Float).copied()));
    assert!(
        copied > kib * 9 / 10,
        "what is counted would show a copy: {copied} of {kib}"
    );
}

#[test]
fn weights_are_written_a_tensor_at_a_time() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "invariants::saving::body",
        "--ignored",
        "--nocapture",
    ]);
    let output = command.env("OMP_NUM_THREADS", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fine = output.status.success() && text.contains("1 passed");
    assert!(fine, "{text}{}", String::from_utf8_lossy(&output.stderr));
}
