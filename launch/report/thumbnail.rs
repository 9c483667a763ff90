//! A picture of a row as a page shows it: small, over white, decoded and encoded anew.

use rewards::ImageSource;
use svg::{Filter, Raster, resize};

/// Largest side of a picture that is read, as prompts read it.
const MOST_SIDE: u32 = 16_384;

/// A PNG, or why there is none.
pub(crate) type PngResult = Result<Vec<u8>, String>;

/// The picture as a PNG whose longer side is `side` pixels at most.
pub(crate) fn thumbnail(image: &ImageSource, side: u32) -> PngResult {
    let bytes = image.read().map_err(|error| error.to_string())?;
    let raster = Raster::decode(&bytes, MOST_SIDE).map_err(|error| error.to_string())?;
    let (width, height) = (raster.width, raster.height);
    let longest = width.max(height);
    let small = |own: u32| (own * side / longest).max(1);
    let size = match longest > side {
        true => (small(width), small(height)),
        false => (width, height),
    };
    let rgb = resize(
        &raster.rgb_over([255; 3]),
        3,
        (width, height),
        size,
        Filter::Bilinear,
    );
    let pixels = rgb.as_chunks::<3>().0.iter();
    let over_white = Raster {
        width: size.0,
        height: size.1,
        rgba: pixels.flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
    };
    over_white.to_png().map_err(|error| error.to_string())
}
