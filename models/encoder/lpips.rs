//! LPIPS version 0.1 with AlexNet or VGG16 (arXiv 1801.03924), after the `lpips` package: unit-length
//! channels of five layers, squared differences weighted by learnt numbers, averaged over space.
//!
//! Left out: SqueezeNet, the spatial map, version 0.0.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::distance::{DistanceInput, DistanceNetwork, PictureFeatures, channels};
use super::to_device::{EachTensor, TensorChange, each_tensor, to_device};
use super::types::guarded;
use crate::ModelError;
use crate::image::Rgb8;
use crate::layers::reduce_kind;
use crate::weights::{self, Weights};

each_tensor! {
    Lpips { steps, heads }
}

impl EachTensor for LayerStep {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        if let Self::Conv(weight, bias, ..) = self {
            weight.each_tensor(change);
            bias.each_tensor(change);
        }
    }
}

/// The trunk and the five sets of channel weights.
#[derive(Debug)]
pub struct Lpips {
    steps: Vec<LayerStep>,
    heads: Vec<Tensor>,
    place: (Kind, Device),
}

#[derive(Debug)]
enum LayerStep {
    /// Weight, bias, stride, padding; a ReLU follows.
    Conv(Tensor, Tensor, i64, i64),
    /// Maximum over squares of this side, every second one.
    Pool(i64),
    /// The layer is one of the five.
    Tap,
}

/// Output channels, kernel, stride, padding of torchvision's `features.{index}`.
type ConvShape = (usize, i64, i64, i64, i64);

enum LayerPlan {
    Conv(ConvShape),
    Pool(i64),
    Tap,
}

fn alexnet() -> Vec<LayerPlan> {
    use LayerPlan::*;
    vec![
        Conv((0, 64, 11, 4, 2)),
        Tap,
        Pool(3),
        Conv((3, 192, 5, 1, 2)),
        Tap,
        Pool(3),
        Conv((6, 384, 3, 1, 1)),
        Tap,
        Conv((8, 256, 3, 1, 1)),
        Tap,
        Conv((10, 256, 3, 1, 1)),
        Tap,
    ]
}

fn vgg16() -> Vec<LayerPlan> {
    let mut plan = Vec::new();
    let mut index = 0;
    for (stage, (width, convs)) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
        .into_iter()
        .enumerate()
    {
        if stage > 0 {
            plan.push(LayerPlan::Pool(2));
            index += 1;
        }
        for _ in 0..convs {
            plan.push(LayerPlan::Conv((index, width, 3, 1, 1)));
            index += 2;
        }
        plan.push(LayerPlan::Tap);
    }
    plan
}

impl DistanceNetwork for Lpips {
    /// Reads a folder with torchvision's trunk (`features.N`) and the package's channel weights
    /// (`linK.model.1.weight`), or one file with the package's whole state dict. Which trunk it is
    /// shows in the first layer.
    ///
    /// # Errors
    /// Missing, unknown or misshapen tensors by name.
    fn load(path: &Path, place: (Kind, Device)) -> Result<Self, ModelError> {
        let mut weights = Weights::new(path, weights::read_any(path)?, place);
        weights.rename(|name| match name.strip_prefix("net.slice") {
            Some(rest) => format!(
                "features.{}",
                rest.split_once('.').map_or(rest, |(_, rest)| rest)
            ),
            None => name.to_owned(),
        });
        let plan = match weights.shape("features.0.weight", 4).as_deref() {
            Some([64, 3, 11, 11]) => alexnet(),
            Some([64, 3, 3, 3]) => vgg16(),
            _ => {
                return Err(ModelError::malformed(
                    path,
                    "holds no trunk of LPIPS: features.0.weight must be AlexNet's or VGG16's (torchvision's file beside the package's alex.pth or vgg.pth)",
                ));
            }
        };
        let (mut width, mut steps, mut heads) = (3, Vec::new(), Vec::new());
        for step in plan {
            steps.push(match step {
                LayerPlan::Pool(side) => LayerStep::Pool(side),
                LayerPlan::Conv((index, out, kernel, stride, padding)) => {
                    let name = format!("features.{index}");
                    let weight =
                        weights.take(&format!("{name}.weight"), &[out, width, kernel, kernel]);
                    width = out;
                    LayerStep::Conv(
                        weight,
                        weights.take(&format!("{name}.bias"), &[out]),
                        stride,
                        padding,
                    )
                }
                LayerPlan::Tap => {
                    let name = format!("lin{}.model.1.weight", heads.len());
                    heads.push(weights.wide(&name, &[1, width, 1, 1]));
                    LayerStep::Tap
                }
            });
        }
        weights.finish(|name| {
            ["classifier.", "scaling_layer.", "lins."]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })?;
        Ok(Self {
            steps,
            heads,
            place,
        })
    }

