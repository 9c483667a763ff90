//! `make setup` with a pip that makes wheels of a few bytes (fake/pip): which libtorch is chosen,
//! what cargo is told, and what is said when something is missing. No network is used.

mod package;
mod quickstart;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::program::{Told, scratch, told, write};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const CPU: &str = "svgrl/libtorch-2.11.0-cpu";
const CUDA: &str = "svgrl/libtorch-2.11.0-cu130/torch";

/// A machine with Python and pip alone, an empty cache, and one clone.
struct Machine {
    folder: PathBuf,
}

impl Machine {
    fn new(name: &str) -> Self {
        let folder = scratch(name);
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        let ask = ["-c", "import sys; print(sys.executable)"];
        let python = told(Command::new("python3").args(ask)).fine().out;
        symlink(python.trim(), folder.join("bin/python3")).unwrap();
        let machine = Self { folder };
        machine.clone_into("clone");
        machine
    }

    fn clone_into(&self, name: &str) {
        let launch = self.folder.join(name).join("launch");
        std::fs::create_dir_all(&launch).unwrap();
        let script = "setup_libtorch.py";
        std::fs::copy(
            Path::new(ROOT).join("launch").join(script),
            launch.join(script),
        )
        .unwrap();
    }

    /// An `nvidia-smi` that does `body`.
    fn gpu(self, body: &str) -> Self {
        let path = write(
            &self.folder.join("bin"),
            "nvidia-smi",
            &format!("#!/bin/sh\n{body}\n"),
        );
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// The script in `clone`, with flags and further variables.
    fn setup_in(&self, clone: &str, flags: &str, variables: &[(&str, &str)]) -> Told {
        let mut command = Command::new(self.folder.join("bin/python3"));
        command
            .arg(self.folder.join(clone).join("launch/setup_libtorch.py"))
            .args(flags.split_whitespace())
            .env_clear()
            .env("PATH", self.folder.join("bin"))
            .env("XDG_CACHE_HOME", self.folder.join("cache"))
            .env("PYTHONPATH", Path::new(ROOT).join("tests/setup/fake"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("FAKE_PIP_LOG", self.folder.join("pip.log"))
            .envs(variables.iter().copied());
        told(&mut command)
    }

    fn setup(&self, flags: &str, variables: &[(&str, &str)]) -> Told {
        self.setup_in("clone", flags, variables)
    }

    /// What cargo is told.
    fn config(&self) -> String {
        std::fs::read_to_string(self.folder.join("clone/.cargo/config.toml")).unwrap_or_default()
    }

    /// Asserts that cargo is told of `libtorch` in the cache and finds it at run time.
    #[track_caller]
    fn uses(&self, libtorch: &str) {
        let (config, path) = (self.config(), self.folder.join("cache").join(libtorch));
        let path = path.display();
        // Without `force`, so that a LIBTORCH of the user's environment goes first.
        assert!(
            config.contains(&format!("\nLIBTORCH = \"{path}\"\n")),
            "{config}"
        );
        // Of a cfg, so that flags of the user's own configuration are joined with it.
        let flags = format!("rustflags = [\"-C\", \"link-arg=-Wl,-rpath,{path}/lib\"]");
        assert!(
            config.contains(&format!("[target.'cfg(unix)']\n{flags}\n")),
            "{config}"
        );
    }

    /// How pip was called.
    fn downloads(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.join("pip.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Asserts one sentence, no config and nothing in the cache but its lock.
    #[track_caller]
    fn refused(&self, told: Told, parts: &[&str]) {
        assert_eq!(told.err.trim_end().lines().count(), 1, "{told:#?}");
        assert!(told.err.starts_with("setup: "), "{told:#?}");
        told.refused(1, parts);
        assert_eq!(self.config(), "");
        let cache = std::fs::read_dir(self.folder.join("cache/svgrl"));
        for entry in cache.into_iter().flatten() {
            assert_eq!(entry.unwrap().file_name(), "lock");
        }
    }
}

#[test]
fn the_small_set_is_made_once_and_shared_by_clones() {
    let machine = Machine::new("setup_cpu");
    let first = machine.setup("", &[]).fine().out;
    assert!(
        first.contains("(CPU, downloaded); wrote .cargo/config.toml"),
        "{first}"
    );
    machine.uses(CPU);
    assert!(!machine.config().contains("SVGRL_CUDA"));
    let made = machine.folder.join("cache").join(CPU);
    for name in [
        "include/ATen/ATen.h",
        "lib/libcupti.so.13",
        "lib/libtorch.so",
        "lib/libgomp.so",
    ] {
        assert!(made.join(name).exists(), "{name}");
    }
    // torch-sys would link it.
    assert!(!made.join("lib/libtorch_cuda.so").exists());
    let calls = machine.downloads();
    assert_eq!(calls.len(), 1, "{calls:?}");
    for part in [
        "torch==2.11.0",
        "--platform manylinux_2_28_x86_64",
        "--python-version 3.12",
        "--no-deps",
    ] {
        assert!(calls[0].contains(part), "{part}: {calls:?}");
    }
    let again = machine.setup("", &[("FAKE_PIP", "missing")]).fine().out;
    assert!(again.contains("(CPU, from the cache)\n"), "{again}");
    machine.clone_into("other");
    machine.setup_in("other", "", &[]).fine();
    assert!(machine.folder.join("other/.cargo/config.toml").exists());
    assert_eq!(machine.downloads().len(), 1, "a second run downloads");
}

#[test]
fn a_gpu_that_answers_or_a_flag_decides_for_cuda() {
    let machine =
        Machine::new("setup_gpu").gpu("echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)'");
    let told = machine.setup("", &[]).fine().out;
    assert!(told.contains("(CUDA, downloaded)"), "{told}");
    machine.uses(CUDA);
    assert!(machine.config().contains("SVGRL_CUDA = \"1\"\n"));
    let calls = machine.downloads();
    assert_eq!(calls.len(), 2, "{calls:?}");
    // What torch asks for of NVIDIA's, and no other of its requirements.
    assert!(
        calls[1].contains(" cuda-toolkit[cublas]==13.0.2 ") && !calls[1].contains("sympy"),
        "{calls:?}"
    );
    machine.setup("--cpu", &[]).fine();
    machine.uses(CPU);
    let broken = Machine::new("setup_no_gpu").gpu("echo 'NVIDIA-SMI has failed'; exit 9");
    broken.setup("", &[]).fine();
    broken.uses(CPU);
    broken.setup("--cuda", &[]).fine();
    broken.uses(CUDA);
}

#[test]
fn a_libtorch_of_the_users_own_is_taken_as_it_is() {
    let machine = Machine::new("setup_own").gpu("echo 'GPU 0: NVIDIA H100'");
    let own = machine.folder.join("own");
    std::fs::create_dir_all(own.join("lib")).unwrap();
    let path = own.to_str().unwrap();
    machine.refused(
        machine.setup("", &[("LIBTORCH", path)]),
        &["LIBTORCH leads to ", "own/lib/libtorch_cpu.so"],
    );
    write(&own.join("lib"), "libtorch_cpu.so", "");
    let told = machine.setup("", &[("LIBTORCH", path)]).fine().out;
    assert!(told.contains("own (your LIBTORCH)"), "{told}");
    let config = machine.config();
    assert!(
        config.contains(&format!("LIBTORCH = \"{path}\"\n")),
        "{config}"
    );
    assert!(config.contains(&format!("-rpath,{path}/lib\"")), "{config}");
    assert!(machine.downloads().is_empty());
}

#[test]
fn a_pytorch_of_the_users_own_is_taken_if_it_is_the_version() {
    let machine = Machine::new("setup_pytorch");
    let modules = machine.folder.join("modules");
    std::fs::create_dir_all(modules.join("torch/lib")).unwrap();
    let variables = [
        ("LIBTORCH_USE_PYTORCH", "1"),
        ("PYTHONPATH", modules.to_str().unwrap()),
    ];
    let with = |version: &str| {
        let text = format!("__version__ = '{version}'\n");
        write(&modules.join("torch"), "__init__.py", &text);
        machine.setup("", &variables)
    };
    machine.refused(with("2.9.1+cu128"), &["PyTorch 2.9.1+cu128, but 2.11.0"]);
    write(&modules.join("torch/lib"), "libtorch_cpu.so", "");
    with("2.11.0+cu130").fine();
    let config = machine.config();
    assert!(config.contains("modules/torch\"\n"), "{config}");
    assert!(machine.downloads().is_empty());
}

#[test]
fn what_goes_wrong_is_one_sentence_and_leaves_nothing_half_made() {
    let machine = Machine::new("setup_wrong");
    let with = |mood: &str| machine.setup("", &[("FAKE_PIP", mood)]);
    machine.refused(with("missing"), &["has no pip; install it"]);
    machine.refused(
        with("offline"),
        &["check the network", "No matching distribution"],
    );
    machine.refused(with("cut"), &["-1-py3-none-any.whl is broken"]);
    machine.refused(with("garbled"), &["-1-py3-none-any.whl is broken"]);
    let gpu = |mood: &str| machine.setup("--cuda", &[("FAKE_PIP", mood)]);
    machine.refused(gpu("cut"), &["torch-1-py3-none-any.whl is broken"]);
    with("").fine();
    machine.uses(CPU);
}

#[test]
fn flags_that_hide_the_rpath_are_told() {
    let machine = Machine::new("setup_flags");
    let told = machine.setup("", &[("RUSTFLAGS", "-g")]).fine().out;
    assert!(
        told.contains("RUSTFLAGS is set") && told.contains("-rpath,"),
        "{told}"
    );
    assert!(!machine.setup("", &[]).fine().out.contains("RUSTFLAGS"));
}

#[test]
fn a_config_written_by_hand_is_kept_aside() {
    let machine = Machine::new("setup_kept");
    let cargo = machine.folder.join("clone/.cargo");
    std::fs::create_dir_all(&cargo).unwrap();
    write(&cargo, "config.toml", "[build]\njobs = 3\n");
    machine.setup("", &[]).fine();
    let kept = std::fs::read_to_string(cargo.join("config.toml.before-setup")).unwrap();
    assert_eq!(kept, "[build]\njobs = 3\n");
}
