//! Tensors in and out of safetensors files.
//!
//! Reading maps the file and copies tensor by tensor. Writing gives equal bytes for equal tensors:
//! one metadata key at most, tensors in the order given.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use torch_ext::MappedFile;

use crate::ModelError;

/// Tensors by name, on the CPU.
pub(crate) type NamedTensors = BTreeMap<String, Tensor>;

/// One mapped safetensors file.
pub struct SafeTensorsFile {
    path: PathBuf,
    bytes: MappedFile,
}

impl SafeTensorsFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let bytes = MappedFile::open(path).map_err(ModelError::io(path))?;
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

impl SafeTensorsFile {
    /// The shape of one of its tensors.
    ///
    /// # Errors
    /// A malformed file, or one that lacks it.
    pub fn shape(&self, name: &str) -> Result<Vec<i64>, ModelError> {
        let tensors = self.tensors()?;
        let view = tensors.tensor(name).map_err(|_| self.lacks(name))?;
        Ok(view.shape().iter().map(|&dim| dim as i64).collect())
    }

    /// A copy of `len` elements of one of its tensors on the CPU, flat, from element `first` on.
    ///
    /// # Errors
    /// A malformed file, or one that lacks them.
    pub fn part(&self, name: &str, first: i64, len: i64) -> Result<Tensor, ModelError> {
        let tensors = self.tensors()?;
        let view = tensors.tensor(name).map_err(|_| self.lacks(name))?;
        let kind = supported_kind(&self.path, name, &view)?;
        let width = kind.elt_size_in_bytes() as i64;
        let range = (first * width) as usize..((first + len) * width) as usize;
        let bytes = view.data().get(range).ok_or_else(|| {
            let shape = view.shape();
            let reason = format!("{name} of {shape:?} has no {len} numbers from {first} on");
            ModelError::malformed(&self.path, reason)
        })?;
        Ok(Tensor::from_data_size(bytes, &[len], kind))
    }

    fn lacks(&self, name: &str) -> ModelError {
        ModelError::malformed(&self.path, format!("{name} is missing"))
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

/// Name and bytes an element.
pub(crate) fn dtype_name(kind: Kind) -> (&'static str, usize) {
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
pub fn read_tensors(path: &Path) -> Result<NamedTensors, ModelError> {
    let file = SafeTensorsFile::open(path)?;
    let tensors = file.tensors()?;
    tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| Ok((name.clone(), to_tensor(path, &name, &view)?)))
        .collect()
}

fn supported_kind(
    path: &Path,
    name: &str,
    view: &safetensors::tensor::TensorView,
) -> Result<Kind, ModelError> {
    kind_of(view.dtype()).ok_or_else(|| {
        ModelError::malformed(
            path,
            format!("{name}: dtype {:?} is not supported", view.dtype()),
        )
    })
}

/// A copy of one tensor on the CPU.
pub(crate) fn to_tensor(
    path: &Path,
    name: &str,
    view: &safetensors::tensor::TensorView,
) -> Result<Tensor, ModelError> {
    let kind = supported_kind(path, name, view)?;
    let shape: Vec<i64> = view.shape().iter().map(|&dim| dim as i64).collect();
    Ok(Tensor::from_data_size(view.data(), &shape, kind))
}

/// A copy in the host's memory, converted to `kind`.
pub(crate) fn host_copy(tensor: &Tensor, kind: Kind) -> Tensor {
    let out = Tensor::empty(tensor.size(), (kind, Device::Cpu));
    tch::no_grad(|| out.shallow_clone().copy_(tensor));
    out
}

/// Writes named tensors to `path` in the given order, then flushes it to disk.
///
/// # Errors
/// Whatever the file system says.
pub fn write_tensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<(), ModelError> {
    write_tensors_as(path, tensors, None)
}

/// [`write_tensors`] with the numbers converted to `kind`, a tensor at a time, so that no second copy of all is held.
pub(crate) fn write_tensors_as(
    path: &Path,
    tensors: &[(String, Tensor)],
    kind: Option<Kind>,
) -> Result<(), ModelError> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0usize;
    for (name, tensor) in tensors {
        let (dtype, width) = dtype_name(kind.unwrap_or(tensor.kind()));
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
            file.write_all(&bytes_of(tensor, kind.unwrap_or(tensor.kind())))?;
        }
        file.flush()?;
        file.get_ref().sync_all()
    };
    write().map_err(ModelError::io(path))
}

fn bytes_of(tensor: &Tensor, kind: Kind) -> Vec<u8> {
    let tensor = tensor.detach().to_kind(kind).to_device(Device::Cpu);
    let tensor = tensor.contiguous();
    let (_, width) = dtype_name(tensor.kind());
    let mut bytes = vec![0u8; tensor.numel() * width];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
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
