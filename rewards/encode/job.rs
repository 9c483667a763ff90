//! What an encoder's thread is told: a question as the caller's thread has prepared it, and what the thread makes of it
//! for a pass.

use super::promise::Promise;
use crate::picture::Picture;
use models::encoder::{PictureInput, Pooling};
use models::image::Rgb8;
use std::sync::Arc;

/// What a thread is told.
pub(super) enum Command {
    /// The feature of a picture as the network's processor made it.
    Picture(Rgb8, Pooling),
    /// The feature of a text.
    Text(String),
    /// Every token of a text behind this layer.
    Tokens(String, usize),
    /// The distance of two pictures.
    Distance {
        picture: Rgb8,
        reference: Arc<Picture>,
        input: PictureInput,
    },
    /// That the weights go to host memory once all that was asked before is answered.
    Offload,
    /// That they come back.
    Reload,
}

/// A command and where its answer goes.
pub(super) struct Job {
    pub command: Command,
    pub promise: Promise,
}

/// A question ready for the network; those of one shape share a pass.
pub(super) enum Prepared {
    Picture(Rgb8, Pooling),
    Text(Padded),
    /// Every token behind a layer.
    Tokens(Padded, usize),
    Distance(Rgb8, Arc<Picture>, PictureInput),
}

/// A text's ids, and how many places it takes in a pass.
pub(super) struct Padded {
    pub ids: Vec<i64>,
    pub width: usize,
}

impl Prepared {
    /// Whether the two may share a pass.
    pub fn fits(&self, other: &Prepared) -> bool {
        match (self, other) {
            (Prepared::Picture(a, p), Prepared::Picture(b, q)) => {
                (a.width, a.height, p) == (b.width, b.height, q)
            }
            (Prepared::Text(a), Prepared::Text(b)) => a.width == b.width,
            (Prepared::Tokens(a, p), Prepared::Tokens(b, q)) => (a.width, p) == (b.width, q),
            (Prepared::Distance(a, _, p), Prepared::Distance(b, _, q)) => {
                (a.width, a.height, p) == (b.width, b.height, q)
            }
            (
                Prepared::Picture(..)
                | Prepared::Text(_)
                | Prepared::Tokens(..)
                | Prepared::Distance(..),
                _,
            ) => false,
        }
    }
}

/// Rows of a pass.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub pictures: usize,
    pub texts: usize,
}

impl Rows {
    /// What `batch` says; 0 chooses. A core is busy with one text, and a group of completions has but one;
    /// of pictures four share the reading of the weights, and more gain nothing.
    pub fn new(batch: usize, on_cpu: bool) -> Rows {
        let (pictures, texts) = match (batch, on_cpu) {
            (0, true) => (4, 1),
            (0, false) => (32, 32),
            (count, _) => (count, count),
        };
        Rows { pictures, texts }
    }

    /// Those of a pass that this shares.
    pub fn of(self, prepared: &Prepared) -> usize {
        match prepared {
            Prepared::Picture(..) | Prepared::Distance(..) => self.pictures,
            Prepared::Text(_) | Prepared::Tokens(..) => self.texts,
        }
    }
}
