//! Compiles the C++ shim against the libtorch that torch-sys was built with.
//!
//! With SVGRL_CUDA=1, which `make setup` writes into `.cargo/config.toml` when
//! it finds a CUDA libtorch with its headers, NCCL groups and CUDA graphs are compiled in and
//! the CUDA libraries linked; the code sees it as `cfg(svgrl_cuda)`.

use std::path::{Path, PathBuf};
use std::{env, error::Error, fs};

const SOURCES: &[&str] = &[
    "error",
    "autograd",
    "optim",
    "context",
    "decode",
    "flash",
    "fused",
    "learn",
    "stream",
    "dispatch",
    "store",
    "group",
    "storage",
    "allocations",
];

/// The kernels' tables and the instruction set that each is compiled for.
const X86_KERNELS: &[(&str, Option<&str>)] = &[
    ("kernels_base", None),
    ("kernels_v3", Some("x86-64-v3")),
    ("kernels_v4", Some("x86-64-v4")),
];
const OTHER_KERNELS: &[(&str, Option<&str>)] = &[("kernels_base", None)];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=shim");
    let lib = PathBuf::from(env::var("DEP_TCH_LIBTORCH_LIB")?);
    let include = match env::var_os("LIBTORCH_INCLUDE") {
        Some(folder) => PathBuf::from(folder).join("include"),
        None => lib
            .parent()
            .ok_or("libtorch's lib folder has no parent")?
            .join("include"),
    };
    println!("cargo:rerun-if-env-changed=LIBTORCH_INCLUDE");

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .flag(format!("-isystem{}", include.display()))
        .flag(format!(
            "-isystem{}",
            include.join("torch/csrc/api/include").display()
        ))
        .include("shim")
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .flag("-fopenmp")
        .flag("-fno-math-errno")
        .flag("-Wno-psabi")
        // Only glue: the arithmetic is in the kernels below, and in libtorch.
        .opt_level(1);
    for name in SOURCES {
        build.file(format!("shim/{name}.cpp"));
    }
    println!("cargo:rustc-check-cfg=cfg(svgrl_cuda)");
    println!("cargo:rerun-if-env-changed=SVGRL_CUDA");
    let cuda = env::var("SVGRL_CUDA").is_ok_and(|flag| flag == "1");
    if cuda {
        println!("cargo:rustc-cfg=svgrl_cuda");
        build.file("shim/cuda.cpp");
        for folder in cuda_includes(&lib)? {
            build.flag(format!("-isystem{}", folder.display()));
        }
    }
    build.try_compile("svgrl_shim")?;
    if cuda {
        println!("cargo:rustc-link-search=native={}", lib.display());
        println!("cargo:rustc-link-lib=torch_cuda");
        println!("cargo:rustc-link-lib=c10_cuda");
    }

    let kernels = match env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => X86_KERNELS,
        _ => OTHER_KERNELS,
    };
    for &(table, march) in kernels {
        let mut build = cc::Build::new();
        build
            .cpp(true)
            .std("c++17")
            .define("ISA", table)
            .flag("-fno-math-errno")
            .flag("-ffp-contract=fast")
            .flag("-Wno-psabi")
            .opt_level(3)
            .file("shim/kernels.cpp");
        if let Some(march) = march {
            build.flag(format!("-march={march}"));
        }
        build.try_compile(&format!("svgrl_{table}"))?;
    }
    Ok(())
}

/// The include folders of the CUDA wheels, which lie beside that of torch:
/// `torch/lib` and `nvidia/<package>/include`.
fn cuda_includes(lib: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let packages = lib
        .ancestors()
        .nth(2)
        .ok_or("libtorch's lib folder has no place beside it")?
        .join("nvidia");
    let mut folders = Vec::new();
    for entry in fs::read_dir(packages)? {
        let include = entry?.path().join("include");
        for folder in [include.join("cccl"), include] {
            if folder.is_dir() {
                folders.push(folder);
            }
        }
    }
    Ok(folders)
}
