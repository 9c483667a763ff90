//! A machine that gives no further threads, wherever in a run that happens.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::program::{program, scratch, told};
use super::tiny::config;

/// A library that lets a process start `TEST_THREADS` threads and refuses the others.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_int made;

int pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*body)(void *), void *argument) {
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
    const char *most = getenv("TEST_THREADS");
    if (most && atomic_fetch_add(&made, 1) >= atoi(most)) return EAGAIN;
    return real(thread, how, body, argument);
}
"#;

fn library(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("threads.c"), folder.join("threads.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl");
    assert!(cc.status().unwrap().success());
    library
}

#[test]
fn too_few_threads_are_told_in_a_sentence() {
    let folder = scratch("too_few_threads");
    let (config, library) = (config(&folder), library(&folder));
    let mut refused = 0;
    for most in [0, 1, 2, 3, 5, 8] {
        let mut train = program();
        train
            .arg("train")
            .arg(&config)
            .arg("--run-dir")
            .arg(folder.join(format!("run_{most}")));
        train.args(["--set", "stages.sft.steps=1", "--set", "stages.rl.steps=1"]);
        train
            .env("LD_PRELOAD", &library)
            .env("TEST_THREADS", most.to_string());
        let said = told(&mut train);
        if said.code == 0 {
            continue;
        }
        refused += 1;
        said.refused(
            1,
            &[
                "no further thread can be started",
                "`threads` and `rewards.workers`",
            ],
        );
    }
    assert!(refused >= 3, "{refused} of the limits were too low");
}
