//! The suites that are judged from predictions, by name.

use std::path::Path;

use indexmap::IndexMap;

use super::item::Mix;
use super::result::SuiteResult;
use super::sarena::Sarena;
use super::sophia;
use super::suite::SuiteTasks;

/// A suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// A part of SArena.
    Sarena(Sarena),
    /// SVG-Sophia's refinement set.
    SophiaRefine,
}

impl Benchmark {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Sarena(Sarena::Icon),
        Self::Sarena(Sarena::Illustration),
        Self::Sarena(Sarena::Chemistry),
        Self::SophiaRefine,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sarena(part) => part.name(),
            Self::SophiaRefine => "sophia-refine",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Temperature and longest answer with which its authors sample.
    pub fn published_sampling(self) -> (f64, usize) {
        match self {
            Self::Sarena(_) => (0.0, 4000),
            Self::SophiaRefine => (0.6, 16_384),
        }
    }

    /// Reads its published folder; what is missing there is said in the notes.
    pub fn read(self, data: &Path) -> SuiteTasks {
        match self {
            Self::Sarena(part) => part.read(data),
            Self::SophiaRefine => sophia::read(data),
        }
    }

    /// Its own numbers.
    pub fn headlines(self, result: &SuiteResult) -> IndexMap<String, Mix> {
        match self {
            Self::Sarena(part) => part.headlines(result),
            Self::SophiaRefine => sophia::headlines(),
        }
    }
}
