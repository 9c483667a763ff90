//! Weights in and out of Hugging Face folders: safetensors, single or sharded.
//!
//! Reading maps the files and copies tensor by tensor. Writing gives equal bytes for equal
//! tensors: one metadata key at most, tensors in the table's order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::json_section::read_object;
use crate::vision::Names;
use crate::{Decoder, DecoderConfig, ModelError, ParamTable};

/// Largest shard written, in bytes.
const SHARD_BYTES: usize = 5_000_000_000;

/// Tensors by name, on the CPU.
pub(crate) type Named = BTreeMap<String, Tensor>;

/// Maps a checkpoint's file.
pub(crate) fn map(file: &File) -> std::io::Result<memmap2::Mmap> {
    // SAFETY: the map is read-only; a file that another process cuts short meanwhile is a fault
    // of that process, as for every reader of checkpoints.
    #[expect(unsafe_code, reason = "the one memory map outside torch-ext")]
    unsafe {
        memmap2::Mmap::map(file)
    }
}

/// One mapped safetensors file.
pub struct SafeTensorsFile {
    path: PathBuf,
    bytes: memmap2::Mmap,
}

impl SafeTensorsFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = File::open(path).map_err(ModelError::io(path))?;
        let bytes = map(&file).map_err(ModelError::io(path))?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
        })
    }

    /// Its tensors.
    ///
    /// # Errors
    /// A header that is cut short or does not describe the file.
    pub fn tensors(&self) -> Result<SafeTensors<'_>, ModelError> {
        SafeTensors::deserialize(&self.bytes)
            .map_err(|error| ModelError::malformed(&self.path, format!("{error:?}")))
    }
}

fn kind_of(dtype: safetensors::Dtype) -> Option<Kind> {
    use safetensors::Dtype;
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::U8 => Kind::Uint8,
        _ => return None,
    })
}

fn dtype_name(kind: Kind) -> (&'static str, usize) {
    match kind {
        Kind::Double => ("F64", 8),
        Kind::Half => ("F16", 2),
        Kind::BFloat16 => ("BF16", 2),
        Kind::Int64 => ("I64", 8),
        _ => ("F32", 4),
    }
}

/// All tensors of a safetensors file by name, on the CPU.
///
/// # Errors
/// A missing or malformed file, or a dtype that is not a float or int64.
pub fn read_tensors(path: &Path) -> Result<Named, ModelError> {
    let file = SafeTensorsFile::open(path)?;
    let tensors = file.tensors()?;
    tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| Ok((name.clone(), to_tensor(path, &name, &view)?)))
        .collect()
}

fn to_tensor(
    path: &Path,
    name: &str,
    view: &safetensors::tensor::TensorView,
) -> Result<Tensor, ModelError> {
    let kind = kind_of(view.dtype()).ok_or_else(|| {
        ModelError::malformed(
            path,
            format!("{name}: dtype {:?} is not supported", view.dtype()),
        )
    })?;
    let shape: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
    Ok(Tensor::from_data_size(view.data(), &shape, kind))
}

