//! DISTS (Ding et al. 2020, arXiv 2004.07728), after the `DISTS-pytorch` package: VGG16 whose pooling takes the root of
//! blurred squares, and a similarity of means and one of structure for each channel of six maps, the picture's own
//! among them, weighted by learnt numbers.
//!
//! Left out: gradients, the mean over a batch.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::distance::{DistanceInput, DistanceNetwork, PictureFeatures, channels};
use super::to_device::{each_tensor, to_device};
use super::types::guarded;
use crate::ModelError;
use crate::image::{IMAGENET, Rgb8};
use crate::layers::reduce_kind;
use crate::weights::{self, Weights};

each_tensor! {
    Dists { stages, means, structures }
    Conv3x3 { weight, bias }
}

/// Channels of the maps that are compared: the picture's, then those of each stage.
const MAPS: [i64; 6] = [3, 64, 128, 256, 512, 512];
/// Convolutions of each stage.
const CONVS: [usize; 5] = [2, 2, 3, 3, 3];
/// What keeps quotients of nothing at 1 (c1 and c2 of the paper).
const SMALL: f64 = 1e-6;
/// What keeps the root's slope finite.
const EPSILON: f64 = 1e-12;

/// The trunk's stages, and the weights of each map's channels, which sum to 1 over all of them.
#[derive(Debug)]
pub struct Dists {
    stages: Vec<Vec<Conv3x3>>,
    /// Of the similarity of means, `[1, C]` for each map.
    means: Vec<Tensor>,
    /// Of the similarity of structure.
    structures: Vec<Tensor>,
    place: (Kind, Device),
}

/// A convolution of 3x3; a ReLU follows.
#[derive(Debug)]
struct Conv3x3 {
    weight: Tensor,
    bias: Tensor,
}

impl DistanceNetwork for Dists {
    /// Reads a folder with torchvision's vgg16 (`features.N`) and the package's weights.pt (`alpha` and `beta`), or
    /// one file with the package's whole state dict.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors by name.
    fn load(path: &Path, place: (Kind, Device)) -> Result<Self, ModelError> {
        let mut weights = Weights::new(path, weights::read_any(path)?, place);
        weights.rename(|name| match name.strip_prefix("stage") {
            Some(rest) => format!(
                "features.{}",
                rest.split_once('.').map_or(rest, |(_, rest)| rest)
            ),
            None => name.to_owned(),
        });
        let (mut width, mut index) = (MAPS[0], 0usize);
        let mut stages = Vec::new();
        for (stage, count) in CONVS.into_iter().enumerate() {
            let out = MAPS[stage + 1];
            // The pooling between stages has a number of its own.
            index += usize::from(stage > 0);
            let mut convs = Vec::new();
            for _ in 0..count {
                let name = format!("features.{index}");
                convs.push(Conv3x3 {
                    weight: weights.take(&format!("{name}.weight"), &[out, width, 3, 3]),
                    bias: weights.take(&format!("{name}.bias"), &[out]),
                });
                width = out;
                index += 2;
            }
            stages.push(convs);
        }
        let all = [1, MAPS.iter().sum(), 1, 1];
        let [alpha, beta] = ["alpha", "beta"].map(|name| weights.wide(name, &all));
        weights.finish(|name| {
            let own = ["classifier.", "mean", "std"];
            own.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with(".filter")
        })?;
        let sum = alpha.sum(None) + beta.sum(None);
        let [means, structures] =
            [alpha, beta].map(|all| (all / &sum).flatten(1, -1).split_with_sizes(MAPS, 1));
        Ok(Self {
            stages,
            means,
            structures,
            place,
        })
    }

    fn name(&self) -> &'static str {
        "DISTS"
    }

    fn place(&self) -> (Kind, Device) {
        self.place
    }

    fn move_to(&mut self, place: (Kind, Device)) -> Result<(), ModelError> {
        to_device(self, self.place.0, place)?;
        self.place = place;
        Ok(())
    }

    /// Six maps `[N, C, H, W]`, each half as high and wide as the one before from the third on.
    fn features(
        &self,
        pictures: &[&Rgb8],
        input: DistanceInput,
    ) -> Result<PictureFeatures, ModelError> {
        let mut maps = Vec::new();
        let last = guarded(|| {
            let (kind, device) = self.place;
            let wide = (reduce_kind(kind), device);
            let pixels = input.tensor(pictures, self.place)?;
            let [mean, std] = IMAGENET;
            let mut x = ((&pixels - channels(mean, wide)) / channels(std, wide)).to_kind(kind);
            maps.push(pixels);
            for (stage, convs) in self.stages.iter().enumerate() {
                if stage > 0 {
                    x = pooled(&x);
                }
                for Conv3x3 { weight, bias } in convs {
                    x = x
                        .conv2d(weight, Some(bias), [1, 1], [1, 1], [1, 1], 1)
                        .relu();
                }
                maps.push(x.shallow_clone());
            }
            Ok(x)
        });
        last.map(|_| PictureFeatures(maps))
    }

    fn distances(&self, a: &PictureFeatures, b: &PictureFeatures) -> Result<Tensor, ModelError> {
        guarded(|| {
            let maps = a.0.iter().zip(&b.0);
            let weights = self.means.iter().zip(&self.structures);
            let similarity = maps.zip(weights).map(|((a, b), (mean, structure))| {
                let [means, structures] = similarities(a, b);
                let weighted = means * mean.to_kind(reduce_kind(mean.kind()))
                    + structures * structure.to_kind(reduce_kind(structure.kind()));
                weighted.sum_dim_intlist([1i64].as_slice(), false, None)
            });
            let all = similarity
                .reduce(|sum, map| sum + map)
                .expect("there are six maps");
            Ok(1.0 - all)
        })
    }
}

/// The root of squares blurred by a 3x3 Hann window, at every second place: `x [N, C, H, W]`.
fn pooled(x: &Tensor) -> Tensor {
    // Squares leave float16's range on either side.
    let wide = x.to_kind(reduce_kind(x.kind()));
    let count = wide.size()[1];
    let line = Tensor::from_slice(&[0.25f64, 0.5, 0.25]);
    let window = line.outer(&line).to_kind(wide.kind());
    let window = window
        .to_device(wide.device())
        .expand([count, 1, 3, 3], false);
    let blurred = wide
        .square()
        .conv2d(&window, None::<Tensor>, [2, 2], [1, 1], [1, 1], count);
    (blurred + EPSILON).sqrt().to_kind(x.kind())
}

/// For each channel of two maps `[N, C, H, W]`, how alike their means are and how alike their structure is: `[N, C]`,
/// float32 at least.
fn similarities(a: &Tensor, b: &Tensor) -> [Tensor; 2] {
    let space = [2i64, 3];
    let [a, b] = [a, b].map(|map| map.to_kind(reduce_kind(map.kind())));
    let mean = |map: &Tensor| map.mean_dim(space.as_slice(), true, None);
    let [mean_a, mean_b] = [mean(&a), mean(&b)];
    let [var_a, var_b] =
        [(&a, &mean_a), (&b, &mean_b)].map(|(map, own)| mean(&(map - own).square()));
    let covariance = mean(&(&a * &b)) - &mean_a * &mean_b;
    let means = (&mean_a * &mean_b * 2.0 + SMALL) / (mean_a.square() + mean_b.square() + SMALL);
    let structures = (covariance * 2.0 + SMALL) / (var_a + var_b + SMALL);
    [means, structures].map(|map| map.flatten(1, -1))
}
