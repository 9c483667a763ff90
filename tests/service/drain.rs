//! A run whose scoring service falls silent ends when it is asked to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::process::Server;
use serde_json::Value;

use crate::cli::program::{program, scratch, told};
use crate::cli::tiny::config;

/// Something between a run and its service that can fall silent: it takes requests and answers none.
struct Between {
    address: String,
    silent: Arc<AtomicBool>,
    /// Bytes that were swallowed.
    swallowed: Arc<AtomicUsize>,
}

impl Between {
    fn start(service: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let between = Self {
            address: listener.local_addr().unwrap().to_string(),
            silent: Arc::default(),
            swallowed: Arc::default(),
        };
        let (silent, swallowed) = (between.silent.clone(), between.swallowed.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let far = TcpStream::connect(&service).unwrap();
                let [from, to] = [&near, &far].map(|stream| stream.try_clone().unwrap());
                let flags = (silent.clone(), swallowed.clone());
                std::thread::spawn(move || pass(from, to, &flags));
                let flags = (silent.clone(), Arc::default());
                std::thread::spawn(move || pass(far, near, &flags));
            }
        });
        between
    }
}

/// Passes bytes on until one side closes; when silent, takes them and says nothing.
fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    (silent, swallowed): &(Arc<AtomicBool>, Arc<AtomicUsize>),
) {
    let mut bytes = [0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if silent.load(Ordering::SeqCst) {
            swallowed.fetch_add(count, Ordering::SeqCst);
        } else if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn train(config: &Path, run: &Path, endpoint: &str, steps: usize) -> Command {
    let mut command = program();
    command.arg("train").arg(config).arg("--run-dir").arg(run);
    for set in [
        format!("rewards.endpoint=http://{endpoint}"),
        format!("stages.rl.steps={steps}"),
        "stages.rl.eval.prompts=0".into(),
        "grace_s=0.5".into(),
    ] {
        command.arg("--set").arg(set);
    }
    command
}

fn last_step(run: &Path) -> u64 {
    // The last line may be half written.
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|row| row["stage"] == "rl")
        .filter_map(|row| row["step"].as_u64())
        .max()
        .unwrap_or(0)
}

/// Waits for `moment`, at most a minute.
fn wait(child: &mut Child, moment: impl Fn(&mut Child) -> bool) {
    let started = Instant::now();
    while !moment(child) {
        if started.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("the moment never came");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_whose_service_fell_silent_keeps_its_state_and_ends_within_the_grace() {
    let folder = scratch("drain");
    let config = config(&folder);
    let server = Server::with(folder.clone(), &config, &[]);
    let between = Between::start(server.address.clone());
    let run = folder.join("run");
    let mut child = train(&config, &run, &between.address, 1000)
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait(&mut child, |_| last_step(&run) >= 2);
    between.silent.store(true, Ordering::SeqCst);
    wait(&mut child, |_| between.swallowed.load(Ordering::SeqCst) > 0);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    // An unanswered request is given up after two minutes, and sent again eight times.
    wait(&mut child, |child| child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    let done = last_step(&run);
    let state = run.join(format!("checkpoints/rl/step_{done:06}/trainer/state.json"));
    assert!(state.exists(), "{}", state.display());
    told(&mut train(
        &config,
        &run,
        &server.address,
        done as usize + 1,
    ))
    .fine();
    assert_eq!(last_step(&run), done + 1);
}
