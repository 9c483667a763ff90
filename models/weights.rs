//! Named tensors on their way into a network that is only evaluated: from safetensors or a torch
//! checkpoint, each taken once by name and shape, and in the end a list of what was missing or left.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::layers::reduce_kind;
use crate::shards::weight_files;
use crate::tensor_file::{NamedTensors, read_tensors, write_tensors};
use crate::{ModelError, pickle};

/// The tensors of a file: `.safetensors`, or a torch checkpoint with any other ending.
///
/// # Errors
/// A file that is missing, malformed, or holds more than tensors and plain data.
pub(crate) fn read_file(path: &Path) -> Result<NamedTensors, ModelError> {
    match path.extension().and_then(|end| end.to_str()) {
        Some("safetensors") => read_tensors(path),
        _ => pickle::read_checkpoint(path),
    }
}

/// The tensors of a Hugging Face folder: model.safetensors or its shards, else pytorch_model.bin or its.
///
/// # Errors
/// As [`read_file`]; none of the files being there.
pub(crate) fn read_folder(folder: &Path) -> Result<NamedTensors, ModelError> {
    for stem in ["model.safetensors", "pytorch_model.bin"] {
        if let Some(weights) = weight_files(folder, stem)? {
            let mut all = NamedTensors::new();
            for file in &weights.files {
                all.extend(read_file(file)?);
            }
            return Ok(all);
        }
    }
    Err(ModelError::malformed(
        folder,
        "holds neither model.safetensors nor pytorch_model.bin, nor an index of their shards",
    ))
}

/// The tensors of a file, or of all checkpoints that lie in a folder.
///
/// # Errors
/// As [`read_file`]; a folder without any.
pub(crate) fn read_any(path: &Path) -> Result<NamedTensors, ModelError> {
    if !path.is_dir() {
        return read_file(path);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(ModelError::io(path))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|file| {
            let end = file.extension().and_then(|end| end.to_str());
            matches!(end, Some("safetensors" | "pth" | "pt" | "bin"))
        })
        .collect();
    files.sort();
    if files.is_empty() {
        return Err(ModelError::malformed(
            path,
            "holds no .safetensors, .pth, .pt or .bin file",
        ));
    }
    let mut all = NamedTensors::new();
    for file in files {
        all.extend(read_file(&file)?);
    }
    Ok(all)
}

/// Tensors not yet taken, and what was wrong so far.
pub(crate) struct Weights {
    source: PathBuf,
    tensors: NamedTensors,
    missing: Vec<String>,
    misshapen: Vec<String>,
    infinite: Vec<String>,
    place: (Kind, Device),
    random: Option<DrawnTensors>,
}

/// What was drawn for a network, by the names under which it asked, in that order.
pub(crate) type DrawnTensors = Rc<RefCell<Vec<(String, Tensor)>>>;

impl Weights {
    /// Of nothing: what is taken is drawn anew.
    pub fn random(place: (Kind, Device)) -> Self {
        Self::random_kept(place, &DrawnTensors::default())
    }

    /// As [`Self::random`]; `drawn` gets what is taken.
    pub fn random_kept(place: (Kind, Device), drawn: &DrawnTensors) -> Self {
        Self {
            random: Some(drawn.clone()),
            ..Self::new(Path::new(""), NamedTensors::new(), place)
        }
    }

    /// Of `source`, to be given out as `place` says.
    pub fn new(source: &Path, tensors: NamedTensors, place: (Kind, Device)) -> Self {
        Self {
            source: source.to_owned(),
            tensors,
            missing: Vec::new(),
            misshapen: Vec::new(),
            infinite: Vec::new(),
            place,
            random: None,
        }
    }

    /// Kind and device of what is given out.
    pub fn place(&self) -> (Kind, Device) {
        self.place
    }

    /// Whether a tensor of that name is left.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor that is left, if it has that many dimensions and none of them is empty.
    pub fn shape(&self, name: &str, dims: usize) -> Option<Vec<i64>> {
        let shape = self.tensors.get(name)?.size();
        (shape.len() == dims && !shape.contains(&0)).then_some(shape)
    }

    /// Changes every name.
    pub fn rename(&mut self, new: impl Fn(&str) -> String) {
        let old = std::mem::take(&mut self.tensors);
        self.tensors = old
            .into_iter()
            .map(|(name, tensor)| (new(&name), tensor))
            .collect();
    }

    /// Takes a tensor out as it is stored.
    pub fn raw(&mut self, name: &str) -> Option<Tensor> {
        self.tensors.remove(name)
    }

    /// Puts a tensor in, in place of one of that name.
    pub fn put(&mut self, name: &str, tensor: Tensor) {
        self.tensors.insert(name.to_owned(), tensor);
    }

