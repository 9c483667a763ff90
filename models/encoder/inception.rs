//! Inception-v3 as pytorch-fid uses it for FID: TensorFlow's weights of 2015, average pools that leave the
//! padding out, a maximum in the last block. Pictures of any size come as 0..1, are resized to 299
//! without antialiasing and moved to -1..1; the 2,048 averages of the last block come out.
//!
//! Left out: the other blocks' features, the classifier.

use tch::Tensor;

use super::to_device::{EachTensor, TensorChange, each_tensor};

use crate::ModelError;
use crate::image::{ImageProcessor, Resize};
use crate::layers::reduce_kind;
use crate::weights::Weights;

each_tensor! {
    Inception { stem, mixed }
    Conv { weight, bias }
    ConvBranch { row, split }
}

impl EachTensor for Stem {
    fn each_tensor(&mut self, change: &mut TensorChange) {
        if let Self::Conv(conv) = self {
            conv.each_tensor(change);
        }
    }
}

/// The network.
#[derive(Debug)]
pub(super) struct Inception {
    pub(super) processor: ImageProcessor,
    stem: Vec<Stem>,
    mixed: Vec<Vec<ConvBranch>>,
}

#[derive(Debug)]
enum Stem {
    Conv(Conv),
    Pool,
}

/// Convolution, batch norm, ReLU; the norm, whose numbers may leave float16's range, is part of weight and
/// bias.
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: [i64; 2],
}

