//! The GPU that tests use: a real one where this libtorch sees it, pretended ones otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::cli::program::program;

/// The library's sources, the header first.
const SOURCES: [(&str, &str); 4] = [
    ("pretend_gpu.h", include_str!("pretend_gpu.h")),
    ("pretend_gpu.cpp", include_str!("pretend_gpu.cpp")),
    (
        "pretend_operators.cpp",
        include_str!("pretend_operators.cpp"),
    ),
    ("pretend_kernels.cpp", include_str!("pretend_kernels.cpp")),
];

/// Where `cuda` leads.
pub enum Gpu {
    /// To a GPU of this machine.
    Real,
    /// To two devices of pretend_gpu.cpp, this library.
    Pretended(PathBuf),
    /// Nowhere: a libtorch with CUDA on a machine without a GPU, where none can be pretended.
    None,
}

impl Gpu {
    /// This machine's; the library of the pretended ones is compiled at the first call.
    pub fn here() -> &'static Self {
        static HERE: OnceLock<Gpu> = OnceLock::new();
        HERE.get_or_init(|| {
            let libtorch = libtorch();
            match (
                tch::Cuda::is_available(),
                libtorch.join("lib/libtorch_cuda.so").exists(),
            ) {
                (true, _) => Self::Real,
                (false, true) => Self::None,
                (false, false) => Self::Pretended(compiled(&libtorch)),
            }
        })
    }

    /// What a process sees that was given one: a pretended one is a real one to it, but for its sums.
    pub fn seen() -> Self {
        match std::env::var("LD_PRELOAD") {
            Ok(library) => Self::Pretended(library.into()),
            Err(_) => Self::Real,
        }
    }

    /// The program where `cuda` is this GPU.
    pub fn program(&self) -> Command {
        let mut command = program();
        self.given_to(&mut command);
        command
    }

    /// Lets `command` see this GPU.
    pub fn given_to(&self, command: &mut Command) {
        if let Self::Pretended(library) = self {
            command.env("LD_PRELOAD", library);
        }
    }

    /// A device that is not `cuda:0`, if there is one.
    pub fn second(&self) -> &'static str {
        match tch::Cuda::device_count() > 1 || matches!(self, Self::Pretended(_)) {
            true => "cuda:1",
            false => "cuda:0",
        }
    }

    /// How far float32 results may be from a CPU's, relative to their scale. The pretended one runs
    /// the CPU's kernels, though not this project's fused ones: 2e-6 is the most that was measured.
    pub fn tolerance(&self) -> f64 {
        match self {
            Self::Real => 1e-3,
            _ => 1e-5,
        }
    }
}

/// The folder of the libtorch that this process has loaded.
fn libtorch() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .find(|path| path.ends_with("/libtorch_cpu.so"))
        .expect("tests are linked with libtorch");
    Path::new(library)
        .ancestors()
        .nth(2)
        .expect("the library lies in lib/")
        .into()
}

/// The sources as a library, made once for each text of them and each libtorch.
fn compiled(libtorch: &Path) -> PathBuf {
    let name = format!("pretend_gpu-{:08x}", named(libtorch));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = folder.join(format!("{name}.so"));
    if library.exists() {
        return library;
    }
    let (sources, aside) = (folder.join(&name), folder.join(format!("{name}.part")));
    std::fs::create_dir_all(&sources).unwrap();
    for (file, text) in SOURCES {
        std::fs::write(sources.join(file), text).unwrap();
    }
    let include = match std::env::var_os("LIBTORCH_INCLUDE") {
        Some(folder) => PathBuf::from(folder).join("include"),
        None => libtorch.join("include"),
    };
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let status = Command::new(compiler)
        .args(["-std=c++17", "-O1", "-shared", "-fPIC", "-isystem"])
        .arg(&include)
        .arg("-isystem")
        .arg(include.join("torch/csrc/api/include"))
        .arg("-D_GLIBCXX_USE_CXX11_ABI=1")
        .args(SOURCES[1..].iter().map(|(file, _)| sources.join(file)))
        .arg("-o")
        .arg(&aside)
        .arg(format!("-L{}", libtorch.join("lib").display()))
        .args(["-ltorch_cpu", "-lc10"])
        .arg(format!("-Wl,-rpath,{}", libtorch.join("lib").display()))
        .status()
        .expect("a C++ compiler, which the build needs too");
    assert!(status.success(), "{} does not compile", sources.display());
    std::fs::rename(aside, &library).unwrap();
    library
}

/// FNV-1a of the sources and the libtorch's place.
fn named(libtorch: &Path) -> u32 {
    let bytes = SOURCES
        .iter()
        .flat_map(|(_, text)| text.bytes())
        .chain(libtorch.as_os_str().as_encoded_bytes().iter().copied());
    bytes.fold(0x811C_9DC5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
