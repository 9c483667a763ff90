//! Torch checkpoints (`torch.save`, both the zip form and the older one) without Python: the tensors of
//! a state dict by name. Nothing in the file is executed; see [`machine`].
//!
//! Left out on purpose: quantised and sparse tensors, tensor subclasses, whole pickled modules.

mod machine;
mod zip;

use std::collections::HashMap;
use std::path::Path;

use machine::{Id, Object, Pickled, Storage, TensorRef};
use tch::{Kind, Tensor};
use torch_ext::MappedFile;

use crate::ModelError;
use crate::tensor_file::NamedTensors;

/// The tensors of the checkpoint at `path`, those of nested dicts under dotted names.
///
/// # Errors
/// A file that cannot be read, is cut short, or asks for more than tensors and plain data (the
/// Python global is named).
pub(crate) fn read_checkpoint(path: &Path) -> Result<NamedTensors, ModelError> {
    let bytes = MappedFile::open(path).map_err(ModelError::io(path))?;
    parse(&bytes).map_err(|reason| ModelError::malformed(path, reason))
}

/// As [`read_checkpoint`], from memory.
fn parse(bytes: &[u8]) -> Result<NamedTensors, String> {
    if bytes.starts_with(b"PK\x03\x04") {
        return zipped(bytes);
    }
    // The older form starts with the pickle of one magic number.
    if bytes.starts_with(&[0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46]) {
        return plain(bytes);
    }
    Err("is neither safetensors nor a torch checkpoint".into())
}

fn zipped(bytes: &[u8]) -> Result<NamedTensors, String> {
    let entries = zip::entries(bytes)?;
    let (root, place) = entries
        .iter()
        .find_map(|(name, place)| Some((name.strip_suffix("data.pkl")?, place)))
        .ok_or("is a zip archive without data.pkl: not a torch checkpoint")?;
    if let Some(order) = entries.get(&format!("{root}byteorder"))
        && &bytes[order.clone()] != b"little"
    {
        return Err("was saved with big-endian numbers, which is not supported".into());
    }
    let (pickled, _) = machine::load(&bytes[place.clone()])?;
    named(&pickled, |storage| {
        let name = format!("{root}data/{}", storage.key);
        let place = entries
            .get(&name)
            .ok_or_else(|| format!("lacks the entry {name}"))?;
        Ok(&bytes[place.clone()])
    })
}

/// Magic number, protocol, system, the object, the storages' keys, then each storage's length and bytes.
fn plain(bytes: &[u8]) -> Result<NamedTensors, String> {
    let mut rest = bytes;
    for _ in 0..3 {
        rest = machine::load(rest)?.1;
    }
    let (pickled, after) = machine::load(rest)?;
    let (keys, mut rest) = machine::load(after)?;
    let Object::List(order) = &keys.objects[keys.root] else {
        return Err("has no list of storages".into());
    };
    let kinds: HashMap<&str, Kind> = pickled
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Storage(storage) => Some((storage.key.as_str(), storage.kind)),
            _ => None,
        })
        .collect();
    let mut memory: HashMap<&str, &[u8]> = HashMap::new();
    for id in order {
        let Object::Text(key) = &keys.objects[*id] else {
            return Err("names a storage by something else than text".into());
        };
        let kind = kinds
            .get(key.as_str())
            .ok_or("lists a storage that no tensor uses")?;
        let (numel, data) = rest.split_first_chunk::<8>().ok_or("is cut short")?;
        let size = usize::try_from(i64::from_le_bytes(*numel))
            .ok()
            .and_then(|numel| numel.checked_mul(kind.elt_size_in_bytes()))
            .ok_or("has a storage of impossible size")?;
        let (own, after) = data.split_at_checked(size).ok_or("is cut short")?;
        memory.insert(key, own);
        rest = after;
    }
    named(&pickled, |storage| {
        let missing = || format!("lacks the storage {}", storage.key);
        memory
            .get(storage.key.as_str())
            .copied()
            .ok_or_else(missing)
    })
}

/// The tensors of a pickle's root, named by their keys.
fn named<'a>(
    pickled: &Pickled,
    memory: impl Fn(&Storage) -> Result<&'a [u8], String>,
) -> Result<NamedTensors, String> {
    let mut found = NamedTensors::new();
    let mut open: Vec<(String, Id, usize)> = vec![(String::new(), pickled.root, 0)];
    let mut seen = 0;
    while let Some((name, id, depth)) = open.pop() {
        seen += 1;
        match &pickled.objects[id] {
            Object::Tensor(view) => {
                let tensor = tensor(view, memory(&view.storage)?)
                    .map_err(|reason| format!("{name} {reason}"))?;
                found.insert(name, tensor);
            }
            // Deeper nesting than any checkpoint's is a loop made to hang its reader.
            Object::Dict(items) if depth < 8 => {
                for (key, value) in items {
                    let Object::Text(key) = &pickled.objects[*key] else {
                        continue;
                    };
                    let dot = if name.is_empty() { "" } else { "." };
                    open.push((format!("{name}{dot}{key}"), *value, depth + 1));
                }
            }
            _ => {}
        }
        if seen > 1_000_000 {
            return Err("holds more than a million entries".into());
        }
    }
    match found.is_empty() {
        true => Err("holds no tensors by name".into()),
        false => Ok(found),
    }
}

/// Elements that a tensor may have whatever its storage holds.
const REPEATED: usize = 1 << 24;

fn tensor(view: &TensorRef, memory: &[u8]) -> Result<Tensor, String> {
    let TensorRef {
        storage,
        offset,
        size,
        stride,
    } = view;
    let width = storage.kind.elt_size_in_bytes();
    if memory.len()
        < storage
            .numel
            .checked_mul(width)
            .ok_or("is impossibly large")?
    {
        return Err("lies in a storage that is cut short".into());
    }
    if size.len() != stride.len() || size.iter().chain(stride).any(|&value| value < 0) {
        return Err("has an impossible shape".into());
    }
    let empty = size.contains(&0);
    // Elements, and the last one's place; none where no memory could hold them. Sizes come from the file.
    let numel = size.iter().try_fold(1i64, |all, &n| all.checked_mul(n));
    let last = size.iter().zip(stride).try_fold(0i64, |sum, (&n, step)| {
        sum.checked_add((n - 1).max(0).checked_mul(*step)?)
    });
    let (Some(numel), Some(last)) = (numel, last) else {
        return Err("has an impossible shape".into());
    };
    if empty {
        return Ok(Tensor::zeros(size, (storage.kind, tch::Device::Cpu)));
    }
    let end = usize::try_from(last)
        .ok()
        .and_then(|last| offset.checked_add(last)?.checked_add(1));
    let Some(end) = end.filter(|&end| end <= storage.numel) else {
        return Err("reaches beyond its storage".into());
    };
    // A stride of 0 repeats elements, and a small file could ask for any amount of them.
    if numel as usize > storage.numel.max(REPEATED) {
        return Err(format!(
            "repeats its {} numbers {numel} times",
            storage.numel
        ));
    }
    let own = &memory[offset * width..end * width];
    let flat = Tensor::from_data_size(own, &[last + 1], storage.kind);
    Ok(flat.as_strided(size, stride, 0).contiguous())
}

#[cfg(test)]
mod tests;