/// One path of a block: a pool or nothing, convolutions in a row, then several side by side.
#[derive(Debug)]
struct ConvBranch {
    pool: BranchPool,
    row: Vec<Conv>,
    split: Vec<Conv>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BranchPool {
    None,
    /// Over 3x3, every place, padding not counted.
    Average,
    /// Over 3x3, every place.
    Max,
    /// Over 3x3, every second place, no padding.
    Halve,
}

/// Added to variances.
const EPSILON: f64 = 1e-3;

/// Name within the block, output channels, kernel height and width, stride.
type ConvPlan = (&'static str, i64, i64, i64, i64);
type BranchPlan = (BranchPool, Vec<ConvPlan>, Vec<ConvPlan>);

/// Whether these are its names.
pub(super) fn matches(weights: &Weights) -> bool {
    weights.has("Conv2d_1a_3x3.conv.weight")
}

impl Inception {
    pub(super) fn load(mut weights: Weights) -> Result<Self, ModelError> {
        let mut width = 3;
        let mut stem = Vec::new();
        for (name, out, kernel, stride, padding) in [
            ("Conv2d_1a_3x3", 32, 3, 2, 0),
            ("Conv2d_2a_3x3", 32, 3, 1, 0),
            ("Conv2d_2b_3x3", 64, 3, 1, 1),
            ("", 0, 0, 0, 0),
            ("Conv2d_3b_1x1", 80, 1, 1, 0),
            ("Conv2d_4a_3x3", 192, 3, 1, 0),
            ("", 0, 0, 0, 0),
        ] {
            stem.push(match name {
                "" => Stem::Pool,
                name => {
                    let conv = Conv::take(
                        &mut weights,
                        name,
                        [out, width, kernel, kernel],
                        stride,
                        [padding; 2],
                    );
                    width = out;
                    Stem::Conv(conv)
                }
            });
        }
        let mut mixed = Vec::new();
        for (name, plan) in blocks() {
            let branches: Vec<(ConvBranch, i64)> = plan
                .into_iter()
                .map(|branch| ConvBranch::take(&mut weights, name, branch, width))
                .collect();
            width = branches.iter().map(|(_, out)| out).sum();
            mixed.push(branches.into_iter().map(|(branch, _)| branch).collect());
        }
        weights.finish(|name| {
            name.ends_with("num_batches_tracked")
                || name.starts_with("fc.")
                || name.starts_with("AuxLogits.")
        })?;
        let mut processor = ImageProcessor::square(299, svg::Filter::Bilinear, None);
        processor.resize = Resize::Keep;
        Ok(Self {
            processor,
            stem,
            mixed,
        })
    }

    /// `pixels [N, 3, H, W]` in 0..1, in float32 at least, to `[N, 2048]`.
    pub(super) fn embed(&self, pixels: &Tensor) -> Tensor {
        let x = pixels.upsample_bilinear2d([299, 299], false, None, None) * 2.0 - 1.0;
        let x = self.stem.iter().fold(x, |x, step| match step {
            Stem::Conv(conv) => conv.forward(&x),
            Stem::Pool => halve(&x),
        });
        let x = self.mixed.iter().fold(x, |x, branches| {
            let parts: Vec<Tensor> = branches.iter().map(|branch| branch.forward(&x)).collect();
            Tensor::cat(&parts, 1)
        });
        x.mean_dim([2i64, 3].as_slice(), false, reduce_kind(x.kind()))
    }
}

fn halve(x: &Tensor) -> Tensor {
    x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false)
}

impl Conv {
    fn take(
        weights: &mut Weights,
        name: &str,
        shape: [i64; 4],
        stride: i64,
        padding: [i64; 2],
    ) -> Self {
        let kind = weights.place().0;
        let weight = weights.wide(&format!("{name}.conv.weight"), &shape);
        let [gain, offset, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
            .map(|part| weights.wide(&format!("{name}.bn.{part}"), &shape[..1]));
        let gain = gain / (variance + EPSILON).sqrt();
        Self {
            weight: (weight * gain.view([-1, 1, 1, 1])).to_kind(kind),
            bias: (offset - mean * gain).to_kind(kind),
            stride,
            padding,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        x.to_kind(self.weight.kind())
            .conv2d(
                &self.weight,
                Some(&self.bias),
                [self.stride; 2],
                self.padding,
                [1, 1],
                1,
            )
            .relu()
    }
}

impl ConvBranch {
    /// The branch of block `name` and how many channels it gives.
    fn take(
        weights: &mut Weights,
        name: &str,
        (pool, row, split): BranchPlan,
        input: i64,
    ) -> (Self, i64) {
        let mut conv = |(part, out, height, width, stride): ConvPlan, input: i64| {
            // Places are kept, but where every second one is.
            let padding = if stride == 2 {
                [0, 0]
            } else {
                [(height - 1) / 2, (width - 1) / 2]
            };
            Conv::take(
                weights,
                &format!("{name}.{part}"),
                [out, input, height, width],
                stride,
                padding,
            )
        };
        let mut width = input;
        let mut convs = Vec::new();
        for plan in row {
            convs.push(conv(plan, width));
            width = plan.1;
        }
        let total: i64 = split.iter().map(|plan| plan.1).sum();
        let made = Self {
            pool,
            row: convs,
            split: split.into_iter().map(|plan| conv(plan, width)).collect(),
        };
        (made, if total > 0 { total } else { width })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let pooled = match self.pool {
            BranchPool::None => x.shallow_clone(),
            BranchPool::Average => x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None),
            BranchPool::Max => x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false),
            BranchPool::Halve => halve(x),
        };
        let x = self.row.iter().fold(pooled, |x, conv| conv.forward(&x));
        if self.split.is_empty() {
            return x;
        }
        let parts: Vec<Tensor> = self.split.iter().map(|conv| conv.forward(&x)).collect();
        Tensor::cat(&parts, 1)
    }
}

fn row(convs: &[ConvPlan]) -> BranchPlan {
    (BranchPool::None, convs.to_vec(), Vec::new())
}

fn pooled(pool: BranchPool, convs: &[ConvPlan]) -> BranchPlan {
    (pool, convs.to_vec(), Vec::new())
}

fn blocks() -> Vec<(&'static str, Vec<BranchPlan>)> {
    let a = |pool_width: i64| {
        vec![
            row(&[("branch1x1", 64, 1, 1, 1)]),
            row(&[("branch5x5_1", 48, 1, 1, 1), ("branch5x5_2", 64, 5, 5, 1)]),
            row(&[
                ("branch3x3dbl_1", 64, 1, 1, 1),
                ("branch3x3dbl_2", 96, 3, 3, 1),
                ("branch3x3dbl_3", 96, 3, 3, 1),
            ]),
            pooled(BranchPool::Average, &[("branch_pool", pool_width, 1, 1, 1)]),
        ]
    };
    let c = |w: i64| {
        vec![
            row(&[("branch1x1", 192, 1, 1, 1)]),
            row(&[
                ("branch7x7_1", w, 1, 1, 1),
                ("branch7x7_2", w, 1, 7, 1),
                ("branch7x7_3", 192, 7, 1, 1),
            ]),
            row(&[
                ("branch7x7dbl_1", w, 1, 1, 1),
                ("branch7x7dbl_2", w, 7, 1, 1),
                ("branch7x7dbl_3", w, 1, 7, 1),
                ("branch7x7dbl_4", w, 7, 1, 1),
                ("branch7x7dbl_5", 192, 1, 7, 1),
            ]),
            pooled(BranchPool::Average, &[("branch_pool", 192, 1, 1, 1)]),
        ]
    };
    let e = |pool: BranchPool| {
        vec![
            row(&[("branch1x1", 320, 1, 1, 1)]),
            (
                BranchPool::None,
                vec![("branch3x3_1", 384, 1, 1, 1)],
                vec![
                    ("branch3x3_2a", 384, 1, 3, 1),
                    ("branch3x3_2b", 384, 3, 1, 1),
                ],
            ),
            (
                BranchPool::None,
                vec![
                    ("branch3x3dbl_1", 448, 1, 1, 1),
                    ("branch3x3dbl_2", 384, 3, 3, 1),
                ],
                vec![
                    ("branch3x3dbl_3a", 384, 1, 3, 1),
                    ("branch3x3dbl_3b", 384, 3, 1, 1),
                ],
            ),
            pooled(pool, &[("branch_pool", 192, 1, 1, 1)]),
        ]
    };
    let b = vec![
        row(&[("branch3x3", 384, 3, 3, 2)]),
        row(&[
            ("branch3x3dbl_1", 64, 1, 1, 1),
            ("branch3x3dbl_2", 96, 3, 3, 1),
            ("branch3x3dbl_3", 96, 3, 3, 2),
        ]),
        pooled(BranchPool::Halve, &[]),
    ];
    let d = vec![
        row(&[("branch3x3_1", 192, 1, 1, 1), ("branch3x3_2", 320, 3, 3, 2)]),
        row(&[
            ("branch7x7x3_1", 192, 1, 1, 1),
            ("branch7x7x3_2", 192, 1, 7, 1),
            ("branch7x7x3_3", 192, 7, 1, 1),
            ("branch7x7x3_4", 192, 3, 3, 2),
        ]),
        pooled(BranchPool::Halve, &[]),
    ];
    vec![
        ("Mixed_5b", a(32)),
        ("Mixed_5c", a(64)),
        ("Mixed_5d", a(64)),
        ("Mixed_6a", b),
        ("Mixed_6b", c(128)),
        ("Mixed_6c", c(160)),
        ("Mixed_6d", c(160)),
        ("Mixed_6e", c(192)),
        ("Mixed_7a", d),
        ("Mixed_7b", e(BranchPool::Average)),
        ("Mixed_7c", e(BranchPool::Max)),
    ]
}
