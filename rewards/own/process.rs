//! A process that is written to and read from line by line, with a deadline, and that ends with what it started.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

/// A running process. Dropping it kills it, with all that it started.
pub(super) struct PipedProcess {
    child: Child,
    input: Option<Sender<String>>,
    output: Receiver<String>,
}

/// What was read of it.
pub(super) enum LineRead {
    Line(String),
    /// It closed its output.
    End,
    /// Nothing came in time.
    Late,
}

impl PipedProcess {
    /// Starts it. What it writes to standard error goes to this program's.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A group of its own, so that it can be ended with what it started.
            .process_group(0)
            .spawn()?;
        let (input, lines) = unbounded::<String>();
        let (sender, output) = unbounded();
        // Pipes hold little: whoever writes or reads them may have to wait, and must not keep this from its deadline.
        if let Some(mut pipe) = child.stdin.take() {
            std::thread::Builder::new().spawn(move || {
                for line in lines {
                    if writeln!(pipe, "{line}")
                        .and_then(|()| pipe.flush())
                        .is_err()
                    {
                        return;
                    }
                }
            })?;
        }
        if let Some(pipe) = child.stdout.take() {
            std::thread::Builder::new().spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            })?;
        }
        Ok(PipedProcess {
            child,
            input: Some(input),
            output,
        })
    }

    /// Writes a line.
    pub fn write(&self, line: String) {
        if let Some(input) = &self.input {
            // Whoever reads nothing any more is found out by what it does not answer.
            let _ = input.send(line);
        }
    }

    /// Closes its input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Reads a line.
    pub fn read_by(&self, deadline: Instant) -> LineRead {
        match self.output.recv_deadline(deadline) {
            Ok(line) => LineRead::Line(line),
            Err(RecvTimeoutError::Disconnected) => LineRead::End,
            Err(RecvTimeoutError::Timeout) => LineRead::Late,
        }
    }

    /// How it ended, once its output is closed.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn end(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for PipedProcess {
    fn drop(&mut self) {
        self.input = None;
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let (Ok(None), Some(id)) = (self.child.try_wait(), id) {
            let _ = kill_process_group(id, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
