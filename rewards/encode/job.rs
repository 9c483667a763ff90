//! What an encoder's thread is told: a question as the caller's thread has prepared it, and what the thread makes of it
//! for a pass.

use super::promise::Promise;
use crate::picture::Picture;
use models::encoder::{DistanceInput, Pooling};
use models::image::Rgb8;
use std::sync::Arc;

/// What a thread is told.
pub(super) enum EncodeCommand {
    /// The feature of a picture as the network's processor made it.
    Picture(Rgb8, Pooling),
    /// The feature of a text.
    Text(String),
    /// The feature of a text that is not too long for the network, else nothing.
    WholeText(String),
    /// Every token of a text behind this layer.
    Tokens(String, usize),
    /// The distance of two pictures.
    Distance {
        picture: Rgb8,
        reference: Arc<Picture>,
        input: DistanceInput,
    },
    /// That the weights go to host memory once all that was asked before is answered.
    Offload,
    /// That they come back.
    Reload,
}

/// A command and where its answer goes.
pub(super) struct EncodeJob {
    pub command: EncodeCommand,
    pub promise: Promise,
}

/// A question ready for the network; those of one shape share a pass.
pub(super) enum EncodeInput {
    Picture(Rgb8, Pooling),
    Text(Padded),
    /// Every token behind a layer.
    Tokens(Padded, usize),
    Distance(Rgb8, Arc<Picture>, DistanceInput),
}

/// A text's ids, and how many places it takes in a pass.
pub(super) struct Padded {
    pub ids: Vec<i64>,
    pub width: usize,
}

impl EncodeInput {
    /// Whether the two may share a pass.
    pub fn fits(&self, other: &EncodeInput) -> bool {
        match (self, other) {
            (EncodeInput::Picture(a, p), EncodeInput::Picture(b, q)) => {
                (a.width, a.height, p) == (b.width, b.height, q)
            }
            (EncodeInput::Text(a), EncodeInput::Text(b)) => a.width == b.width,
            (EncodeInput::Tokens(a, p), EncodeInput::Tokens(b, q)) => (a.width, p) == (b.width, q),
            (EncodeInput::Distance(a, _, p), EncodeInput::Distance(b, _, q)) => {
                (a.width, a.height, p) == (b.width, b.height, q)
            }
            (
                EncodeInput::Picture(..)
                | EncodeInput::Text(_)
                | EncodeInput::Tokens(..)
                | EncodeInput::Distance(..),
                _,
            ) => false,
        }
    }
}

/// Rows of a pass.
#[derive(Clone, Copy)]
pub(super) struct PassRows {
    pub pictures: usize,
    pub texts: usize,
}

impl PassRows {
    /// What `batch` says; 0 chooses. A core is busy with one text, and a group of completions has but one;
    /// of pictures four share the reading of the weights, and more gain nothing.
    pub fn new(batch: usize, on_cpu: bool) -> PassRows {
        let (pictures, texts) = match (batch, on_cpu) {
            (0, true) => (4, 1),
            (0, false) => (32, 32),
            (count, _) => (count, count),
        };
        PassRows { pictures, texts }
    }

    /// Those of a pass that this shares.
    pub fn of(self, prepared: &EncodeInput) -> usize {
        match prepared {
            EncodeInput::Picture(..) | EncodeInput::Distance(..) => self.pictures,
            EncodeInput::Text(_) | EncodeInput::Tokens(..) => self.texts,
        }
    }
}
