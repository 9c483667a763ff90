//! Networks: a Hugging Face folder or a YAML section in, tensors with gradients out.
//!
//! Every network keeps its parameters in one flat buffer ([`ParamTable`]) under the names of its
//! checkpoint. Model code is single-device and knows nothing of ranks, rewards or sampling.

mod cache;
mod companions;
mod config;
mod decode;
mod decoder;
pub mod encoder;
mod error;
mod generation;
pub mod image;
mod init;
mod init_vision;
mod input;
mod json_section;
pub mod layers;
mod params;
mod pickle;
mod store;
pub mod svg_tokens;
mod tape;
mod tokenizer;
mod view;
pub mod vision;
mod weights;

pub use cache::{KvCache, Room};
pub use companions::carry_companions;
pub use config::{Architecture, DecoderConfig};
pub use decode::DecodeRows;
pub use decoder::Decoder;
pub use error::ModelError;
pub use generation::GenerationConfig;
pub use init::{InitConfig, ModelConfig};
pub use init_vision::InitVision;
pub use input::{Features, LmInput, LmInputBuilder, Segment, Sight, Span};
pub use params::{Leaf, ParamSpec, ParamTable, Part};
pub use store::{SafeTensorsFile, load_folder, read_tensors, save_folder, write_tensors};
pub use tape::{Recompute, Tape};
pub use tokenizer::Tokenizer;
pub use torch_ext::catch_torch;
pub use view::{Look, View};
