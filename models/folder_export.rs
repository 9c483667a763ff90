//! A policy out to a Hugging Face folder: config.json and weights, single or sharded, or PEFT's adapter in their
//! place.
//!
//! Writing gives equal bytes for equal weights: tensors in the table's order, converted one by one, so that no second
//! copy of all is held.

use std::path::Path;

use serde_json::json;
use tch::{Kind, Tensor};

use crate::lora::AdapterExport;
use crate::tensor_file::{dtype_name, host_copy, write_tensors_as, write_text};
use crate::{Decoder, ModelError};

/// Largest shard written, in bytes.
const SHARD_BYTES: usize = 5_000_000_000;

/// What a policy's folder is written from.
pub struct FolderExport {
    config: String,
    /// Of what cuts pictures, where the policy sees any.
    processor: Option<String>,
    weights: ExportedWeights,
}

/// What learned, as the folder holds it.
enum ExportedWeights {
    /// By their names, in the table's order, written in this kind.
    Whole(Vec<(String, Tensor)>, Kind),
    Adapter(AdapterExport),
}

impl FolderExport {
    /// Of `model`, whose weights must be in memory and stay as they are until [`Self::write`]; they are converted to
    /// `kind`. Of a policy with adapters these alone, in their own kind and PEFT's layout.
    pub fn of(model: &Decoder, kind: Kind) -> Self {
        match model.adapters() {
            None => Self::of_weights(model, kind),
            Some(adapters) => {
                let adapter = AdapterExport::of(&model.params, adapters);
                Self::new(model, kind, ExportedWeights::Adapter(adapter))
            }
        }
    }

    /// [`Self::of`] the weights that adapters stand beside, or of all where there are none.
    pub fn of_weights(model: &Decoder, kind: Kind) -> Self {
        let specs = model.params.specs().iter();
        let tensors = specs.map(|spec| (spec.name.clone(), model.params.view(spec)));
        Self::new(model, kind, ExportedWeights::Whole(tensors.collect(), kind))
    }

    fn new(model: &Decoder, kind: Kind, weights: ExportedWeights) -> Self {
        let text = |value| serde_json::to_string_pretty(&value).expect("JSON values serialise");
        let processor = model.vision().and_then(|vision| vision.processor.export());
        Self {
            config: text(model.config.export(kind)),
            processor: processor.map(text),
            weights,
        }
    }

    /// The same with numbers of its own in the host's memory, so that the policy may go on learning.
    #[must_use]
    pub fn copied(self) -> Self {
        let weights = match self.weights {
            ExportedWeights::Whole(tensors, kind) => {
                let tensors = tensors.into_iter();
                let copies = tensors.map(|(name, it)| (name, host_copy(&it, kind)));
                ExportedWeights::Whole(copies.collect(), kind)
            }
            ExportedWeights::Adapter(adapter) => ExportedWeights::Adapter(adapter.copied()),
        };
        Self { weights, ..self }
    }

    /// Writes `config.json`, and safetensors (sharded above 5 GB) that transformers' `from_pretrained` loads, or the
    /// two files of PEFT's adapter.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write(&self, folder: &Path) -> Result<(), ModelError> {
        std::fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
        write_text(&folder.join("config.json"), &self.config)?;
        if let Some(processor) = &self.processor {
            write_text(&folder.join("preprocessor_config.json"), processor)?;
        }
        match &self.weights {
            ExportedWeights::Whole(tensors, kind) => write_weights(folder, tensors, *kind),
            ExportedWeights::Adapter(adapter) => adapter.write(folder),
        }
    }
}

fn write_weights(
    folder: &Path,
    tensors: &[(String, Tensor)],
    kind: Kind,
) -> Result<(), ModelError> {
    let (_, width) = dtype_name(kind);
    let bytes = |tensor: &Tensor| tensor.numel() * width;
    let mut starts = vec![0];
    let mut filled = 0;
    for (index, (_, tensor)) in tensors.iter().enumerate() {
        if filled + bytes(tensor) > SHARD_BYTES && filled > 0 {
            starts.push(index);
            filled = 0;
        }
        filled += bytes(tensor);
    }
    let write = |name: &str, shard: &[(String, Tensor)]| {
        write_tensors_as(&folder.join(name), shard, Some(kind))
    };
    let count = starts.len();
    if count == 1 {
        return write("model.safetensors", tensors);
    }
    let ends = starts.iter().skip(1).copied().chain([tensors.len()]);
    let mut weight_map = serde_json::Map::new();
    for (index, (start, end)) in starts.iter().zip(ends).enumerate() {
        let shard = &tensors[*start..end];
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        write(&name, shard)?;
        let places = shard
            .iter()
            .map(|(tensor, _)| (tensor.clone(), json!(name)));
        weight_map.extend(places);
    }
    let total: usize = tensors.iter().map(|(_, tensor)| bytes(tensor)).sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    write_text(
        &folder.join("model.safetensors.index.json"),
        &index.to_string(),
    )
}

/// Writes the folder of `model`, its weights converted to `kind`; see [`FolderExport::of`].
///
/// # Errors
/// Whatever the file system says.
pub fn save_folder(model: &Decoder, kind: Kind, folder: &Path) -> Result<(), ModelError> {
    FolderExport::of(model, kind).write(folder)
}

/// [`save_folder`] of the weights that adapters stand beside, or of all where there are none.
///
/// # Errors
/// Whatever the file system says.
pub fn save_weights(model: &Decoder, kind: Kind, folder: &Path) -> Result<(), ModelError> {
    FolderExport::of_weights(model, kind).write(folder)
}
