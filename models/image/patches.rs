//! Qwen-VL's way with pictures: a size that is a multiple of a factor and within bounds of area,
//! then patches, those that are merged next to each other.

use svg::Filter;

use super::picture::ProcessedPicture;
use super::rgb8::{Rgb8, planes};
use crate::ModelError;

/// Most times a picture may be longer than wide.
const RATIO: i64 = 200;

/// Patches of a picture that was resized within bounds of area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patches {
    /// Side of a patch.
    pub patch: i64,
    /// Patches along each side that are merged.
    pub merge: i64,
    /// Least area, in pixels.
    pub min_pixels: i64,
    /// Largest area, in pixels.
    pub max_pixels: i64,
}

impl Patches {
    /// Resizes a picture with `filter` and cuts it.
    ///
    /// # Errors
    /// A picture more than 200 times as long as wide.
    pub(super) fn cut(&self, rgb: &Rgb8, filter: Filter) -> Result<ProcessedPicture, ModelError> {
        let to = self.size((rgb.height as i64, rgb.width as i64))?;
        let resized = rgb.resized(to.1 as usize, to.0 as usize, filter);
        Ok(cut(&resized, self.patch as usize, self.merge as usize))
    }

    /// Image tokens of a picture of `(width, height)` pixels.
    ///
    /// # Errors
    /// As [`Self::cut`].
    pub(super) fn tokens(&self, (width, height): (usize, usize)) -> Result<i64, ModelError> {
        let (height, width) = self.size((height as i64, width as i64))?;
        let factor = self.patch * self.merge;
        Ok(height / factor * (width / factor))
    }

    /// Height and width to resize to: multiples of a token's side, the area within bounds, the
    /// proportions kept as well as that allows.
    ///
    /// # Errors
    /// A picture more than 200 times as long as wide.
    fn size(&self, (height, width): (i64, i64)) -> Result<(i64, i64), ModelError> {
        let factor = self.patch * self.merge;
        let (least, most) = (self.min_pixels, self.max_pixels);
        if height.max(width) > RATIO * height.min(width) {
            return Err(ModelError::Image(format!(
                "{width}x{height} pixels: one side is more than {RATIO} times the other"
            )));
        }
        let (high, wide, step) = (height as f64, width as f64, factor as f64);
        // Python's rounding: halves to the even neighbour.
        let nearest = |side: f64| (side / step).round_ties_even() as i64 * factor;
        let area = nearest(high) * nearest(wide);
        Ok(if area > most {
            let shrink = (high * wide / most as f64).sqrt();
            let fit = |side: f64| factor.max((side / shrink / step).floor() as i64 * factor);
            (fit(high), fit(wide))
        } else if area < least {
            let grow = (least as f64 / (high * wide)).sqrt();
            let fit = |side: f64| (side * grow / step).ceil() as i64 * factor;
            (fit(high), fit(wide))
        } else {
            (nearest(high), nearest(wide))
        })
    }
}

impl Patches {
    /// The resized picture that was cut into these patches.
    pub(super) fn whole(&self, picture: &ProcessedPicture) -> Rgb8 {
        let (patch, merge) = (self.patch as usize, self.merge as usize);
        let (rows, columns) = (picture.grid.0 as usize, picture.grid.1 as usize);
        let (width, height) = (columns * patch, rows * patch);
        let mut data = vec![0; 3 * width * height];
        for (index, planes) in picture.pixels.chunks_exact(3 * patch * patch).enumerate() {
            let (block, within) = (index / (merge * merge), index % (merge * merge));
            let across = columns / merge;
            let row = block / across * merge + within / merge;
            let column = block % across * merge + within % merge;
            for (at, value) in planes.iter().enumerate() {
                let (channel, place) = (at / (patch * patch), at % (patch * patch));
                let (y, x) = (row * patch + place / patch, column * patch + place % patch);
                data[3 * (y * width + x) + channel] = *value;
            }
        }
        Rgb8 {
            width,
            height,
            data,
        }
    }
}

/// Cuts a picture whose sides are multiples of `patch * merge`.
fn cut(rgb: &Rgb8, patch: usize, merge: usize) -> ProcessedPicture {
    let (rows, columns) = (rgb.height / patch, rgb.width / patch);
    let mut pixels = vec![0; rgb.data.len()];
    let mut patches = pixels.chunks_exact_mut(3 * patch * patch);
    let blocks = |rows: usize, columns: usize| {
        (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
    };
    for (block_row, block_column) in blocks(rows / merge, columns / merge) {
        for ((row, column), out) in blocks(merge, merge).zip(&mut patches) {
            let top = (block_row * merge + row) * patch;
            let left = (block_column * merge + column) * patch;
            planes(rgb, (top, left), patch, out);
        }
    }
    ProcessedPicture {
        pixels,
        rows: (rows * columns) as i64,
        grid: (rows as i64, columns as i64),
        tokens: (rows * columns / merge / merge) as i64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_picture_is_put_together_again() {
        let (width, height) = (24, 16);
        let data: Vec<u8> = (0..3 * width * height)
            .map(|at| (at * 7 % 251) as u8)
            .collect();
        let rgb = Rgb8 {
            width,
            height,
            data,
        };
        let patches = Patches {
            patch: 4,
            merge: 2,
            min_pixels: 1,
            max_pixels: 1 << 20,
        };
        let picture = cut(&rgb, 4, 2);
        assert_ne!(picture.pixels, rgb.data);
        assert_eq!(patches.whole(&picture), rgb);
    }
}
