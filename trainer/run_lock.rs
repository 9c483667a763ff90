//! One run folder, one run: `RUN/lock` is held as long as a run writes there.
//!
//! The system's lock on the file decides, so that a killed run leaves none behind. Network file systems
//! differ in whether that lock reaches other machines, so the holder also moves the file's time of change
//! every few seconds: whoever finds another machine's name in it looks whether that goes on.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{TrainError, files};

/// Time between two signs of life.
const BEAT: Duration = Duration::from_secs(4);
/// How long another machine's sign of life is waited for.
const WATCH: Duration = Duration::from_secs(11);

/// Who holds a run folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The machine's name.
    pub host: String,
    /// The process' number there.
    pub pid: u32,
    /// When it was started, in the system's own count: process numbers come again.
    pub started: u64,
    /// Unix seconds.
    pub since: u64,
}

impl Holder {
    /// This process.
    fn this() -> Self {
        let pid = std::process::id();
        Self {
            host: host(),
            pid,
            started: started(pid).unwrap_or(0),
            since: unix_seconds(),
        }
    }

    fn lives_here(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let minutes = unix_seconds().saturating_sub(self.since) / 60;
        write!(f, "process {} on {}", self.pid, self.host)?;
        match minutes {
            0 => Ok(()),
            minutes => write!(f, ", for {minutes} min"),
        }
    }
}

/// A run folder that is this process' alone until it is dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    path: PathBuf,
    _beat: Sender<()>,
}

impl RunLock {
    /// Takes `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// A folder that is in use, with who uses it; one that cannot be made.
    pub fn take(folder: &Path) -> Result<Self, TrainError> {
        Self::take_within(folder, Duration::ZERO)
    }

