//! The sloppy teacher: the drawing of a scene with its faults.

use super::super::config::TeacherNoise;
use super::super::shuffle::Stream;
use super::scene::{COLOURS, FIGURES, Placed, Scene, svg_of};

/// A flawed drawing of `scene`. A cut file keeps between a third and all but one of its
/// characters, so it never parses.
pub(super) fn sloppy(scene: &Scene, noise: &TeacherNoise, stream: &mut Stream) -> String {
    let shapes: Vec<Placed> = scene
        .placed()
        .into_iter()
        .map(|shape| displaced(shape, noise, stream))
        .collect();
    let mut svg = svg_of(&shapes);
    if stream.unit() < noise.cut_short {
        let least = svg.len() / 3;
        svg.truncate(least + stream.below(svg.len() - least));
    }
    svg
}

fn displaced(exact: Placed, noise: &TeacherNoise, stream: &mut Stream) -> Placed {
    let radius = exact.radius * (1.0 + stream.within(noise.size));
    // On the canvas as a whole, which keeps every number below 129 and positive.
    let inside = |place: f64| place.clamp(radius.min(64.0), (128.0 - radius).max(64.0));
    let x = inside(exact.x + stream.within(noise.position));
    let y = inside(exact.y + stream.within(noise.position));
    let colour = if stream.unit() < noise.wrong_colour {
        another(exact.colour, &COLOURS, stream)
    } else {
        exact.colour
    };
    let figure = if stream.unit() < noise.wrong_shape {
        another(exact.figure, &FIGURES, stream)
    } else {
        exact.figure
    };
    Placed {
        figure,
        colour,
        x,
        y,
        radius,
    }
}

/// A uniform choice among those that differ from `value`.
fn another<T: Copy + PartialEq>(value: T, choices: &[T], stream: &mut Stream) -> T {
    let others: Vec<T> = choices.iter().copied().filter(|c| *c != value).collect();
    stream.choose(&others)
}
