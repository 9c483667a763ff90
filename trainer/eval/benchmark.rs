//! The suites that are judged from predictions, by name.

use std::path::Path;

use indexmap::IndexMap;

use super::item::Mix;
use super::result::SuiteResult;
use super::sarena::Sarena;
use super::sophia;
use super::suite::SuiteTasks;
use super::vectorgym_suite;

/// A suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// A part of SArena.
    Sarena(Sarena),
    /// SVG-Sophia's refinement set.
    SophiaRefine,
    /// VectorGym's four tasks.
    VectorGym,
}

impl Benchmark {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Sarena(Sarena::Icon),
        Self::Sarena(Sarena::Illustration),
        Self::Sarena(Sarena::Chemistry),
        Self::SophiaRefine,
        Self::VectorGym,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sarena(part) => part.name(),
            Self::SophiaRefine => "sophia-refine",
            Self::VectorGym => "vectorgym",
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
            Self::VectorGym => (0.0, 8096),
        }
    }

    /// Whether its questions and references lie in a folder of their own; else predictions bring them.
    pub fn has_data(self) -> bool {
        self != Self::VectorGym
    }

    /// Reads its published folder, or that of predictions; what is missing there is said in the notes.
    pub fn read(self, folder: &Path) -> SuiteTasks {
        match self {
            Self::Sarena(part) => part.read(folder),
            Self::SophiaRefine => sophia::read(folder),
            Self::VectorGym => vectorgym_suite::read(folder),
        }
    }

    /// Its own numbers.
    pub fn headlines(self, result: &SuiteResult) -> IndexMap<String, Mix> {
        match self {
            Self::Sarena(part) => part.headlines(result),
            Self::SophiaRefine => sophia::headlines(),
            Self::VectorGym => vectorgym_suite::headlines(),
        }
    }
}