    /// [`Self::take`], waiting so long for whoever uses the folder: the attempt before a restart may be about to end.
    ///
    /// # Errors
    /// A folder that is still in use then; one that cannot be made.
    pub fn take_within(folder: &Path, patience: Duration) -> Result<Self, TrainError> {
        const PAUSE: Duration = Duration::from_millis(200);
        let end = Instant::now() + patience;
        loop {
            match Self::try_take(folder)? {
                Ok(lock) => return Ok(lock),
                Err(holder) if Instant::now() >= end => {
                    return Err(in_use(&folder.join("lock"), holder.as_ref()));
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The folder, or who has it, as far as that is known.
    fn try_take(folder: &Path) -> Result<Result<Self, Option<Holder>>, TrainError> {
        let unusable = |error: &dyn std::fmt::Display| {
            TrainError::Input(format!("--run-dir {}: {error}", folder.display()))
        };
        files::make_folder(folder).map_err(|error| match error {
            TrainError::Io { path, source } if path == folder => unusable(&source),
            error => unusable(&error),
        })?;
        let path = folder.join("lock");
        loop {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(&path)
                .map_err(|error| unusable(&error))?;
            let before = holder(&mut file);
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Err(before)),
                Err(TryLockError::Error(error)) if knows_no_locks(&error) => {
                    let alive = |one: &Holder| one.host == host() && one.lives_here();
                    if before.as_ref().is_some_and(alive) {
                        return Ok(Err(before));
                    }
                }
                Err(TryLockError::Error(error)) => return Err(unusable(&error)),
            }
            // Whoever held it may have removed it or moved the folder away in between.
            if !is_at(&file, &path) {
                continue;
            }
            let elsewhere = |one: &Holder| one.host != host();
            if before.as_ref().is_some_and(elsewhere) && beats(&path) {
                return Ok(Err(before));
            }
            return Self::hold(file, path).map(Ok);
        }
    }

    fn hold(mut file: File, path: PathBuf) -> Result<Self, TrainError> {
        let text = serde_json::to_string(&Holder::this())
            .map_err(|error| TrainError::Other(error.to_string()))?;
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(format!("{text}\n").as_bytes())?;
            file.try_clone()
        };
        let shared = write(&mut file).map_err(TrainError::io(&path))?;
        let (beat, stopped) = channel::<()>();
        let alive = move || {
            while stopped.recv_timeout(BEAT) == Err(RecvTimeoutError::Timeout) {
                let _ = shared.set_modified(SystemTime::now());
            }
        };
        std::thread::Builder::new()
            .name("run-lock".into())
            .spawn(alive)
            .map_err(TrainError::io(&path))?;
        Ok(Self {
            file,
            path,
            _beat: beat,
        })
    }

    /// What stands in the file: every rank that sees the same folder reads the same.
    #[must_use]
    pub fn text(folder: &Path) -> Option<String> {
        fs::read_to_string(folder.join("lock")).ok()
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn in_use(path: &Path, holder: Option<&Holder>) -> TrainError {
    let who = holder.map_or_else(|| "another process".to_owned(), ToString::to_string);
    TrainError::Input(format!(
        "--run-dir {}: the folder is in use by {who} ({}): wait until that run ends or stop it, or give this one a folder of its own",
        files::parent(path).display(),
        path.display()
    ))
}

fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn knows_no_locks(error: &std::io::Error) -> bool {
    // ENOLCK: a network file system whose server has no lock service.
    error.kind() == ErrorKind::Unsupported || error.raw_os_error() == Some(37)
}

/// Whether `path` still names the open file.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |data: fs::Metadata| (data.dev(), data.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => id(open) == id(named),
        _ => false,
    }
}

/// Whether the file's time of change moves within a few signs of life.
fn beats(path: &Path) -> bool {
    let changed = || File::open(path).and_then(|file| file.metadata()?.modified());
    let Ok(before) = changed() else {
        return false;
    };
    let quiet = SystemTime::now()
        .duration_since(before)
        .unwrap_or(Duration::ZERO);
    if quiet > 15 * WATCH {
        return false;
    }
    for _ in 0..WATCH.as_secs() {
        std::thread::sleep(Duration::from_secs(1));
        if changed().is_ok_and(|now| now != before) {
            return true;
        }
    }
    false
}

/// This machine's name.
pub(crate) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// When process `pid` was started, in clock ticks since the machine was.
fn started(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in brackets, which may hold spaces; this is the 22nd.
    let rest = text.rsplit_once(')')?.1;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_of_the_first_and_a_stale_file_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("runs/a");
        let first = RunLock::take(&run).unwrap();
        let told = RunLock::take(&run).unwrap_err().to_string();
        assert!(
            told.contains("runs/a/lock") && told.contains(&std::process::id().to_string()),
            "{told}"
        );
        assert!(RunLock::text(&run).unwrap().contains("pid"));
        let patient = {
            let run = run.clone();
            std::thread::spawn(move || RunLock::take_within(&run, Duration::from_secs(20)).is_ok())
        };
        std::thread::sleep(Duration::from_millis(300));
        drop(first);
        assert!(patient.join().unwrap());
        assert_eq!(RunLock::text(&run), None);
        // What a killed run leaves, and something that is no holder at all.
        let dead = Holder {
            started: 1,
            ..Holder::this()
        };
        for text in [serde_json::to_string(&dead).unwrap(), "{\"ho".into()] {
            fs::write(run.join("lock"), text).unwrap();
            drop(RunLock::take(&run).unwrap());
        }
    }

    #[test]
    fn another_machines_signs_of_life_are_heeded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let other = Holder {
            host: "elsewhere".into(),
            ..Holder::this()
        };
        fs::write(&path, serde_json::to_string(&other).unwrap()).unwrap();
        let (stop, stopped) = channel::<()>();
        let beating = path.clone();
        let beat = std::thread::spawn(move || {
            while stopped.recv_timeout(Duration::from_millis(200)).is_err() {
                let file = File::options().write(true).open(&beating).unwrap();
                file.set_modified(SystemTime::now()).unwrap();
            }
        });
        let told = RunLock::take(folder.path()).unwrap_err().to_string();
        assert!(told.contains("on elsewhere"), "{told}");
        stop.send(()).unwrap();
        beat.join().unwrap();
        let old = SystemTime::now() - 16 * WATCH;
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
        assert!(RunLock::take(folder.path()).is_ok());
    }
}
