//! Networks that compare two pictures: what they are fed, and their features, which are computed once for a picture
//! that is compared again and again.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::to_device::to_device;
use crate::ModelError;
use crate::image::{IMAGENET, ImageProcessor, Resize, Rgb8};
use crate::layers::reduce_kind;

/// A network that compares two pictures.
pub trait DistanceNetwork: std::fmt::Debug + Send {
    /// Reads it in the form in which it is published.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors by name.
    fn load(path: &Path, place: (Kind, Device)) -> Result<Self, ModelError>
    where
        Self: Sized;

    /// What it is called in what is said about it.
    fn name(&self) -> &'static str;

    /// What it computes in, and where.
    fn place(&self) -> (Kind, Device);

    /// Moves all weights, converting them where the kind is another.
    ///
    /// # Errors
    /// libtorch's, for lack of memory for instance.
    fn move_to(&mut self, place: (Kind, Device)) -> Result<(), ModelError>;

    /// Features of pictures of one size.
    ///
    /// # Errors
    /// [`ModelError::Image`] for pictures of several sizes or too small; libtorch's.
    fn features(
        &self,
        pictures: &[&Rgb8],
        input: DistanceInput,
    ) -> Result<PictureFeatures, ModelError>;

    /// Distances `[N]`, float32 at least, between the pictures of two sets of features of one shape;
    /// either may hold one picture only.
    ///
    /// # Errors
    /// libtorch's, as for shapes that differ.
    fn distances(&self, a: &PictureFeatures, b: &PictureFeatures) -> Result<Tensor, ModelError>;
}

/// How bytes become a network's input, before its own scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DistanceInput {
    /// To -1..1, as the lpips package asks for.
    Signed,
    /// To 0..1, as RLRF's reward feeds it.
    Unit,
    /// To 0..1, then ImageNet's means and deviations, as SArena feeds it.
    Imagenet,
}

impl DistanceInput {
    /// Pictures of one size as `[N, 3, H, W]` on this scale, float32 at least.
    pub(crate) fn tensor(
        self,
        pictures: &[&Rgb8],
        (kind, device): (Kind, Device),
    ) -> Result<Tensor, ModelError> {
        let normalise = match self {
            DistanceInput::Signed | DistanceInput::Unit => None,
            DistanceInput::Imagenet => Some(IMAGENET),
        };
        let mut processor = ImageProcessor::square(1, svg::Filter::Bicubic, normalise);
        processor.resize = Resize::Keep;
        let pixels = processor.tensor(pictures, (reduce_kind(kind), device))?;
        Ok(match self {
            DistanceInput::Signed => pixels * 2.0 - 1.0,
            DistanceInput::Unit | DistanceInput::Imagenet => pixels,
        })
    }
}

/// Features of pictures, one map of each layer that is compared.
pub struct PictureFeatures(pub(crate) Vec<Tensor>);

impl PictureFeatures {
    /// The features of one picture.
    pub fn one(&self, index: i64) -> Self {
        Self(self.0.iter().map(|map| map.narrow(0, index, 1)).collect())
    }

    /// Moves them to another device.
    ///
    /// # Errors
    /// libtorch's, for lack of memory for instance.
    pub fn move_to(&mut self, device: Device) -> Result<(), ModelError> {
        self.0
            .iter_mut()
            .try_for_each(|map| to_device(map, map.kind(), (map.kind(), device)))
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|map| map.numel() * map.kind().elt_size_in_bytes())
            .sum()
    }
}

/// A number for each channel, `[1, 3, 1, 1]`, rounded to float32 as the packages keep them.
pub(crate) fn channels(values: [f64; 3], (kind, device): (Kind, Device)) -> Tensor {
    Tensor::from_slice(&values)
        .to_kind(Kind::Float)
        .to_kind(kind)
        .to_device(device)
        .view([1, 3, 1, 1])
}
