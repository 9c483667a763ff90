//! What a reward keeps of a reference's picture, and the comparison of a prediction with it.

use crate::config::RewardConfig;
use crate::edges::{L2Canny, edge_picture};
use crate::encode::Ticket;
use crate::perceptual::Lpips;
use crate::picture::Picture;
use crate::pixel::{Mse, MseForeground, Psnr};
use std::sync::Arc;
use svg::Filter;

/// What a reward compares.
#[derive(Clone)]
pub(crate) enum Feature {
    None,
    Picture(Arc<Picture>),
    /// Beside it the draft's likeness to it.
    Bettered(Arc<Picture>, f64),
    Edges(Arc<Vec<f64>>),
    /// On its way from an encoder.
    Encoded(Ticket),
}

/// The square that LPIPS compares.
pub(crate) fn lpips_picture(rule: &Lpips, picture: &Picture) -> Picture {
    let side = rule.size as usize;
    match rule.canny {
        true => edge_picture(picture).resized(side, side, Filter::Bicubic),
        false => picture.resized(side, side, Filter::Bicubic),
    }
}

/// The picture at the size a reward compares it, or its edges.
pub(crate) fn feature(config: &RewardConfig, picture: &Arc<Picture>) -> Feature {
    if !config.needs_reference_picture() || matches!(config, RewardConfig::Aspect(_)) {
        return Feature::None;
    }
    let sized = match config.size() {
        Some(side) => Arc::new(picture.longest(side as usize, Filter::Bicubic)),
        None => picture.clone(),
    };
    match config {
        RewardConfig::L2Canny(_) => Feature::Edges(Arc::new(L2Canny::feature(&sized))),
        _ => Feature::Picture(sized),
    }
}

/// The value of a reward that compares pictures here, without an encoder.
pub(crate) fn compare(config: &RewardConfig, picture: &Arc<Picture>, target: &Feature) -> f64 {
    match (feature(config, picture), target) {
        (Feature::Edges(a), Feature::Edges(b)) => L2Canny::value(&a, b),
        (Feature::Picture(a), Feature::Picture(b)) => compare_pictures(config, &a, b),
        (Feature::Picture(a), Feature::Bettered(b, draft)) => match config {
            RewardConfig::Improvement(rule) => rule.likeness(&a, b) - draft,
            _ => 0.0,
        },
        _ => 0.0,
    }
}

fn compare_pictures(config: &RewardConfig, a: &Picture, b: &Picture) -> f64 {
    match config {
        RewardConfig::Mse(_) => Mse::value(a, b),
        RewardConfig::L2(rule) => rule.value(a, b),
        RewardConfig::MseForeground(_) => MseForeground::value(a, b),
        RewardConfig::Ssim(rule) => rule.value(a, b),
        RewardConfig::Psnr(_) => Psnr::value(a, b),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::perceptual::LpipsScale;

    /// A filled square of one grey in the middle of a white picture.
    fn square(value: u8) -> Picture {
        let inside = |at: usize| (16..48).contains(&(at % 64)) && (16..48).contains(&(at / 64));
        let pixels = (0..64 * 64).flat_map(|at| [if inside(at) { value } else { 255 }; 3]);
        Picture {
            width: 64,
            height: 64,
            rgb: pixels.collect(),
        }
    }

    #[test]
    fn lpips_on_edges_sees_outlines_alone() {
        let rule = |canny| Lpips {
            size: 32,
            input: LpipsScale::Unit,
            canny,
            ..Lpips::default()
        };
        let seen = |canny, value| lpips_picture(&rule(canny), &square(value)).rgb;
        assert_ne!(seen(false, 0), seen(false, 60));
        assert_eq!(seen(true, 0), seen(true, 60));
        assert_ne!(seen(true, 0), seen(true, 255), "an outline against none");
    }
}
