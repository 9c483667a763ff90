//! A decoded picture: 8-bit sRGB over white, resized as Pillow does.

use std::borrow::Cow;

use svg::{Filter, Raster, resize, resize_part};

use super::exif_orientation::orientation;
use crate::ModelError;

/// `data` holds `[height, width, 3]` bytes, sRGB, 0..255.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Red, green and blue of each pixel, rows from the top.
    pub data: Vec<u8>,
}

/// Largest side of a picture that is read, in pixels.
const MAX_SIDE: u32 = 16_384;

impl Rgb8 {
    /// Width and height of a picture that a policy is shown, without decoding it.
    ///
    /// # Errors
    /// A file that says no size, or one too large.
    pub fn sides(bytes: &[u8]) -> Result<(usize, usize), ModelError> {
        let (width, height) =
            Raster::size_within(bytes, MAX_SIDE).map_err(|e| ModelError::Image(e.to_string()))?;
        let (width, height) = (width as usize, height as usize);
        Ok(match orientation(bytes) {
            5..=8 => (height, width),
            _ => (width, height),
        })
    }

    /// Decodes a picture that a policy is shown: as [`Self::decode`], and turned the way up that the file says,
    /// as transformers' `load_image` turns it.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_upright(bytes: &[u8]) -> Result<Self, ModelError> {
        let rgb = Self::decode(bytes)?;
        Ok(rgb.turned(orientation(bytes)))
    }

    /// Decodes a PNG or JPEG file as it is stored; transparent pixels are laid over white as transformers'
    /// processors lay them, with Pillow's rounding. 16-bit levels lose their lower byte, grey ones too (Pillow
    /// makes all of them above 255 white). What encoders are given: the reward codes read pictures by
    /// `Image.open`, which turns nothing.
    ///
    /// # Errors
    /// [`ModelError::Image`] when the bytes are no picture that can be read.
    pub fn decode(bytes: &[u8]) -> Result<Self, ModelError> {
        let raster =
            Raster::decode(bytes, MAX_SIDE).map_err(|e| ModelError::Image(e.to_string()))?;
        let pixels = raster.rgba.as_chunks::<4>().0;
        let over_white = |[r, g, b, alpha]: [u8; 4]| {
            [r, g, b].map(|level| {
                let (level, alpha) = (u32::from(level), u32::from(alpha));
                // Pillow's alpha_composite: seven more bits, then a rounded division by 255.
                let sum = (level * alpha + 255 * (255 - alpha) + 128) << 7;
                (((sum >> 8) + sum) >> 15) as u8
            })
        };
        Ok(Rgb8 {
            width: raster.width as usize,
            height: raster.height as usize,
            data: pixels.iter().copied().flat_map(over_white).collect(),
        })
    }

    /// The picture at exactly this many pixels.
    pub fn resized(&self, width: usize, height: usize, filter: Filter) -> Cow<'_, Self> {
        if (width, height) == (self.width, self.height) {
            return Cow::Borrowed(self);
        }
        let from = (self.width as u32, self.height as u32);
        let data = resize(&self.data, 3, from, (width as u32, height as u32), filter);
        Cow::Owned(Rgb8 {
            width,
            height,
            data,
        })
    }
}

impl Rgb8 {
    /// Columns and rows `parts`, each from one to before another, of [`Self::resized`] to `to`, width and height.
    pub(crate) fn resized_part(
        &self,
        to: (usize, usize),
        parts: [(usize, usize); 2],
        filter: Filter,
    ) -> Self {
        let pair = |(a, b): (usize, usize)| (a as u32, b as u32);
        let sizes = [pair((self.width, self.height)), pair(to)];
        let [columns, rows] = parts;
        Rgb8 {
            width: columns.1 - columns.0,
            height: rows.1 - rows.0,
            data: resize_part(&self.data, 3, sizes, [pair(columns), pair(rows)], filter),
        }
    }

    /// The picture turned and mirrored as `orientation` asks.
    fn turned(self, orientation: u8) -> Self {
        let (width, height) = (self.width, self.height);
        let (right, bottom) = (width.wrapping_sub(1), height.wrapping_sub(1));
        // From a place in the result to that in the file.
        let source = |x: usize, y: usize| match orientation {
            2 => (right - x, y),
            3 => (right - x, bottom - y),
            4 => (x, bottom - y),
            5 => (y, x),
            6 => (y, bottom - x),
            7 => (right - y, bottom - x),
            _ => (right - y, x),
        };
        let (to_width, to_height) = match orientation {
            1 => return self,
            2..=4 => (width, height),
            _ => (height, width),
        };
        let mut data = Vec::with_capacity(self.data.len());
        for y in 0..to_height {
            for x in 0..to_width {
                let (x, y) = source(x, y);
                let at = (y * width + x) * 3;
                data.extend_from_slice(&self.data[at..at + 3]);
            }
        }
        Rgb8 {
            width: to_width,
            height: to_height,
            data,
        }
    }
}

/// Writes the square of `side` pixels at `(top, left)` to `out [3, side, side]`, channel by channel.
pub(super) fn planes(rgb: &Rgb8, (top, left): (usize, usize), side: usize, out: &mut [u8]) {
    let (red, rest) = out.split_at_mut(side * side);
    let (green, blue) = rest.split_at_mut(side * side);
    for y in 0..side {
        let start = ((top + y) * rgb.width + left) * 3;
        let line = rgb.data[start..start + side * 3].chunks_exact(3);
        let row = y * side..(y + 1) * side;
        let to = red[row.clone()].iter_mut().zip(&mut green[row.clone()]);
        for ((to, blue), pixel) in to.zip(&mut blue[row]).zip(line) {
            (*to.0, *to.1, *blue) = (pixel[0], pixel[1], pixel[2]);
        }
    }
}
