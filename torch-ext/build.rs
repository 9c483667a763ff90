//! Compiles the C++ shim against the libtorch that torch-sys was built with.

use std::path::PathBuf;
use std::{env, error::Error};

const SOURCES: &[&str] = &[
    "error", "autograd", "optim", "context", "decode", "fused", "dispatch",
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
        .opt_level(3);
    for name in SOURCES {
        build.file(format!("shim/{name}.cpp"));
    }
    build.try_compile("svgrl_shim")?;

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
