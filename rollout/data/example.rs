//! One row of a source, and one draw of it.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};

/// One row of a source, as every format delivers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// `<source>/<row id>`: unique within a catalog as far as the rows' own ids are.
    pub id: String,
    /// Name of the config's task that it belongs to.
    pub task: String,
    /// What prompt templates may insert, by placeholder name (`prompt`, `draft`, ...).
    pub fields: IndexMap<String, String>,
    /// Whether the field `prompt` is a whole question, as published conversations are: it is asked as
    /// it stands unless the task has templates of its own.
    pub whole_question: bool,
    /// Pictures that the prompt shows, in the order of its placeholders.
    pub images: Vec<ImageSource>,
    /// What completions are scored against.
    pub reference: Reference,
    /// What supervised training imitates. A noisy teacher makes it differ from the reference.
    pub target: Option<String>,
    /// Characters of the reference (its SVG, else its text, else the target): the
    /// curriculum's measure of difficulty.
    pub length: usize,
}

/// An example together with its place in a stage's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Draw {
    /// What was drawn.
    pub example: Example,
    /// Number of this draw in the stage, from 0. It keys the sampler's random numbers.
    pub draw: u64,
    /// Bucket of reference length that the curriculum took it from, counted from 1; `None` where
    /// rows are not in buckets.
    pub bucket: Option<usize>,
}
