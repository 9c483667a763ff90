//! What a picture looks like, in numbers small enough to keep for every row: how much its colours
//! vary, and a hash that like pictures share most of.

use svg::{Filter, Raster, resize};

/// Bits kept of each channel when colours are counted.
const BITS: u32 = 3;
/// Levels by which the mean colours of alike pictures may differ in any sixteenth.
const COLOUR: u8 = 12;

/// Bits of Shannon entropy of the picture's colours over white, red, green and blue in eight steps each:
/// 0 for one colour, at most 9.
pub fn colour_entropy(raster: &Raster) -> f64 {
    let mut counts = [0u64; 1 << (3 * BITS)];
    let rgb = raster.rgb_over([255; 3]);
    for pixel in rgb.as_chunks::<3>().0 {
        let bin = pixel.iter().fold(0, |bin, level| {
            (bin << BITS) | usize::from(level >> (8 - BITS))
        });
        counts[bin] += 1;
    }
    let all = counts.iter().sum::<u64>().max(1) as f64;
    let parts = counts.iter().filter(|count| **count > 0);
    let entropy: f64 = parts
        .map(|count| {
            let share = *count as f64 / all;
            -share * share.log2()
        })
        .sum();
    entropy.max(0.0)
}

/// Whether every pixel is the same, so that there is nothing to see or to compare.
pub fn is_blank(raster: &Raster) -> bool {
    let pixels = raster.rgba.as_chunks::<4>().0;
    let seen = |pixel: &[u8; 4]| match pixel[3] {
        // Without opacity there is no colour.
        0 => [0; 4],
        _ => *pixel,
    };
    let first = pixels.first().map(seen);
    pixels.iter().all(|pixel| Some(seen(pixel)) == first)
}

/// What alike pictures have in common: a difference hash of brightness, and coarse colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerceptualHash {
    /// Whether brightness grows from each of 9 by 8 cells to its right neighbour.
    pub bits: u64,
    /// Mean colours of 4 by 4 cells.
    pub colours: [u8; 48],
}

impl PerceptualHash {
    /// Of a picture over white.
    pub fn of(raster: &Raster) -> Self {
        let rgb = raster.rgb_over([255; 3]);
        let size = (raster.width, raster.height);
        let small = resize(&rgb, 3, size, (9, 8), Filter::Bilinear);
        let luma = |pixel: &[u8; 3]| {
            299 * u32::from(pixel[0]) + 587 * u32::from(pixel[1]) + 114 * u32::from(pixel[2])
        };
        let cells: Vec<u32> = small.as_chunks::<3>().0.iter().map(luma).collect();
        let bits = cells.chunks(9).fold(0, |bits, line| {
            line.windows(2).fold(bits, |bits, pair| {
                (bits << 1) | u64::from(pair[0] < pair[1])
            })
        });
        let mut colours = [0; 48];
        colours.copy_from_slice(&resize(&rgb, 3, size, (4, 4), Filter::Bilinear));
        Self { bits, colours }
    }

    /// Whether at most `distance` bits of the hash differ and no cell's colour by much.
    pub fn is_near(&self, other: &Self, distance: u32) -> bool {
        let mut colours = self.colours.iter().zip(&other.colours);
        (self.bits ^ other.bits).count_ones() <= distance
            && colours.all(|(a, b)| a.abs_diff(*b) <= COLOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(left: [u8; 4], right: [u8; 4]) -> Raster {
        let line = [left.repeat(16), right.repeat(16)].concat();
        Raster {
            width: 32,
            height: 32,
            rgba: line.repeat(32),
        }
    }

    #[test]
    fn entropy_counts_colours_by_their_share() {
        let (red, blue) = ([255, 0, 0, 255], [0, 0, 255, 255]);
        assert_eq!(colour_entropy(&halves(red, red)), 0.0);
        assert_eq!(colour_entropy(&halves(red, blue)), 1.0);
        assert!(is_blank(&halves([1, 2, 3, 0], [4, 5, 6, 0])));
        assert!(!is_blank(&halves([255; 4], [255, 255, 255, 0])));
    }

    #[test]
    fn the_hash_tells_shape_and_colour_apart() {
        let (red, blue) = ([255, 0, 0, 255], [0, 0, 255, 255]);
        let of = |left, right| PerceptualHash::of(&halves(left, right));
        assert!(of(red, blue).is_near(&of([250, 0, 0, 255], blue), 0));
        assert!(!of(red, blue).is_near(&of(blue, red), 3));
        assert!(!of(red, blue).is_near(&of([0, 200, 0, 255], blue), 64));
    }
}
