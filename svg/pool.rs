//! Worker processes: started when needed, kept for the next document, killed when the clock or the
//! pipe says so. Callers may draw at the same time; each holds a process of its own meanwhile.

use crate::failure::{Failure, Reason};
use crate::protocol::{Answer, DrawRequest, read_frame, read_json, write_frame, write_json};
use crate::raster::Raster;
use rustix::io::Errno;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// Where the worker program is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WorkerProgram {
    /// The file that `SVGRL_RENDER_WORKER` names, else `svgrl-render-worker` beside the running program or one folder up.
    #[default]
    Installed,
    /// This file.
    At(PathBuf),
}

const VARIABLE: &str = "SVGRL_RENDER_WORKER";
const NAMES: [&str; 2] = ["svgrl-render-worker", "svg-render-worker"];

impl WorkerProgram {
    fn find(&self) -> Result<PathBuf, Failure> {
        let missing = |detail: String| Failure::new(Reason::WorkerUnavailable, detail);
        let named = match self {
            WorkerProgram::At(path) => Some(path.clone()),
            WorkerProgram::Installed => std::env::var_os(VARIABLE).map(PathBuf::from),
        };
        if let Some(path) = named {
            return if path.is_file() {
                Ok(path)
            } else {
                Err(missing(format!("no such program: {}", path.display())))
            };
        }
        let program = std::env::current_exe().map_err(|e| missing(e.to_string()))?;
        let folders = program
            .ancestors()
            .skip(1)
            .take(2)
            .map(Path::to_path_buf)
            .collect::<Vec<_>>();
        folders
            .iter()
            .flat_map(|folder| NAMES.map(|name| folder.join(name)))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                missing(format!(
                    "{} is not beside {} (build it, or name it in {VARIABLE})",
                    NAMES[0],
                    program.display()
                ))
            })
    }
}

/// Why there is no picture.
enum Trouble {
    /// By the document, or by the system.
    Failed(Failure),
    /// Somebody else ended the worker.
    Killed(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Trouble::Failed(failure)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let (Trouble::Failed(failure) | Trouble::Killed(failure)) = trouble;
        failure
    }
}

const SIGKILL: i32 = 9;

/// The pause before the system is asked again for a process that it had not to give.
const PAUSE: Duration = Duration::from_millis(20);

/// The idle processes and how to start another.
pub(crate) struct Pool {
    program: PathBuf,
    idle: Mutex<Vec<Process>>,
}

impl Pool {
    /// Finds the program; starts nothing yet.
    pub fn new(program: &WorkerProgram) -> Result<Self, Failure> {
        Ok(Pool {
            program: program.find()?,
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Draws in a worker process within the request's deadline. One that somebody else killed, the system for
    /// lack of memory for instance, says nothing of the document: another tries it, once.
    pub fn draw(&self, request: &DrawRequest, source: &str) -> Result<Raster, Failure> {
        let drawn = match self.draw_once(request, source) {
            Err(Trouble::Killed(_)) => self.draw_once(request, source),
            drawn => drawn,
        };
        Ok(drawn?)
    }

    fn draw_once(&self, request: &DrawRequest, source: &str) -> Result<Raster, Trouble> {
        let until = Instant::now() + Duration::from_millis(request.deadline_ms);
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let reused = idle.is_some();
        let mut process = match idle {
            Some(process) => process,
            None => self.start(until)?,
        };
        if process.send(request, source).is_err() {
            // An idle process may have been killed from outside; a fresh one that cannot be fed is broken.
            if !reused {
                return Err(process.post_mortem());
            }
            process = self.start(until)?;
            process
                .send(request, source)
                .map_err(|e| Failure::new(Reason::WorkerCrashed, e.to_string()))?;
        }
        match process
            .answers
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok((answer, rgba)) => {
                self.idle
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(process);
                let (width, height) = request.canvas;
                answer?;
                Ok(Raster {
                    width,
                    height,
                    rgba,
                })
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let detail = format!("still drawing after {} ms", request.deadline_ms);
                Err(Failure::new(Reason::Deadline, detail).into())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(process.post_mortem()),
        }
    }

    /// Another process. One that the system lacks for the moment is waited for, until `until` at most.
    fn start(&self, until: Instant) -> Result<Process, Failure> {
        let passes = |error: &io::Error| {
            matches!(
                Errno::from_io_error(error),
                Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::TXTBSY)
            )
        };
        loop {
            match Process::start(&self.program) {
                Ok(process) => return Ok(process),
                Err(error) if passes(&error) && Instant::now() < until => {
                    std::thread::sleep(PAUSE);
                }
                Err(error) => {
                    let detail = format!("{}: {error}", self.program.display());
                    return Err(Failure::new(Reason::WorkerUnavailable, detail));
                }
            }
        }
    }
}

/// One worker process and the thread that reads its answers. Dropping it kills it.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    answers: mpsc::Receiver<(Answer, Vec<u8>)>,
}

impl Process {
    fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Its own process group: an interrupt of the run must not end it before its answer is used.
        let mut child = command.process_group(0).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (sender, answers) = mpsc::channel();
        if let Some(mut output) = output {
            let read = move || {
                while let Ok(answer) = read_answer(&mut output) {
                    if sender.send(answer).is_err() {
                        break;
                    }
                }
            };
            let reader = std::thread::Builder::new().name("svg-answers".into());
            if let Err(error) = reader.spawn(read) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        }
        Ok(Process {
            child,
            input,
            answers,
        })
    }

    fn send(&mut self, request: &DrawRequest, source: &str) -> io::Result<()> {
        let input = self
            .input
            .as_mut()
            .ok_or_else(|| io::Error::other("no pipe"))?;
        write_json(input, request)?;
        write_frame(input, source.as_bytes())
    }

    /// Why the process ended, from its last words.
    fn post_mortem(&mut self) -> Trouble {
        drop(self.input.take());
        let _ = self.child.kill();
        let mut words = String::new();
        if let Some(errors) = self.child.stderr.take() {
            let _ = errors.take(4096).read_to_string(&mut words);
        }
        let reason = if words.contains("overflowed its stack") {
            Reason::StackOverflow
        } else if words.contains("memory allocation") {
            Reason::OutOfMemory
        } else {
            Reason::WorkerCrashed
        };
        let status = self.child.wait();
        let killed = status.as_ref().ok().and_then(|s| s.signal()) == Some(SIGKILL);
        let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
        if killed && reason == Reason::WorkerCrashed {
            let detail = format!("killed from outside ({status})");
            return Trouble::Killed(Failure::new(reason, detail));
        }
        let last = words
            .lines()
            .rfind(|l| !l.trim().is_empty() && !l.starts_with("note: "))
            .unwrap_or("no message");
        Trouble::Failed(Failure::new(reason, format!("{last} ({status})")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_answer(output: &mut impl Read) -> io::Result<(Answer, Vec<u8>)> {
    let answer: Answer = read_json(output)?;
    let rgba = if answer.is_ok() {
        read_frame(output)?
    } else {
        Vec::new()
    };
    Ok((answer, rgba))
}
