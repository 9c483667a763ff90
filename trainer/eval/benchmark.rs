//! The suites that are judged from predictions, by name.

use std::path::Path;

use indexmap::IndexMap;
use rollout::Sampling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::EvalSampling;
use super::item::Mix;
use super::result::SuiteResult;
use super::sarena::Sarena;
use super::sgp_genbench;
use super::sophia;
use super::suite::SuiteTasks;
use super::vectorgym_suite;

/// A suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Benchmark {
    /// SArena's icons: generation, editing, understanding.
    SarenaIcon,
    /// SArena's illustrations.
    SarenaIllustration,
    /// SArena's chemistry.
    SarenaChemistry,
    /// SVG-Sophia's refinement set.
    SophiaRefine,
    /// VectorGym's four tasks.
    #[serde(rename = "vectorgym")]
    VectorGym,
    /// SGP-GenBench: objects, scenes, compositions.
    SgpGenbench,
}

/// Where a suite's items are from.
#[derive(Debug, Clone, Copy, Default)]
pub struct SuiteSource<'a> {
    /// Its published folder.
    pub data: Option<&'a Path>,
    /// Predictions, which bring VectorGym's items where it has no folder.
    pub predictions: Option<&'a Path>,
    /// Drawings of each prompt, where a suite asks for several and not as many as published.
    pub samples: Option<usize>,
}

impl Benchmark {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::SarenaIcon,
        Self::SarenaIllustration,
        Self::SarenaChemistry,
        Self::SophiaRefine,
        Self::VectorGym,
        Self::SgpGenbench,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::SarenaIcon => Sarena::Icon.name(),
            Self::SarenaIllustration => Sarena::Illustration.name(),
            Self::SarenaChemistry => Sarena::Chemistry.name(),
            Self::SophiaRefine => "sophia-refine",
            Self::VectorGym => "vectorgym",
            Self::SgpGenbench => "sgp-genbench",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    fn sarena(self) -> Option<Sarena> {
        match self {
            Self::SarenaIcon => Some(Sarena::Icon),
            Self::SarenaIllustration => Some(Sarena::Illustration),
            Self::SarenaChemistry => Some(Sarena::Chemistry),
            Self::SophiaRefine | Self::VectorGym | Self::SgpGenbench => None,
        }
    }

    /// How it is sampled: as published where `asked` says nothing else.
    pub fn sampling(self, asked: &EvalSampling) -> Sampling {
        let (temperature, top_p, longest) = self.published_sampling();
        let stop = self.published_stops();
        Sampling {
            temperature: asked.temperature.unwrap_or(temperature),
            top_p: asked.top_p.unwrap_or(top_p),
            top_k: 0,
            min_p: 0.0,
            max_new_tokens: asked.max_new_tokens.unwrap_or(longest),
            include_stop: !stop.is_empty(),
            stop,
            stop_token_ids: Vec::new(),
        }
    }

    /// Temperature, share of the probability that is kept, and longest answer with which its authors sample.
    fn published_sampling(self) -> (f64, f64, usize) {
        match self {
            Self::SarenaIcon | Self::SarenaIllustration | Self::SarenaChemistry => (0.0, 1.0, 4000),
            Self::SophiaRefine => (0.6, 1.0, 16_384),
            Self::VectorGym => (0.0, 0.9, 8096),
            Self::SgpGenbench => (1.0, 1.0, 3000),
        }
    }

    /// Strings that end its answers, which they belong to.
    fn published_stops(self) -> Vec<String> {
        match self {
            Self::SgpGenbench => vec!["</answer>".to_owned()],
            _ => Vec::new(),
        }
    }

    /// Whether predictions alone can bring its items.
    pub fn needs_data(self) -> bool {
        self != Self::VectorGym
    }

    /// Reads its items; what is missing is said in the notes.
    pub fn read(self, source: SuiteSource) -> SuiteTasks {
        let data = source.data.unwrap_or(Path::new(""));
        match (self, self.sarena()) {
            (_, Some(part)) => part.read(data),
            (Self::SophiaRefine, _) => sophia::read(data),
            (Self::SgpGenbench, _) => sgp_genbench::read(data, source.samples),
            _ => match (source.data, source.predictions) {
                (None, Some(predictions)) => vectorgym_suite::read(predictions),
                _ => vectorgym_suite::read_table(data),
            },
        }
    }

    /// Its own numbers.
    pub fn headlines(self, result: &SuiteResult) -> IndexMap<String, Mix> {
        match (self, self.sarena()) {
            (_, Some(part)) => part.headlines(result),
            (Self::SophiaRefine, _) => sophia::headlines(),
            (Self::SgpGenbench, _) => sgp_genbench::headlines(result),
            _ => vectorgym_suite::headlines(),
        }
    }
}
