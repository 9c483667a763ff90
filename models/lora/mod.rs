//! Low-rank adapters (LoRA, Hu et al. 2021, arXiv 2106.09685) on linear maps: `y = x W^T + s B (A x)`,
//! with `W` frozen, in PEFT's names, files and numbers.
//!
//! Adapters are leaves of the parameter table, declared beside the map that they change; with them the
//! rest of the network is frozen, so that optimizer, gradients and moments are theirs alone. They are
//! float32 where the network is narrower, as PEFT keeps them (`autocast_adapter_dtype`).
//!
//! Left out on purpose: DoRA, adapters on embeddings and on the head, ranks that differ between layers,
//! biases that learn, and initialisations that change the base (PiSSA, OLoRA).

mod adapter;
mod base;
mod config;
mod dropout;
mod fresh;
mod layout;
mod merge;
mod pass;
mod peft;
mod read;

pub(crate) use adapter::{AdapterParams, AdapterStack};
pub use base::{adapter_base, is_adapter, text_folder};
pub(crate) use config::is_called;
pub use config::{AllLinear, LoraConfig, LoraTargets};
pub(crate) use dropout::{chain_keys, mix};
pub(crate) use fresh::draw_adapters;
pub(crate) use layout::AdapterLayout;
pub(crate) use merge::{merge_adapters, merged};
pub use pass::AdapterMode;
pub(crate) use pass::AdapterPass;
pub(crate) use peft::AdapterExport;
pub use peft::Adapters;
pub(crate) use read::PeftFolder;