    /// The tensor `name` of `shape`. One that is missing or has another shape is noted for
    /// [`Self::finish`], and one zero, expanded, stands in for it till then.
    pub fn take(&mut self, name: &str, shape: &[i64]) -> Tensor {
        self.taken(name, shape, self.place.0)
    }

    /// As [`Self::take`], in float32 at least: what is small and should not be rounded.
    pub fn wide(&mut self, name: &str, shape: &[i64]) -> Tensor {
        self.taken(name, shape, reduce_kind(self.place.0))
    }

    fn taken(&mut self, name: &str, shape: &[i64], kind: Kind) -> Tensor {
        let device = self.place.1;
        if let Some(kept) = &self.random {
            let tensor = drawn(name, shape, device);
            kept.borrow_mut()
                .push((name.to_owned(), tensor.shallow_clone()));
            return tensor.to_kind(kind);
        }
        match self.tensors.remove(name) {
            Some(tensor) if tensor.size() == shape => {
                let tensor = tensor.to_device(device).to_kind(kind);
                if !finite(&tensor) {
                    self.infinite.push(name.to_owned());
                }
                return tensor;
            }
            Some(tensor) => self.misshapen.push(format!(
                "{name} has shape {:?}, the configuration asks for {shape:?}",
                tensor.size()
            )),
            None => self.missing.push(name.to_owned()),
        }
        // Of no size itself: a configuration that is far off asks for any amount of memory.
        Tensor::zeros([1], (kind, device)).expand(shape, false)
    }

    /// Reports what was missing, misshapen or not finite, or is left and not `ignorable`.
    ///
    /// # Errors
    /// All of it by name.
    pub fn finish(self, ignorable: impl Fn(&str) -> bool) -> Result<(), ModelError> {
        let unknown: Vec<String> = self
            .tensors
            .into_keys()
            .filter(|name| !ignorable(name))
            .collect();
        let mut faults = Vec::new();
        if !self.missing.is_empty() {
            faults.push(format!("missing tensors: {}", self.missing.join(", ")));
        }
        if !unknown.is_empty() {
            faults.push(format!("unknown tensors: {}", unknown.join(", ")));
        }
        faults.extend(self.misshapen);
        if !self.infinite.is_empty() {
            let names = self.infinite.join(", ");
            let kind = self.place.0;
            faults.push(format!(
                "numbers that are not finite (in {kind:?}) in: {names}"
            ));
        }
        if faults.is_empty() {
            return Ok(());
        }
        Err(ModelError::Tensors {
            path: self.source,
            reason: faults.join("; "),
        })
    }
}

/// Whether all numbers are finite: nearly always one sum tells.
fn finite(tensor: &Tensor) -> bool {
    let sum = tensor.sum(reduce_kind(tensor.kind())).double_value(&[]);
    sum.is_finite() || tensor.isfinite().all().int64_value(&[]) == 1
}

/// Writes random tensors of these names and shapes to a safetensors file, the same for the same `seed`.
///
/// # Errors
/// Whatever the file system says.
pub fn write_random_tensors(
    path: &Path,
    shapes: &[(String, Vec<i64>)],
    seed: u64,
) -> Result<(), ModelError> {
    let _turn = torch_ext::seeded(seed);
    let tensors: Vec<(String, Tensor)> = shapes
        .iter()
        .map(|(name, shape)| (name.clone(), drawn(name, shape, Device::Cpu)))
        .collect();
    write_tensors(path, &tensors)
}

/// A random tensor on about the scale of a trained network's, so that nothing fades or grows: matrices keep
/// their input's scale, gains are about 1, what scales a branch is small.
fn drawn(name: &str, shape: &[i64], device: Device) -> Tensor {
    let noise = Tensor::randn(shape, (Kind::Float, device));
    let inner: i64 = shape.iter().skip(1).product();
    match (shape.len(), name) {
        (2.., name) if name.contains("embed") && !name.contains("patch") => noise * 0.02,
        (2.., _) => noise / (inner as f64).sqrt(),
        (_, name) if name.contains("norm") && name.ends_with("weight") => noise * 0.2 + 1.0,
        (_, name) if name.contains("lambda") => noise * 0.1 + 0.2,
        _ => noise * 0.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_s_single_file_counts_before_shards_and_safetensors_before_bin() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, value: f32| {
            let tensor = ("a".to_owned(), Tensor::from_slice(&[value]));
            write_tensors(&folder.path().join(file), &[tensor]).unwrap();
        };
        let read = || read_folder(folder.path()).unwrap()["a"].double_value(&[0]);
        std::fs::write(folder.path().join("pytorch_model.bin"), "not looked at").unwrap();
        write("b.safetensors", 2.0);
        let index = r#"{"weight_map": {"a": "b.safetensors", "gone": "b.safetensors"}}"#;
        std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        assert_eq!(read(), 2.0);
        write("model.safetensors", 1.0);
        assert_eq!(read(), 1.0);
    }
}
