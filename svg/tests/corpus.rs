//! Hundreds of documents that attack, and thousands of damaged real ones: each is answered with a
//! whole picture or a reason, by a process that lives on, reads no file and opens no connection.

#![allow(clippy::panic, clippy::unwrap_used)]

mod attacks;

use attacks::{Attack, wrap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use svg::{ParseMode, Reason, RenderConfig, Renderer, Target, WorkerProgram};

const DEADLINE: Duration = Duration::from_secs(1);
/// What one answer may take beyond the deadline, on a loaded machine.
const SLACK: Duration = Duration::from_secs(5);

fn renderer(deadline: Duration) -> Renderer {
    let program = WorkerProgram::At(env!("CARGO_BIN_EXE_svg-render-worker").into());
    Renderer::new(&program, deadline).unwrap()
}

/// Draws on a small canvas in one of the modes; the reason, or none for a whole picture.
fn answer(renderer: &Renderer, source: &str, mode: ParseMode) -> Option<Reason> {
    let config = RenderConfig {
        mode,
        ..RenderConfig::default()
    };
    match renderer.render(source, Target::Longest(64), &config) {
        Ok(rendered) => {
            let raster = rendered.raster;
            let pixels = raster.width as usize * raster.height as usize;
            assert!(pixels > 0 && raster.rgba.len() == 4 * pixels);
            None
        }
        Err(failure) => Some(failure.reason),
    }
}

/// What became of a document.
#[derive(Clone, Copy, Debug)]
struct Answer {
    /// None for a picture.
    reason: Option<Reason>,
    took: Duration,
}

/// What takes longer than this is answered on one machine and late on another.
const SOON: Duration = Duration::from_millis(30);
/// Time enough, when the list is written anew, to see what a slow document comes to in the end.
const UNHURRIED: Duration = Duration::from_secs(20);
const OR_DEADLINE: &str = " or deadline";

impl Answer {
    /// As the list of attacks says it.
    fn told(self) -> String {
        let answer = self.reason.map_or("picture".into(), |r| r.to_string());
        match self.reason {
            Some(Reason::Deadline) => answer,
            _ if self.took > SOON => answer + OR_DEADLINE,
            _ => answer,
        }
    }

    fn is(&self, expected: &str) -> bool {
        let in_time = expected.strip_suffix(OR_DEADLINE);
        match self.reason {
            // resvg's own assertions are left out of an optimised build.
            None if expected == "panic" => !cfg!(debug_assertions),
            None => in_time.unwrap_or(expected) == "picture",
            Some(Reason::Deadline) => in_time.is_some() || expected == "deadline",
            Some(reason) => in_time.unwrap_or(expected) == reason.as_str(),
        }
    }
}

/// Answers all in both modes on two threads like those that score; every slow answer is named.
fn survive(attacks: &[Attack], deadline: Duration) -> Vec<[Answer; 2]> {
    let (next, renderer) = (AtomicUsize::new(0), renderer(deadline));
    let work = || {
        let mut found = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::SeqCst);
            let Some((name, source)) = attacks.get(index) else {
                break;
            };
            let reasons = [ParseMode::Strict, ParseMode::Recover].map(|mode| {
                let start = Instant::now();
                let reason = answer(&renderer, source, mode);
                assert!(
                    start.elapsed() < deadline + SLACK,
                    "{name}: {:?}",
                    start.elapsed()
                );
                assert_ne!(reason, Some(Reason::WorkerUnavailable), "{name}");
                Answer {
                    reason,
                    took: start.elapsed(),
                }
            });
            found.push((index, reasons));
        }
        found
    };
    let mut found = std::thread::scope(|scope| {
        let scoring = || svg::on_large_stack(|| Ok(work())).unwrap();
        let threads = [scope.spawn(scoring), scope.spawn(scoring)];
        threads.map(|thread| thread.join().unwrap()).concat()
    });
    found.sort_by_key(|answer| answer.0);
    assert_eq!(
        answer(
            &renderer,
            &wrap("<text y='50'>after</text>"),
            ParseMode::Strict
        ),
        None
    );
    found.into_iter().map(|answer| answer.1).collect()
}