/// Writes named tensors to `path` in the given order, then flushes it to disk.
///
/// # Errors
/// Whatever the file system says.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), ModelError> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0usize;
    for (name, tensor) in tensors {
        let (dtype, width) = dtype_name(tensor.kind());
        let start = end;
        end += tensor.numel() * width;
        header.insert(
            name.clone(),
            json!({"dtype": dtype, "shape": tensor.size(), "data_offsets": [start, end]}),
        );
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let write = || -> std::io::Result<()> {
        let mut file = std::io::BufWriter::with_capacity(1 << 20, File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        for (_, tensor) in tensors {
            file.write_all(&bytes_of(tensor))?;
        }
        file.flush()?;
        file.get_ref().sync_all()
    };
    write().map_err(ModelError::io(path))
}

fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
    let (_, width) = dtype_name(tensor.kind());
    let mut bytes = vec![0u8; tensor.numel() * width];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

/// Where each tensor of a folder lies.
pub(crate) fn locate(folder: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let index = folder.join("model.safetensors.index.json");
    if !index.exists() {
        let path = folder.join("model.safetensors");
        let file = SafeTensorsFile::open(&path)?;
        let names: Vec<String> = file
            .tensors()?
            .names()
            .into_iter()
            .map(|name| name.to_owned())
            .collect();
        return Ok(names.into_iter().map(|name| (name, path.clone())).collect());
    }
    indexed(&index)
}

/// Where an index of shards says that each tensor lies: beside the index.
pub(crate) fn indexed(index: &Path) -> Result<BTreeMap<String, PathBuf>, ModelError> {
    let map = read_object(index)?;
    let Some(Value::Object(weights)) = map.get("weight_map") else {
        return Err(ModelError::malformed(index, "has no object `weight_map`"));
    };
    weights
        .iter()
        .map(|(name, file)| match file.as_str() {
            Some(file) if !file.contains(['/', '\\']) => {
                Ok((name.clone(), index.with_file_name(file)))
            }
            _ => Err(ModelError::malformed(
                index,
                format!("weight_map.{name} must name a file of the folder"),
            )),
        })
        .collect()
}

/// Reads `config.json` and the weights of `folder` into a decoder of `kind` on `device`.
///
/// # Errors
/// Missing, unknown or misshapen tensors, all by name, and whatever
/// [`DecoderConfig::read`] refuses.
pub fn load_folder(folder: &Path, kind: Kind, device: Device) -> Result<Decoder, ModelError> {
    let mut config = DecoderConfig::read(folder)?;
    if let Some(eyes) = &config.vision {
        let places = locate(folder)?;
        config.names = Names::detect(&eyes.tower.network, places.keys().map(String::as_str));
    }
    let model = Decoder::new(config, kind, device);
    fill(&model.params, folder, model.config.tied)?;
    Ok(model)
}

fn fill(params: &ParamTable, folder: &Path, tied: bool) -> Result<(), ModelError> {
    let places = locate(folder)?;
    let wanted: BTreeMap<&str, &crate::ParamSpec> = params
        .specs()
        .iter()
        .map(|spec| (spec.name.as_str(), spec))
        .collect();
    // A tied head may be stored all the same, and old checkpoints carry rotary buffers.
    let ignorable = |name: &str| {
        (tied && name.ends_with("lm_head.weight")) || name.ends_with("rotary_emb.inv_freq")
    };
    let missing: Vec<&str> = wanted
        .keys()
        .filter(|name| !places.contains_key(**name))
        .copied()
        .collect();
    let unknown: Vec<&str> = places
        .keys()
        .map(String::as_str)
        .filter(|name| !wanted.contains_key(name) && !ignorable(name))
        .collect();
    let mut faults = Vec::new();
    if !missing.is_empty() {
        faults.push(format!("missing tensors: {}", missing.join(", ")));
    }
    if !unknown.is_empty() {
        faults.push(format!("unknown tensors: {}", unknown.join(", ")));
    }
    let mut files: BTreeMap<&Path, Vec<&str>> = BTreeMap::new();
    for (name, path) in &places {
        if wanted.contains_key(name.as_str()) {
            files.entry(path).or_default().push(name);
        }
    }
    for (path, names) in files {
        let file = SafeTensorsFile::open(path)?;
        let tensors = file.tensors()?;
        for name in names {
            let spec = wanted[name];
            let view = tensors.tensor(name).map_err(|_| not_there(path, name))?;
            let tensor = to_tensor(path, name, &view)?;
            if tensor.size() != spec.shape {
                faults.push(format!(
                    "{name} has shape {:?}, config.json asks for {:?}",
                    tensor.size(),
                    spec.shape
                ));
            } else {
                tch::no_grad(|| params.view(spec).copy_(&tensor));
            }
        }
    }
    if tied && faults.is_empty() {
        faults.extend(other_head(params, &places)?);
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(ModelError::Tensors {
            path: folder.to_owned(),
            reason: faults.join("; "),
        })
    }
}

/// What is wrong with a head that is stored beside the matrix it is tied to: transformers uses one
/// with numbers of its own, so that it cannot be left out silently.
fn other_head(
    params: &ParamTable,
    places: &BTreeMap<String, PathBuf>,
) -> Result<Option<String>, ModelError> {
    let head = places
        .iter()
        .find(|(name, _)| name.ends_with("lm_head.weight"));
    let embedding = params
        .specs()
        .iter()
        .find(|spec| spec.name.ends_with("embed_tokens.weight"));
    let (Some((name, path)), Some(embedding)) = (head, embedding) else {
        return Ok(None);
    };
    let file = SafeTensorsFile::open(path)?;
    let tensors = file.tensors()?;
    let view = tensors.tensor(name).map_err(|_| not_there(path, name))?;
    let stored = to_tensor(path, name, &view)?;
    let matrix = params.view(embedding).to_device(Device::Cpu);
    let same = stored.size() == matrix.size() && stored.to_kind(matrix.kind()) == matrix;
    Ok((!same).then(|| {
        format!(
            "{name} differs from {} although tie_word_embeddings is true; set that to false in \
             config.json to use the head, or leave the head out",
            embedding.name
        )
    }))
}

fn not_there(path: &Path, name: &str) -> ModelError {
    ModelError::malformed(
        path,
        format!("{name} is not in the file although the index says so"),
    )
}

/// Writes `config.json` and safetensors (sharded above 5 GB) that transformers' `from_pretrained`
/// loads. `flat [N]`, of any kind, holds the values in the table's order.
///
/// # Errors
/// Whatever the file system says.
pub fn save_folder(model: &Decoder, flat: &Tensor, folder: &Path) -> Result<(), ModelError> {
    std::fs::create_dir_all(folder).map_err(ModelError::io(folder))?;
    let config = serde_json::to_string_pretty(&model.config.export(flat.kind()))
        .expect("JSON values serialise");
    write_text(&folder.join("config.json"), &config)?;
    let processor = model.vision().and_then(|vision| vision.processor.export());
    if let Some(processor) = processor {
        let text = serde_json::to_string_pretty(&processor).expect("JSON values serialise");
        write_text(&folder.join("preprocessor_config.json"), &text)?;
    }
    let (_, width) = dtype_name(flat.kind());
    let mut shards: Vec<Vec<(String, Tensor)>> = vec![Vec::new()];
    let mut filled = 0;
    for spec in model.params.specs() {
        let bytes = spec.numel() as usize * width;
        if filled + bytes > SHARD_BYTES && filled > 0 {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        let view = flat
            .narrow(0, spec.offset, spec.numel())
            .view(spec.shape.as_slice());
        shards
            .last_mut()
            .expect("one shard at least")
            .push((spec.name.clone(), view));
    }
    if let [single] = shards.as_slice() {
        return write_tensors(&folder.join("model.safetensors"), single);
    }
    let count = shards.len();
    let mut weight_map = serde_json::Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        write_tensors(&folder.join(&name), shard)?;
        weight_map.extend(
            shard
                .iter()
                .map(|(tensor, _)| (tensor.clone(), json!(name))),
        );
    }
    let total: i64 = model
        .params
        .specs()
        .iter()
        .map(|spec| spec.numel() * width as i64)
        .sum();
    let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
    write_text(
        &folder.join("model.safetensors.index.json"),
        &index.to_string(),
    )
}

/// Writes a text file and flushes it to disk.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), ModelError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(ModelError::io(path))
}
