//! Networks: a Hugging Face folder or a YAML section in, tensors with gradients out.
//!
//! Every network keeps its parameters in flat buffers ([`ParamTable`]), what trains apart from what
//! is frozen, under the names of its checkpoint. Model code is single-device and knows nothing of
//! ranks, rewards or sampling.

mod added_tokens;
mod architecture;
mod aux_files;
mod cache;
mod config;
mod decode;
mod decode_ops;
mod decoder;
mod decoder_block;
mod encoded_images;
pub mod encoder;
mod error;
mod flash_ops;
mod folder_export;
mod generation;
pub mod image;
mod init;
mod init_vision;
mod input;
mod json_section;
mod kv_room;
pub mod layers;
mod linear;
mod lora;
mod model_folder;
mod open_folder;
mod packed_attention;
mod param_layout;
mod params;
mod pickle;
mod shards;
pub mod svg_tokens;
mod tape;
mod tensor_file;
mod tokenizer;
mod unit_keeper;
mod units;
pub mod vision;
mod weights;
mod weights_folder;

pub use architecture::Architecture;
pub use aux_files::copy_aux_files;
pub use cache::{DecodeRows, KV_PAGE, KvCache, KvRange, kv_pages};
pub use config::DecoderConfig;
pub use decoder::Decoder;
pub use encoded_images::{EncodedImages, VisionFeatures};
pub use error::ModelError;
pub use folder_export::{FolderExport, save_folder, save_weights};
pub use generation::GenerationConfig;
pub use init::{InitConfig, ModelConfig};
pub use init_vision::InitVision;
pub use input::{Features, ImagePositions, LmInput, LmInputBuilder, Segment, Span};
pub use lora::{
    AdapterMode, Adapters, AllLinear, LoraConfig, LoraTargets, adapter_base, is_adapter,
    text_folder,
};
pub use model_folder::{FolderUse, folder_problem};
pub use open_folder::{load_folder, load_folder_frozen, merge_folder};
pub use params::{AdapterSpec, Buffer, Component, Leaf, ParamSpec, ParamTable};
pub use tape::{Recompute, Tape};
pub use tensor_file::{SafeTensorsFile, read_tensors, write_tensors};
pub use tokenizer::Tokenizer;
pub use torch_ext::{CudaGraph, catch_torch, use_own_stream};
pub use unit_keeper::UnitKeeper;
pub use units::{EMBEDDING_UNIT, FIRST_BLOCK_UNIT, TOWER_UNIT};
pub use weights::write_random_tensors;
pub use weights_folder::{LoadOptions, matching_tensors, write_fresh_policy};
