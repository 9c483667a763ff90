//! The drawings of a prompt side by side.

use svg::{Raster, RasterError};

use super::item::Round;

/// Pixels between two drawings.
const GAP: u32 = 4;
/// What stands for a drawing that there is not.
const NOTHING: [u8; 4] = [208, 208, 208, 255];

/// A PNG of the rounds from left to right; a grey field where nothing was drawn.
///
/// # Errors
/// A picture that cannot be written.
pub fn strip(rounds: &[Round]) -> Result<Vec<u8>, RasterError> {
    let drawn = || rounds.iter().filter_map(|round| round.raster.as_ref());
    let side = drawn()
        .map(|raster| raster.width.max(raster.height))
        .max()
        .unwrap_or(64);
    let count = rounds.len().max(1) as u32;
    let mut whole = Raster::filled(count * (side + GAP) - GAP, side, [255; 4]);
    let width = whole.width;
    for (at, round) in (0..).zip(rounds) {
        let field = Raster::filled(side, side, NOTHING);
        let raster = round.raster.as_ref().unwrap_or(&field);
        let pixels = raster.rgb_over([255; 3]);
        for y in 0..raster.height {
            for x in 0..raster.width {
                let from = 3 * (y * raster.width + x) as usize;
                let to = 4 * (y * width + at * (side + GAP) + x) as usize;
                whole.rgba[to..to + 3].copy_from_slice(&pixels[from..from + 3]);
            }
        }
    }
    whole.to_png()
}
