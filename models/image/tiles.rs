//! InternVL's way with pictures: a grid of equal tiles in proportions closest to the picture's,
//! and the whole picture as one tile more.

use svg::Filter;

use super::picture::ProcessedPicture;
use super::rgb8::{Rgb8, planes};

/// Tiles of one size in the picture's proportions, and the whole picture as one more when there
/// are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    /// Side of a tile.
    pub side: i64,
    /// Tokens of a tile.
    pub tokens: i64,
    /// Least number of tiles, the whole picture apart.
    pub least: i64,
    /// Largest number of them.
    pub most: i64,
    /// Whether the whole picture is added.
    pub thumbnail: bool,
}

/// How one picture is tiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TileGrid {
    columns: i64,
    rows: i64,
    /// Tiles, the whole picture's among them where it is added.
    pub(super) tiles: i64,
}

impl Tiles {
    /// The tiles of a picture of `(width, height)` pixels: of all grids with as many tiles as
    /// allowed the one closest in proportions; among equals one with more tiles where the picture
    /// has more than half its area.
    pub(super) fn grid(&self, (width, height): (usize, usize)) -> TileGrid {
        let (side, least, most) = (self.side, self.least, self.most);
        let mut grids: Vec<(i64, i64)> = (1..=most)
            .flat_map(|columns| (1..=most).map(move |rows| (columns, rows)))
            .filter(|(columns, rows)| (least..=most).contains(&(columns * rows)))
            .collect();
        grids.sort_by_key(|(columns, rows)| columns * rows);
        let ratio = width as f64 / height as f64;
        let area = (width * height) as f64;
        let (mut best, mut distance) = ((1, 1), f64::INFINITY);
        for (columns, rows) in grids {
            let own = (ratio - columns as f64 / rows as f64).abs();
            let large = area > 0.5 * (side * side * columns * rows) as f64;
            if own < distance || (own == distance && large) {
                best = (columns, rows);
                distance = own;
            }
        }
        let (columns, rows) = best;
        let tiles = columns * rows;
        TileGrid {
            columns,
            rows,
            tiles: tiles + i64::from(self.thumbnail && tiles > 1),
        }
    }

    /// Resizes a picture with `filter` and cuts it.
    pub(super) fn cut(&self, rgb: &Rgb8, filter: Filter) -> ProcessedPicture {
        let TileGrid {
            columns,
            rows,
            tiles,
        } = self.grid((rgb.width, rgb.height));
        let (side, tokens) = (self.side, self.tokens);
        let side = side as usize;
        let whole = rgb.resized(side * columns as usize, side * rows as usize, filter);
        let one = 3 * side * side;
        let mut pixels = vec![0; (columns * rows) as usize * one];
        for (index, out) in pixels.chunks_exact_mut(one).enumerate() {
            let (row, column) = (index / columns as usize, index % columns as usize);
            planes(&whole, (row * side, column * side), side, out);
        }
        if tiles > columns * rows {
            pixels.resize(pixels.len() + one, 0);
            let last = pixels.len() - one;
            let small = rgb.resized(side, side, filter);
            planes(&small, (0, 0), side, &mut pixels[last..]);
        }
        ProcessedPicture {
            pixels,
            rows: tiles,
            grid: (tiles, 1),
            tokens: tiles * tokens,
        }
    }
}
