//! What a predicted picture is measured by, beside its reference.

/// A metric of pictures, as SArena's released code computes it.
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

/// A network of a suite, by its key in the config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SuiteNetwork {
    /// CLIP ViT-L/14.
    ClipL14,
    /// CLIP ViT-B/32.
    ClipB32,
    /// DINOv2.
    Dinov2,
    /// LPIPS.
    Lpips,
    /// Inception.
    Inception,
}

impl SuiteNetwork {
    /// Its key under `encoders`.
    pub fn key(self) -> &'static str {
        match self {
            Self::ClipL14 => "clip_l14",
            Self::ClipB32 => "clip_b32",
            Self::Dinov2 => "dinov2",
            Self::Lpips => "lpips",
            Self::Inception => "inception",
        }
    }
}

impl PictureMetric {
    /// Its name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fid => "fid",
            Self::FidClip => "fid_c",
            Self::ClipText => "clip_t2i",
            Self::ClipTextB32 => "clip",
            Self::ClipImage => "clip_i2i",
            Self::Dino => "dino",
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
            Self::FidClip | Self::ClipTextB32 => Some(SuiteNetwork::ClipB32),
            Self::ClipText | Self::ClipImage => Some(SuiteNetwork::ClipL14),
            Self::Dino => Some(SuiteNetwork::Dinov2),
            Self::Lpips => Some(SuiteNetwork::Lpips),
            Self::Ssim | Self::Mse | Self::Psnr | Self::Tokens => None,
        }
    }

    /// Whether it compares a picture with words.
    pub fn is_of_words(self) -> bool {
        matches!(self, Self::ClipText | Self::ClipTextB32)
    }

    /// Whether it looks at pictures at all.
    pub fn is_of_pictures(self) -> bool {
        self != Self::Tokens
    }
}
