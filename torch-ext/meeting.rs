//! How the ranks of a run find each other in the store, before any collective.
//!
//! A store may be older than the ranks: torchrun keeps one over its restarts, with all that earlier attempts left
//! in it. So every process says hello under a number that no other has; rank 0 calls those together that it heard
//! last, under a name of its own making; each of them answers; and only when all have answered does rank 0 give the
//! word. The word is the prefix of everything that follows, which therefore starts empty at each attempt. A process
//! of another run is turned away by name, a rank that is not alike ends the start for all.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Store, TorchError};

/// Time between two looks at the store.
const POLL: Duration = Duration::from_millis(20);
/// Parts of a message; no part holds it.
const SEPARATOR: char = '\u{1}';

/// What a rank makes of what another one says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Likeness {
    /// It belongs to this run and is as it should be.
    Same,
    /// It belongs to this run and must not take part: the sentence ends the start of all.
    Unlike(String),
    /// It belongs to another run: it is told the sentence and left out.
    Stranger(String),
}

/// Compares what rank 0 says of itself with what another rank does.
pub type Compare<'a> = dyn Fn(&str, (usize, &str)) -> Likeness + 'a;

/// A rank that looks for the others.
pub struct Meeting<'a> {
    /// This process's place, `0..size`.
    pub rank: usize,
    /// How many processes take part.
    pub size: usize,
    /// How long to wait for them.
    pub timeout: Duration,
    /// What this rank says of itself, without control characters.
    pub about: &'a str,
    /// What rank 0 makes of the others.
    pub compare: &'a Compare<'a>,
    /// Where this rank can be reached, as far as it knows.
    pub address: Option<IpAddr>,
}

/// Ranks that have met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// The prefix of this attempt's keys.
    pub prefix: String,
    /// Where each rank can be reached, as far as it knows.
    pub addresses: Vec<Option<IpAddr>>,
}

/// What a process says of itself when it comes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hello {
    rank: usize,
    nonce: String,
    address: Option<IpAddr>,
    about: String,
}

impl Hello {
    fn encode(&self) -> String {
        let address = self.address.map(|ip| ip.to_string()).unwrap_or_default();
        let parts = [&self.rank.to_string(), &self.nonce, &address, &self.about];
        parts.map(String::as_str).join(&SEPARATOR.to_string())
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, SEPARATOR);
        Some(Self {
            rank: parts.next()?.parse().ok()?,
            nonce: parts.next()?.to_owned(),
            address: parts.next()?.parse().ok(),
            about: parts.next()?.to_owned(),
        })
    }
}

/// Who is called together: a name, the processes by rank with their addresses, or why nobody is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Call {
    id: String,
    members: Vec<(String, Option<IpAddr>)>,
    refusal: Option<String>,
}

impl Call {
    fn encode(&self) -> String {
        let mut parts = vec![self.id.clone(), self.refusal.clone().unwrap_or_default()];
        for (nonce, address) in &self.members {
            let address = address.map(|ip| ip.to_string()).unwrap_or_default();
            parts.extend([nonce.clone(), address]);
        }
        parts.join(&SEPARATOR.to_string())
    }

    fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(SEPARATOR);
        let id = parts.next()?.to_owned();
        let refusal = Some(parts.next()?.to_owned()).filter(|text| !text.is_empty());
        let mut members = Vec::new();
        while let (Some(nonce), Some(address)) = (parts.next(), parts.next()) {
            members.push((nonce.to_owned(), address.parse().ok()));
        }
        Some(Self {
            id,
            members,
            refusal,
        })
    }

    fn met(&self) -> Met {
        Met {
            prefix: format!("run/{}", self.id),
            addresses: self.members.iter().map(|(_, address)| *address).collect(),
        }
    }
}

/// A name that no other process takes.
fn nonce() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!(
        "{}-{}-{:x}",
        host.trim(),
        std::process::id(),
        now.map_or(0, |since| since.as_nanos())
    )
}

