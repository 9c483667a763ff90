//! A connection between a learner and a sampler: a thread that writes, with signs of life where there is nothing to say, and
//! one that reads, and notices when those of the other end do not come.

use std::io::{BufReader, BufWriter, ErrorKind};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{SamplerFrame, framed, read_frame, write_frame};

/// Time between two signs of life.
const ALIVE: Duration = Duration::from_millis(500);

/// How long a last word may take.
const MOMENT: Duration = Duration::from_secs(2);

/// What comes from the other end.
#[derive(Debug)]
pub(super) enum LineNews<T> {
    /// A word and the bytes behind it.
    Said(T, Vec<u8>),
    /// Nothing more comes, and why.
    Ended(String),
}

/// This end of a connection; it is closed when it is dropped.
#[derive(Debug)]
pub(super) struct SamplerLine {
    words: Option<Sender<SamplerFrame>>,
    /// Ends when the last word is written.
    written: Receiver<()>,
    socket: TcpStream,
}

impl SamplerLine {
    /// Speaks over `socket`; `hear` is told, by a thread of its own, what the other end says, and that it has ended when it
    /// closes or gives no sign of life for `silence`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open<T: DeserializeOwned>(
        socket: TcpStream,
        silence: Duration,
        mut hear: impl FnMut(LineNews<T>) + Send + 'static,
    ) -> std::io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(silence))?;
        let (words, said) = channel::<SamplerFrame>();
        let mut writer = BufWriter::new(socket.try_clone()?);
        let (done, written) = channel::<()>();
        let write = move || {
            let _done_when_dropped = done;
            loop {
                let frame = match said.recv_timeout(ALIVE) {
                    Ok(frame) => frame,
                    Err(RecvTimeoutError::Timeout) => (Vec::new(), Vec::new()),
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if write_frame(&mut writer, &frame).is_err() {
                    // The reader says why.
                    break;
                }
            }
            // The other end must not wait for signs of life.
            let _ = writer.get_ref().shutdown(Shutdown::Write);
        };
        let mut reader = BufReader::new(socket.try_clone()?);
        let read = move || {
            let why = loop {
                match read_frame(&mut reader) {
                    Ok((word, bytes)) => hear(LineNews::Said(word, bytes)),
                    Err(error) => break error,
                }
            };
            let why = match why.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    format!("no sign of life within {} s", silence.as_secs_f64())
                }
                ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    "its connection broke".to_owned()
                }
                _ => why.to_string(),
            };
            hear(LineNews::Ended(why));
        };
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        named("sampler writer").spawn(write)?;
        named("sampler reader").spawn(read)?;
        Ok(Self {
            words: Some(words),
            written,
            socket,
        })
    }

    /// Says `word`, with `bytes` behind it; what a closed connection does not take, nobody misses.
    pub(super) fn say(&self, word: &impl Serialize, bytes: Vec<u8>) {
        if let Some(words) = &self.words {
            let _ = words.send(framed(word, bytes));
        }
    }

    /// The address of this end.
    pub(super) fn own_address(&self) -> Option<IpAddr> {
        self.socket.local_addr().ok().map(|address| address.ip())
    }

    /// Says `word` and closes the connection once it is written, or after a moment.
    pub(super) fn part(mut self, word: &impl Serialize) {
        self.say(word, Vec::new());
        self.words = None;
        let _ = self.written.recv_timeout(MOMENT);
    }
}

impl Drop for SamplerLine {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}
