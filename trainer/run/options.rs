//! How a config is run.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use rollout::engine::SamplerPool;
use tch::Device;

use crate::interrupt::Interrupt;
use crate::resume::Resume;

/// A run besides its config.
pub struct RunOptions<'a> {
    /// The run folder.
    pub folder: &'a Path,
    /// Where to continue.
    pub resume: Resume,
    /// Where to compute.
    pub device: Device,
    /// libtorch's threads per rank.
    pub threads: usize,
    /// What may differ from the checkpoint that is continued: dotted keys, or `data`, `model`, `tokenizer`,
    /// `encoders`, `templates`.
    pub accept: &'a [String],
    /// Files that describe the run, by name: written once it is known that it goes on, with config.resolved.yaml, which
    /// the run itself makes.
    pub documents: &'a [(String, Vec<u8>)],
    /// The samplers beside the ranks, where a stage samples by them.
    pub samplers: Option<Rc<RefCell<SamplerPool>>>,
    /// Asks the run to end.
    pub interrupt: Interrupt,
}
