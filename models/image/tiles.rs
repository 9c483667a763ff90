//! InternVL's way with pictures: a grid of equal tiles in proportions closest to the picture's,
//! and the whole picture as one tile more.

use svg::Filter;

use super::picture::Picture;
use super::rgb8::{Rgb8, planes};

/// Columns and rows of the grid for a picture of `size` (width, height): of all grids with
/// `least` to `most` tiles of `side` pixels the one closest in proportions; among equals one with
/// more tiles where the picture has more than half its area.
pub(super) fn grid(
    (width, height): (usize, usize),
    side: i64,
    (least, most): (i64, i64),
) -> (i64, i64) {
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
    best
}

/// The grid for a picture of `size` (width, height), and its tiles with the whole picture's.
pub(super) fn count(
    size: (usize, usize),
    side: i64,
    (count, thumbnail): ((i64, i64), bool),
) -> ((i64, i64), i64) {
    let (columns, rows) = match count.1 {
        1 => (1, 1),
        _ => grid(size, side, count),
    };
    let tiles = columns * rows;
    ((columns, rows), tiles + i64::from(thumbnail && tiles > 1))
}

/// Cuts a picture into tiles of `side` pixels and `tokens` tokens each.
pub(super) fn cut(
    rgb: &Rgb8,
    (side, tokens): (i64, i64),
    (count, thumbnail): ((i64, i64), bool),
    filter: Filter,
) -> Picture {
    let ((columns, rows), tiles) = self::count((rgb.width, rgb.height), side, (count, thumbnail));
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
    Picture {
        pixels,
        rows: tiles,
        grid: (tiles, 1),
        tokens: tiles * tokens,
    }
}
