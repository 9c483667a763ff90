//! What a predicted picture is measured by, beside its reference.

/// A metric of pictures, as the released code of a suite computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PictureMetric {
    /// Fréchet distance of Inception's features, of a task's pictures together.
    Fid,
    /// The same of CLIP ViT-B/32's features.
    FidClip,
    /// 100 * cosine of CLIP ViT-L/14's features of the prediction and of the caption.
    ClipText,
    /// The same of CLIP ViT-B/32's: VectorGym's.
    ClipTextB32,
    /// 100 * cosine of CLIP ViT-L/14's features of the two pictures.
    ClipImage,
    /// (cosine + 1) / 2 of the means of all of DINOv2's tokens.
    Dino,
    /// Cosine of CLIP ViT-B/32's features of the prediction and of the caption: SGP-GenBench's.
    ClipSmall,
    /// The same of CLIP ViT-L/14's.
    ClipLarge,
    /// The same of SigLIP base's.
    SiglipSmall,
    /// The same of SigLIP large's.
    SiglipLarge,
    /// Cosine of the class tokens of DINOv2 small: SGP-GenBench's.
    DinoSmall,
    /// The same of DINOv2 base.
    DinoBase,
    /// The same of DINOv2 large.
    DinoLarge,
    /// The same of DINOv2 giant.
    DinoGiant,
    /// LPIPS with VGG, pictures normalised by ImageNet's means and deviations, at their own size or the task's.
    Lpips,
    /// Structural similarity, uniform windows of 11 pixels, 8-bit RGB.
    Ssim,
    /// Mean squared difference of pixels in 0..1.
    Mse,
    /// Peak signal-to-noise ratio in decibels, 100 for equal pictures.
    Psnr,
    /// Tokens of the SVG.
    Tokens,
}

/// A network of a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SuiteNetwork {
    /// CLIP ViT-L/14.
    ClipL14,
    /// CLIP ViT-B/32.
    ClipB32,
    /// SigLIP base.
    SiglipBase,
    /// SigLIP large.
    SiglipLarge,
    /// DINOv2 base, means of all tokens, pictures brought to size as its folder says.
    Dinov2,
    /// DINOv2 small, the class token, pictures brought to size as SGP-RL does.
    DinoSmall,
    /// The same of DINOv2 base.
    DinoBase,
    /// The same of DINOv2 large.
    DinoLarge,
    /// The same of DINOv2 giant.
    DinoGiant,
    /// LPIPS.
    Lpips,
    /// Inception.
    Inception,
}

impl SuiteNetwork {
    /// Its key under `encoders`; two that never serve one suite may have one key.
    pub fn key(self) -> &'static str {
        match self {
            Self::ClipL14 => "clip_l14",
            Self::ClipB32 => "clip_b32",
            Self::SiglipBase => "siglip_base",
            Self::SiglipLarge => "siglip_large",
            Self::Dinov2 | Self::DinoBase => "dinov2",
            Self::DinoSmall => "dinov2_small",
            Self::DinoLarge => "dinov2_large",
            Self::DinoGiant => "dinov2_giant",
            Self::Lpips => "lpips",
            Self::Inception => "inception",
        }
    }

    /// Whether it is a DINOv2.
    pub fn is_dino(self) -> bool {
        self == Self::Dinov2 || self.is_class_token()
    }

    /// Whether it is asked for the class token of pictures that torchvision's transform brings to size, and its features of
    /// predictions are kept: how different a prompt's drawings are is measured by them.
    pub fn is_class_token(self) -> bool {
        matches!(
            self,
            Self::DinoSmall | Self::DinoBase | Self::DinoLarge | Self::DinoGiant
        )
    }
}

/// How a number is made of a network's features.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeatureRule {
    /// The cosine of prediction and caption, times this.
    Words(f64),
    /// The cosine of prediction and reference, times this.
    Pair(f64),
    /// (cosine of prediction and reference + 1) / 2.
    Halved,
    /// A distance of all predictions to all references.
    Sets,
}