    fn name(&self) -> &'static str {
        "LPIPS"
    }

    fn move_to(&mut self, place: (Kind, Device)) -> Result<(), ModelError> {
        to_device(self, self.place.0, place)?;
        self.place = place;
        Ok(())
    }

    fn place(&self) -> (Kind, Device) {
        self.place
    }

    /// Five maps `[N, C, H, W]`, channels of unit length, of pictures of at least 32 pixels a side.
    fn features(
        &self,
        pictures: &[&Rgb8],
        input: DistanceInput,
    ) -> Result<PictureFeatures, ModelError> {
        if let Some(small) = pictures.iter().find(|p| p.width.min(p.height) < 32) {
            return Err(ModelError::Image(format!(
                "LPIPS needs at least 32 pixels a side, got {}x{}",
                small.width, small.height
            )));
        }
        let mut maps = Vec::new();
        let last = guarded(|| {
            let mut x = self.input(pictures, input)?;
            for step in &self.steps {
                x = match step {
                    LayerStep::Conv(weight, bias, stride, padding) => x
                        .conv2d(weight, Some(bias), [*stride; 2], [*padding; 2], [1, 1], 1)
                        .relu(),
                    LayerStep::Pool(side) => {
                        x.max_pool2d([*side; 2], [2, 2], [0, 0], [1, 1], false)
                    }
                    LayerStep::Tap => {
                        // Sums of squares leave float16's range on either side.
                        let wide = x.to_kind(reduce_kind(x.kind()));
                        let norm = wide
                            .square()
                            .sum_dim_intlist([1i64].as_slice(), true, None)
                            .sqrt();
                        maps.push((wide / (norm + EPSILON)).to_kind(x.kind()));
                        x
                    }
                };
            }
            Ok(x)
        });
        last.map(|_| PictureFeatures(maps))
    }

    fn distances(&self, a: &PictureFeatures, b: &PictureFeatures) -> Result<Tensor, ModelError> {
        guarded(|| {
            let layer = |((a, b), head): ((&Tensor, &Tensor), &Tensor)| {
                let kind = reduce_kind(a.kind());
                let weighted = (a.to_kind(kind) - b.to_kind(kind)).square() * head.to_kind(kind);
                weighted
                    .sum_dim_intlist([1i64].as_slice(), false, kind)
                    .mean_dim([1i64, 2].as_slice(), false, kind)
            };
            let layers: Vec<Tensor> = a.0.iter().zip(&b.0).zip(&self.heads).map(layer).collect();
            Ok(layers
                .into_iter()
                .reduce(|sum, layer| sum + layer)
                .expect("five layers"))
        })
    }
}

impl Lpips {
    /// The pictures scaled as asked, then as the network's own first layer scales.
    fn input(&self, pictures: &[&Rgb8], input: DistanceInput) -> Result<Tensor, ModelError> {
        let (kind, device) = self.place;
        let wide = (reduce_kind(kind), device);
        let pixels = input.tensor(pictures, self.place)?;
        Ok(((pixels - channels(SHIFT, wide)) / channels(SCALE, wide)).to_kind(kind))
    }
}

const SHIFT: [f64; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f64; 3] = [0.458, 0.448, 0.450];
const EPSILON: f64 = 1e-10;
