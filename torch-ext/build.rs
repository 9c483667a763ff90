//! Compiles the C++ shim against the libtorch that torch-sys was built with.

use std::path::PathBuf;
use std::{env, error::Error};

const SOURCES: &[&str] = &["error", "autograd", "optim", "context"];

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
    Ok(())
}
