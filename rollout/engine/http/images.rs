//! Prompts with pictures as servers take them: one placeholder for each picture, and the picture as a PNG of the very
//! pixels that the policy here sees, so that nothing is left there to resize.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use models::Decoder;
use models::image::PromptImages;
use svg::Raster;

use crate::RolloutError;

/// A prompt's ids with one placeholder for each picture, and its pictures as data URIs.
pub(super) type PortablePrompt = (Arc<[i64]>, Arc<[String]>);

/// A prompt as servers take it.
///
/// # Errors
/// A policy whose pictures are cut into tiles.
pub(super) fn portable(
    policy: &Decoder,
    (ids, images): (&Arc<[i64]>, Option<&PromptImages>),
) -> Result<PortablePrompt, RolloutError> {
    let Some((images, vision)) = images.zip(policy.vision()) else {
        return Ok((ids.clone(), Arc::default()));
    };
    let mut uris = Vec::new();
    for picture in &images.pictures {
        let whole = vision.processor.patchify.whole(picture).ok_or_else(|| {
            RolloutError::Input(
                "rollout.engine: a server would cut pictures of InternVL into tiles of its own, which are not the learner's: sample them by `engine: local`, beside the learners with `placement: dedicated` (docs/launching.md)".into(),
            )
        })?;
        let opaque = |rgb: &[u8]| [rgb[0], rgb[1], rgb[2], 255];
        let raster = Raster {
            width: whole.width as u32,
            height: whole.height as u32,
            rgba: whole.data.chunks_exact(3).flat_map(opaque).collect(),
        };
        let png = raster
            .to_png()
            .map_err(|error| RolloutError::Input(error.to_string()))?;
        uris.push(format!("data:image/png;base64,{}", STANDARD.encode(png)));
    }
    Ok((collapsed(ids, images), uris.into()))
}

/// `ids` with the first of each picture's rows alone.
fn collapsed(ids: &[i64], images: &PromptImages) -> Arc<[i64]> {
    let mut rows = images.positions.rows.iter().copied();
    let mut left_out = vec![false; ids.len()];
    for picture in &images.pictures {
        let own = rows.by_ref().take(picture.tokens as usize);
        for row in own.skip(1) {
            left_out[row as usize] = true;
        }
    }
    let kept = ids.iter().zip(left_out).filter(|(_, out)| !out);
    kept.map(|(id, _)| *id).collect()
}
