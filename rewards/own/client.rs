//! The threads that ask: each gathers rows that are at hand into a batch, has it answered, and hands the answers out.

use super::command::CommandLink;
use super::http::HttpLink;
use super::python::PythonLink;
use super::setup::{OwnKind, OwnRow, OwnSetup};
use crate::error::RewardError;
use crate::scores::Verdict;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a batch that is not full waits for more.
const PATIENCE: Duration = Duration::from_millis(5);

/// A reward of the user's own and the threads that ask for it. They end when it is dropped.
pub(crate) struct OwnClient {
    rows: Sender<AskedRow>,
    portable: bool,
}

/// A row, and where its answer goes.
struct AskedRow {
    row: Value,
    reply: Sender<Verdict>,
}

/// The way to who answers.
enum Link {
    Http(HttpLink),
    Python(PythonLink),
    Command(CommandLink),
}

impl OwnClient {
    /// Starts the threads, and what they ask.
    ///
    /// # Errors
    /// A key's variable that is not set, a function that cannot be loaded: as `key: why`.
    pub fn start(setup: &OwnSetup) -> Result<OwnClient, RewardError> {
        let (rows, inbox) = unbounded::<AskedRow>();
        for i in 0..setup.batching.connections {
            let mut link = Link::open(setup)?;
            let (inbox, batching) = (inbox.clone(), setup.batching);
            let serve = move || {
                while let Some(batch) = gather(&inbox, batching.batch) {
                    answer(&mut link, batch, batching.retries);
                }
            };
            std::thread::Builder::new()
                .name(format!("own-reward-{i}"))
                .spawn(serve)?;
        }
        Ok(OwnClient {
            rows,
            portable: matches!(setup.kind, OwnKind::Http { .. }),
        })
    }

    /// Asks; the answer comes.
    pub fn ask(&self, row: &OwnRow) -> Receiver<Verdict> {
        let (reply, answer) = bounded(1);
        match row.json(self.portable) {
            // The threads hold the receiver as long as this lives.
            Ok(row) => drop(self.rows.send(AskedRow { row, reply })),
            Err(why) => drop(reply.send(Err(why.into()))),
        }
        answer
    }
}

impl Link {
    fn open(setup: &OwnSetup) -> Result<Self, RewardError> {
        let batching = setup.batching;
        Ok(match &setup.kind {
            OwnKind::Http { url, key_env } => {
                Link::Http(HttpLink::open(url, key_env.as_deref(), batching)?)
            }
            OwnKind::Python {
                interpreter,
                file,
                function,
            } => Link::Python(PythonLink::open([interpreter, function], file, batching)?),
            OwnKind::Command { run, folder } => {
                Link::Command(CommandLink::new(run, folder, batching))
            }
        })
    }

    /// One answer for each row.
    ///
    /// # Errors
    /// Why there is none for any.
    fn ask(&mut self, rows: &[Value]) -> Result<Vec<Verdict>, String> {
        match self {
            Link::Http(link) => link.ask(rows),
            Link::Python(link) => link.ask(rows),
            Link::Command(link) => link.ask(rows),
        }
    }
}

/// The next rows; none when there will be no more.
fn gather(inbox: &Receiver<AskedRow>, most: usize) -> Option<Vec<AskedRow>> {
    let mut batch = vec![inbox.recv().ok()?];
    let until = Instant::now() + PATIENCE;
    while batch.len() < most {
        match inbox.recv_deadline(until) {
            Ok(asked) => batch.push(asked),
            Err(_) => break,
        }
    }
    Some(batch)
}

fn answer(link: &mut Link, batch: Vec<AskedRow>, retries: u32) {
    let (rows, replies): (Vec<Value>, Vec<Sender<Verdict>>) = batch
        .into_iter()
        .map(|asked| (asked.row, asked.reply))
        .unzip();
    let mut tried = 0;
    let answers = loop {
        match link.ask(&rows) {
            Ok(answers) => break answers,
            // A service is asked again by its own caller, with pauses.
            Err(why) if tried >= retries || matches!(link, Link::Http(_)) => {
                break vec![Err(why.into()); rows.len()];
            }
            Err(_) => tried += 1,
        }
    };
    for (reply, answer) in replies.iter().zip(answers) {
        // Nobody may be waiting any more.
        let _ = reply.send(answer);
    }
}
