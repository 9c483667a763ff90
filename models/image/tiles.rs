//! InternVL's way with pictures: a grid of equal tiles in proportions closest to the picture's,
//! and the whole picture as one tile more.

use svg::Filter;

use super::{Picture, Rgb8};

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

/// Cuts a picture into tiles of `side` pixels and `tokens` tokens each.
pub(super) fn cut(
    rgb: &Rgb8,
    (side, tokens): (i64, i64),
    (count, thumbnail): ((i64, i64), bool),
    filter: Filter,
) -> Picture {
    let (columns, rows) = match count.1 {
        1 => (1, 1),
        _ => grid((rgb.width, rgb.height), side, count),
    };
    let side = side as usize;
    let whole = rgb.resized(side * columns as usize, side * rows as usize, filter);
    let mut pixels = Vec::with_capacity(whole.data.len() + 3 * side * side);
    for row in 0..rows as usize {
        for column in 0..columns as usize {
            tile(&whole, (row * side, column * side), side, &mut pixels);
        }
    }
    let mut tiles = columns * rows;
    if thumbnail && tiles > 1 {
        tile(&rgb.resized(side, side, filter), (0, 0), side, &mut pixels);
        tiles += 1;
    }
    Picture {
        pixels,
        rows: tiles,
        grid: (tiles, 1),
        tokens: tiles * tokens,
    }
}

/// Appends the square at `(top, left)`, channel by channel.
fn tile(rgb: &Rgb8, (top, left): (usize, usize), side: usize, pixels: &mut Vec<u8>) {
    for channel in 0..3 {
        for y in top..top + side {
            let start = (y * rgb.width + left) * 3;
            let line = &rgb.data[start..start + side * 3];
            pixels.extend(line.iter().skip(channel).step_by(3));
        }
    }
}
