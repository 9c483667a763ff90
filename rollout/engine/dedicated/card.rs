//! How samplers are found: keys of the store that rank 0 serves. A sampler leaves a card; rank 0 calls on it, and says in
//! the roll who has the newest weights.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use torch_ext::{Store, TorchError};

use crate::mix;

/// What a sampler says of itself when it comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplerCard {
    /// Its number among the samplers of the run.
    pub number: usize,
    /// Its machine.
    pub host: String,
    /// Its process there.
    pub process: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// What rank 0 compares with itself.
    pub about: String,
}

impl SamplerCard {
    /// It, for people.
    pub fn name(&self) -> String {
        format!(
            "sampler {} (on {}, process {})",
            self.number, self.host, self.process
        )
    }
}

/// The samplers that have weights of a version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SamplerRoll {
    /// Grows with every roll of a run.
    pub(super) epoch: u64,
    pub(super) version: u64,
    /// The number of its card, its name, its address.
    pub(super) members: Vec<(u64, String, SocketAddr)>,
}

/// The store as samplers and learners use it.
#[derive(Debug)]
pub struct SamplerDesk {
    store: Store,
    /// Cards that were looked at, and those below that were not written yet.
    seen: i64,
    open: Vec<i64>,
}

impl SamplerDesk {
    /// On `store`, whose keys are this run's samplers' alone.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            seen: 0,
            open: Vec::new(),
        }
    }

    /// The store.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the run's token, which tells its processes from others; rank 0 does.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub fn make_token(&self) -> Result<(), TorchError> {
        self.store.set("token", random_token().as_bytes())
    }

    /// The run's token, once rank 0 has made it.
    ///
    /// # Errors
    /// A store that no longer answers, or a rank 0 that does not make it in the store's time.
    pub fn token(&self) -> Result<String, TorchError> {
        Ok(String::from_utf8_lossy(&self.store.get("token")?).into_owned())
    }

    /// Whether the store answers.
    pub fn answers(&self) -> bool {
        self.store.is_set("token").is_ok()
    }

    /// Leaves a sampler's card; its number.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub fn leave(&self, card: &SamplerCard) -> Result<i64, TorchError> {
        let number = self.store.add("cards", 1)?;
        let text = serde_json::to_vec(card).expect("names and numbers serialise");
        self.store.set(&format!("card/{number}"), &text)?;
        Ok(number)
    }

    /// The cards that were left since the last look.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub(super) fn cards(&mut self) -> Result<Vec<(u64, SamplerCard)>, TorchError> {
        let count = self.store.add("cards", 0)?;
        self.open.extend(self.seen + 1..=count);
        self.seen = count;
        let (mut found, mut later) = (Vec::new(), Vec::new());
        for number in std::mem::take(&mut self.open) {
            let key = format!("card/{number}");
            if !self.store.is_set(&key)? {
                later.push(number);
            } else if let Ok(card) = serde_json::from_slice(&self.store.get(&key)?) {
                found.push((number.unsigned_abs(), card));
            }
        }
        self.open = later;
        Ok(found)
    }

    /// Tells the sampler whose card has this number that it does not take part.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub(super) fn turn_away(&self, number: u64, why: &str) -> Result<(), TorchError> {
        self.store.set(&format!("away/{number}"), why.as_bytes())
    }

    /// Why the sampler whose card has this number does not take part, if it does not.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub(super) fn turned_away(&self, number: i64) -> Result<Option<String>, TorchError> {
        let key = format!("away/{number}");
        match self.store.is_set(&key)? {
            true => Ok(Some(
                String::from_utf8_lossy(&self.store.get(&key)?).into_owned(),
            )),
            false => Ok(None),
        }
    }

    /// Notes that a learner has all completions of the run's rollout `number`.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub(super) fn note_rest(&self, number: u64) -> Result<(), TorchError> {
        self.store.add(&format!("rest/{number}"), 1).map(drop)
    }

    /// How many learners have all completions of that rollout.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub(super) fn resting(&self, number: u64) -> Result<usize, TorchError> {
        let count = self.store.add(&format!("rest/{number}"), 0)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// Shows the other learners who has weights.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub(super) fn show(&self, roll: &SamplerRoll) -> Result<(), TorchError> {
        let text = serde_json::to_vec(roll).expect("names and numbers serialise");
        self.store.set("roll", &text)
    }

    /// What was shown last.
    ///
    /// # Errors
    /// A store that no longer answers.
    pub(super) fn roll(&self) -> Result<Option<SamplerRoll>, TorchError> {
        match self.store.is_set("roll")? {
            true => Ok(serde_json::from_slice(&self.store.get("roll")?).ok()),
            false => Ok(None),
        }
    }
}

/// A word that nobody guesses.
fn random_token() -> String {
    use std::hash::{BuildHasher, RandomState};
    let mut bytes = [0; 32];
    let read = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if read.is_err() {
        // The keys of a hash map are random too.
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = mix(RandomState::new().hash_one(at), at as u64) as u8;
        }
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