/// Kilobytes this process has had in memory at most.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn every_attack_is_answered_with_a_picture_or_a_reason() {
    let attacks = attacks::all();
    assert!(attacks.len() >= 200, "only {} attacks", attacks.len());
    let bless = std::env::var_os("SVGRL_BLESS").is_some();
    let answers = survive(&attacks, if bless { UNHURRIED } else { DEADLINE });
    assert_eq!(answers.len(), attacks.len());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attacks.jsonl");
    if bless {
        let line = |((name, _), [strict, recover]): (&Attack, &[Answer; 2])| {
            serde_json::json!([name, strict.told(), recover.told()]).to_string() + "\n"
        };
        let text: String = attacks.iter().zip(&answers).map(line).collect();
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let golden: Vec<(String, String, String)> = golden
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names = golden.iter().map(|(name, ..)| name);
    assert!(
        names.eq(attacks.iter().map(|(name, _)| name)),
        "SVGRL_BLESS=1 writes the list anew"
    );
    // What a loaded machine did not answer in time is asked again, alone and with time enough.
    let patient = renderer(UNHURRIED);
    let mut wrong = Vec::new();
    for (((_, source), answers), (name, strict, recover)) in
        attacks.iter().zip(&answers).zip(&golden)
    {
        let modes = [(ParseMode::Strict, strict), (ParseMode::Recover, recover)];
        for (said, (mode, expected)) in answers.iter().zip(modes) {
            let mut said = *said;
            if !said.is(expected) && said.reason == Some(Reason::Deadline) {
                said.reason = answer(&patient, source, mode);
            }
            if !said.is(expected) {
                wrong.push((name, mode, expected, said));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(peak_kib() < 2 << 20, "{} KiB", peak_kib());
}

#[test]
fn no_link_is_followed() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("links");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    // Opening a pipe nobody writes to would hang until the deadline.
    let pipe = folder.join("pipe.svg");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let host = server.local_addr().unwrap().to_string();
    let attacks = attacks::reaching_out(pipe.to_str().unwrap(), &host);
    for ((name, _), reasons) in attacks.iter().zip(survive(&attacks, DEADLINE)) {
        assert!(
            !reasons
                .iter()
                .any(|answer| answer.reason == Some(Reason::Deadline)),
            "{name} waited for something"
        );
        let connection = server.accept().map_err(|error| error.kind());
        assert_eq!(
            connection.err(),
            Some(std::io::ErrorKind::WouldBlock),
            "{name} or one before it called the server"
        );
    }
}

/// Numbers that look random and are the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

fn icons() -> Vec<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs/icons/train.jsonl");
    let text = std::fs::read_to_string(path).unwrap();
    let svg = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).unwrap()["svg"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    text.lines().map(svg).collect()
}

/// One damage of the kinds that models, networks and editors do.
fn damage(icons: &[String], random: &mut Random) -> String {
    let mut bytes = icons[random.below(icons.len())].clone().into_bytes();
    for _ in 0..=random.below(3) {
        let (at, to) = (random.below(bytes.len()), random.below(bytes.len()));
        let (low, high) = (at.min(to), at.max(to));
        match random.below(8) {
            0 => bytes[at] = random.below(256) as u8,
            1 => bytes.truncate(at.max(1)),
            2 => drop(bytes.drain(low..high)),
            3 => {
                let piece = bytes[low..high].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = icons[random.below(icons.len())].as_bytes();
                bytes.splice(
                    low..high,
                    other[random.below(other.len())..].iter().copied(),
                );
            }
            5 => {
                let words: [&[u8]; 12] = [
                    b"<g>", b"</g>", b"'", b"\"", b"<", b"&", b"1e38", b"NaN", b"-", b"url(#a)",
                    b"<!--", b"\0",
                ];
                bytes.splice(at..at, words[random.below(12)].iter().copied());
            }
            6 => bytes
                .iter_mut()
                .filter(|b| **b == b'1')
                .for_each(|b| *b = b'9'),
            _ => bytes[low..high].reverse(),
        }
        if bytes.is_empty() {
            bytes.push(b'<');
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn damaged_icons_are_answered_and_repair_never_loses_a_whole_one() {
    let (icons, mut random) = (icons(), Random(0x9e37_79b9));
    let damaged: Vec<Attack> = (0..2000)
        .map(|i| (format!("damaged icon {i}"), damage(&icons, &mut random)))
        .collect();
    let answers = survive(&damaged, DEADLINE);
    let refused = |mode: usize| {
        answers
            .iter()
            .filter(|answers| answers[mode].reason.is_some())
            .count()
    };
    assert!(refused(0) > refused(1), "{} {}", refused(0), refused(1));
    for ((name, source), [strict, repaired]) in damaged.iter().zip(&answers) {
        assert!(
            strict.reason.is_some() || repaired.reason.is_none(),
            "{name}: only repair refuses it, {repaired:?}: {source}"
        );
    }
}
