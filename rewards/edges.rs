//! Edges as OpenCV's Canny finds them, at thresholds 50 and 150 on grey, dilated by 3x3, as RLRF's rewards use them.
//!
//! Canny follows OpenCV 4 bit for bit: 3x3 Sobel with repeated borders, L1 gradient, fixed-point
//! direction test, hysteresis over eight neighbours.

use crate::picture::Picture;

const LOW: i32 = 50;
const HIGH: i32 = 150;

/// The dilated edges `[height, width]`.
pub(crate) fn dilated_edges(picture: &Picture) -> Vec<bool> {
    let (width, height) = (picture.width, picture.height);
    dilate(&canny(&grey(picture), width, height), width, height)
}

/// The dilated edges as a picture, white on black; RLRF compares them by LPIPS and DreamSim, not blurred.
pub(crate) fn edge_picture(picture: &Picture) -> Picture {
    let edges = dilated_edges(picture);
    Picture {
        width: picture.width,
        height: picture.height,
        rgb: edges
            .iter()
            .flat_map(|&edge| [if edge { 255 } else { 0 }; 3])
            .collect(),
    }
}

/// OpenCV's 8-bit RGB to grey: 15-bit weights, rounded.
pub(crate) fn grey(picture: &Picture) -> Vec<u8> {
    let weigh = |p: &[u8; 3]| {
        (u32::from(p[0]) * 9798 + u32::from(p[1]) * 19235 + u32::from(p[2]) * 3735 + (1 << 14))
            >> 15
    };
    picture
        .rgb
        .as_chunks::<3>()
        .0
        .iter()
        .map(|p| weigh(p) as u8)
        .collect()
}

/// Edge pixels of a grey image `[height, width]`.
pub(crate) fn canny(grey: &[u8], width: usize, height: usize) -> Vec<bool> {
    let at = |x: isize, y: isize| -> i32 {
        let x = x.clamp(0, width as isize - 1) as usize;
        let y = y.clamp(0, height as isize - 1) as usize;
        i32::from(grey[y * width + x])
    };
    let mut gradient = Vec::with_capacity(grey.len());
    for y in 0..height as isize {
        for x in 0..width as isize {
            let column = |x: isize| at(x, y - 1) + 2 * at(x, y) + at(x, y + 1);
            let row = |y: isize| at(x - 1, y) + 2 * at(x, y) + at(x + 1, y);
            gradient.push((column(x + 1) - column(x - 1), row(y + 1) - row(y - 1)));
        }
    }
    // Magnitudes with a frame of zeros, so that neighbours outside never win.
    let stride = width + 2;
    let mut magnitude = vec![0i32; stride * (height + 2)];
    for (i, (dx, dy)) in gradient.iter().enumerate() {
        magnitude[(i / width + 1) * stride + i % width + 1] = dx.abs() + dy.abs();
    }
    let mut state = vec![0u8; stride * (height + 2)];
    let mut strong = Vec::new();
    for (i, &gradient) in gradient.iter().enumerate() {
        let place = (i / width + 1) * stride + i % width + 1;
        if magnitude[place] > LOW && is_ridge(&magnitude, place, stride, gradient) {
            state[place] = 1;
            if magnitude[place] > HIGH {
                state[place] = 2;
                strong.push(place);
            }
        }
    }
    while let Some(place) = strong.pop() {
        for near in [place - stride, place, place + stride]
            .into_iter()
            .flat_map(|p| [p - 1, p, p + 1])
        {
            if state[near] == 1 {
                state[near] = 2;
                strong.push(near);
            }
        }
    }
    (0..grey.len())
        .map(|i| state[(i / width + 1) * stride + i % width + 1] == 2)
        .collect()
}

/// Whether a magnitude is the largest across its edge; ties go to the earlier neighbour's loss.
fn is_ridge(magnitude: &[i32], place: usize, stride: usize, (dx, dy): (i32, i32)) -> bool {
    /// tan(22.5 degrees) in 15-bit fixed point.
    const TAN: i64 = 13573;
    let m = magnitude[place];
    let (x, y) = (i64::from(dx.abs()), i64::from(dy.abs()) << 15);
    let low = x * TAN;
    if y < low {
        m > magnitude[place - 1] && m >= magnitude[place + 1]
    } else if y > low + (x << 16) {
        m > magnitude[place - stride] && m >= magnitude[place + stride]
    } else if (dx ^ dy) < 0 {
        m > magnitude[place - stride + 1] && m > magnitude[place + stride - 1]
    } else {
        m > magnitude[place - stride - 1] && m > magnitude[place + stride + 1]
    }
}

/// A pixel is set when any of its 3x3 neighbourhood is.
fn dilate(edges: &[bool], width: usize, height: usize) -> Vec<bool> {
    let near = |i: usize, n: usize| i.saturating_sub(1)..(i + 2).min(n);
    let wide: Vec<bool> = (0..edges.len())
        .map(|i| near(i % width, width).any(|x| edges[i / width * width + x]))
        .collect();
    (0..edges.len())
        .map(|i| near(i / width, height).any(|y| wide[y * width + i % width]))
        .collect()
}