impl Meeting<'_> {
    /// Waits for the others.
    ///
    /// # Errors
    /// Ranks that do not come in time, by number; being turned away; ranks that are not alike; a store that no
    /// longer answers.
    pub fn meet(&self, store: &Store) -> Result<Met, TorchError> {
        let own = Hello {
            rank: self.rank,
            nonce: nonce(),
            address: self.address,
            about: self.about.to_owned(),
        };
        let number = store.add("hellos", 1)?;
        store.set(&format!("hello/{number}"), own.encode().as_bytes())?;
        match self.rank {
            0 => self.lead(store, (number, &own)),
            _ => self.follow(store, &own),
        }
    }

    fn lead(&self, store: &Store, (number, own): (i64, &Hello)) -> Result<Met, TorchError> {
        let end = Instant::now() + self.timeout;
        let mut hellos = Hellos::default();
        let mut calls = 0;
        let mut called: Option<Call> = None;
        loop {
            for (place, hello) in hellos.came(store)? {
                // What came before this process is of attempts that have ended.
                if hello.rank == 0 && place > number {
                    return Err(self.refused(format!(
                        "another process is rank 0 as well ({}); this one leaves",
                        hello.nonce
                    )));
                }
                if hello.rank != 0 {
                    self.admit(store, own, hello, &mut hellos)?;
                }
            }
            if let Some(call) = self.call(own, &hellos, calls)
                && called
                    .as_ref()
                    .is_none_or(|before| before.members != call.members)
            {
                store.set("call", call.encode().as_bytes())?;
                calls += 1;
                called = Some(call);
            }
            if let Some(call) = &called {
                if let Some(sentence) = &call.refusal {
                    // The others read it before this process, which may serve the store, is gone.
                    self.answered(store, call, Instant::now() + Duration::from_secs(2))?;
                    return Err(self.refused(sentence.clone()));
                }
                if self.answered(store, call, Instant::now())? {
                    store.set("word", call.id.as_bytes())?;
                    return Ok(call.met());
                }
            }
            if Instant::now() >= end {
                let ranks = self.missing(store, &hellos, called.as_ref())?;
                store.set("gave_up", ranks.as_bytes())?;
                return Err(TorchError::NotJoined {
                    ranks,
                    size: self.size,
                    seconds: self.timeout.as_secs(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Takes a process in, turns it away, or notes why nobody may start.
    fn admit(
        &self,
        store: &Store,
        own: &Hello,
        hello: Hello,
        hellos: &mut Hellos,
    ) -> Result<(), TorchError> {
        let turn_away =
            |nonce: &str, why: &str| store.set(&format!("away/{nonce}"), why.as_bytes());
        let likeness = (self.compare)(&own.about, (hello.rank, &hello.about));
        if let Likeness::Stranger(why) = likeness {
            return turn_away(&hello.nonce, &why);
        }
        if hello.rank >= self.size {
            let (rank, size) = (hello.rank, self.size);
            return turn_away(
                &hello.nonce,
                &format!("there are {size} ranks, this one calls itself {rank}"),
            );
        }
        if let Likeness::Unlike(why) = likeness {
            hellos.unlike.insert(hello.rank, why);
        } else {
            hellos.unlike.remove(&hello.rank);
        }
        if let Some(before) = hellos.latest.insert(hello.rank, hello.clone()) {
            let why = format!(
                "rank {} came again ({}): that is a restart of this process, or two were given the same RANK",
                hello.rank, hello.nonce
            );
            turn_away(&before.nonce, &why)?;
        }
        Ok(())
    }

    fn call(&self, own: &Hello, hellos: &Hellos, number: usize) -> Option<Call> {
        let mut members = vec![(own.nonce.clone(), own.address)];
        for rank in 1..self.size {
            let hello = hellos.latest.get(&rank)?;
            members.push((hello.nonce.clone(), hello.address));
        }
        let why: Vec<&str> = hellos.unlike.values().map(String::as_str).collect();
        Some(Call {
            id: format!("{}-{number}", own.nonce),
            members,
            refusal: (!why.is_empty()).then(|| why.join("; ")),
        })
    }

    /// The ranks that have not come, or came and do not answer.
    fn missing(
        &self,
        store: &Store,
        hellos: &Hellos,
        called: Option<&Call>,
    ) -> Result<String, TorchError> {
        let mut missing = Vec::new();
        for rank in 1..self.size {
            let here = match called {
                Some(call) => store.is_set(&format!("answer/{}/{rank}", call.id))?,
                None => hellos.latest.contains_key(&rank),
            };
            if !here {
                missing.push(rank.to_string());
            }
        }
        Ok(missing.join(", "))
    }

    /// Whether all that are called have answered, at the latest at `end`.
    fn answered(&self, store: &Store, call: &Call, end: Instant) -> Result<bool, TorchError> {
        loop {
            let mut all = true;
            for rank in 1..self.size {
                all = all && store.is_set(&format!("answer/{}/{rank}", call.id))?;
            }
            if all || Instant::now() >= end {
                return Ok(all);
            }
            std::thread::sleep(POLL);
        }
    }

    fn follow(&self, store: &Store, own: &Hello) -> Result<Met, TorchError> {
        let end = Instant::now() + self.timeout;
        let mut answered: Option<Call> = None;
        let read = |key: &str| -> Result<Option<String>, TorchError> {
            match store.is_set(key)? {
                true => Ok(Some(String::from_utf8_lossy(&store.get(key)?).into_owned())),
                false => Ok(None),
            }
        };
        loop {
            if let Some(why) = read(&format!("away/{}", own.nonce))? {
                return Err(self.refused(why));
            }
            let call = read("call")?.and_then(|text| Call::decode(&text));
            let mine = |call: &Call| {
                call.members.get(self.rank).map(|(nonce, _)| nonce) == Some(&own.nonce)
            };
            if let Some(call) = call.filter(mine)
                && answered.as_ref() != Some(&call)
            {
                let key = format!("answer/{}/{}", call.id, self.rank);
                store.set(&key, b"here")?;
                if let Some(sentence) = &call.refusal {
                    return Err(self.refused(sentence.clone()));
                }
                answered = Some(call);
            }
            if let Some(call) = &answered
                && read("word")?.as_ref() == Some(&call.id)
            {
                return Ok(call.met());
            }
            if Instant::now() >= end {
                let gave_up =
                    read("gave_up")?.map(|ranks| format!("; it gave up waiting for {ranks}"));
                return Err(TorchError::Uncalled {
                    rank: self.rank,
                    seconds: self.timeout.as_secs(),
                    gave_up: gave_up.unwrap_or_default(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    fn refused(&self, sentence: String) -> TorchError {
        TorchError::Refused {
            rank: self.rank,
            sentence,
        }
    }
}

/// Who has said hello.
#[derive(Default)]
struct Hellos {
    /// Numbers looked at so far, and those below that were not written yet.
    seen: i64,
    open: Vec<i64>,
    latest: BTreeMap<usize, Hello>,
    unlike: BTreeMap<usize, String>,
}

impl Hellos {
    /// Those that came since the last look, in the order of their coming.
    fn came(&mut self, store: &Store) -> Result<Vec<(i64, Hello)>, TorchError> {
        let count = store.add("hellos", 0)?;
        self.open.extend(self.seen + 1..=count);
        self.seen = count;
        let mut found = Vec::new();
        let mut later = Vec::new();
        for number in std::mem::take(&mut self.open) {
            let key = format!("hello/{number}");
            if !store.is_set(&key)? {
                later.push(number);
                continue;
            }
            let text = String::from_utf8_lossy(&store.get(&key)?).into_owned();
            found.extend(Hello::decode(&text).map(|hello| (number, hello)));
        }
        self.open = later;
        Ok(found)
    }
}

#[cfg(test)]
#[path = "meeting_tests.rs"]
mod tests;