impl PictureMetric {
    /// All of them.
    const ALL: [Self; 19] = [
        Self::Fid,
        Self::FidClip,
        Self::ClipText,
        Self::ClipTextB32,
        Self::ClipImage,
        Self::Dino,
        Self::ClipSmall,
        Self::ClipLarge,
        Self::SiglipSmall,
        Self::SiglipLarge,
        Self::DinoSmall,
        Self::DinoBase,
        Self::DinoLarge,
        Self::DinoGiant,
        Self::Lpips,
        Self::Ssim,
        Self::Mse,
        Self::Psnr,
        Self::Tokens,
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fid => "fid",
            Self::FidClip => "fid_c",
            Self::ClipText => "clip_t2i",
            Self::ClipTextB32 => "clip",
            Self::ClipImage => "clip_i2i",
            Self::Dino => "dino",
            Self::ClipSmall => "clip_small",
            Self::ClipLarge => "clip_large",
            Self::SiglipSmall => "siglip_small",
            Self::SiglipLarge => "siglip_large",
            Self::DinoSmall => "dino_small",
            Self::DinoBase => "dino_base",
            Self::DinoLarge => "dino_large",
            Self::DinoGiant => "dino_giant",
            Self::Lpips => "lpips",
            Self::Ssim => "ssim",
            Self::Mse => "mse",
            Self::Psnr => "psnr",
            Self::Tokens => "tokens",
        }
    }

    /// The network that it needs.
    pub fn network(self) -> Option<SuiteNetwork> {
        match self {
            Self::Fid => Some(SuiteNetwork::Inception),
            Self::FidClip | Self::ClipTextB32 | Self::ClipSmall => Some(SuiteNetwork::ClipB32),
            Self::ClipText | Self::ClipImage | Self::ClipLarge => Some(SuiteNetwork::ClipL14),
            Self::SiglipSmall => Some(SuiteNetwork::SiglipBase),
            Self::SiglipLarge => Some(SuiteNetwork::SiglipLarge),
            Self::Dino => Some(SuiteNetwork::Dinov2),
            Self::DinoSmall => Some(SuiteNetwork::DinoSmall),
            Self::DinoBase => Some(SuiteNetwork::DinoBase),
            Self::DinoLarge => Some(SuiteNetwork::DinoLarge),
            Self::DinoGiant => Some(SuiteNetwork::DinoGiant),
            Self::Lpips => Some(SuiteNetwork::Lpips),
            Self::Ssim | Self::Mse | Self::Psnr | Self::Tokens => None,
        }
    }

    /// How it is made of features; none where it is made of pixels, tokens or LPIPS.
    pub fn rule(self) -> Option<FeatureRule> {
        match self {
            Self::Fid | Self::FidClip => Some(FeatureRule::Sets),
            Self::ClipText | Self::ClipTextB32 => Some(FeatureRule::Words(100.0)),
            Self::ClipSmall | Self::ClipLarge | Self::SiglipSmall | Self::SiglipLarge => {
                Some(FeatureRule::Words(1.0))
            }
            Self::ClipImage => Some(FeatureRule::Pair(100.0)),
            Self::DinoSmall | Self::DinoBase | Self::DinoLarge | Self::DinoGiant => {
                Some(FeatureRule::Pair(1.0))
            }
            Self::Dino => Some(FeatureRule::Halved),
            Self::Lpips | Self::Ssim | Self::Mse | Self::Psnr | Self::Tokens => None,
        }
    }

    /// Whether it compares a picture with words.
    pub fn is_of_words(self) -> bool {
        matches!(self.rule(), Some(FeatureRule::Words(_)))
    }

    /// Whether it looks at pictures at all.
    pub fn is_of_pictures(self) -> bool {
        self != Self::Tokens
    }
}
