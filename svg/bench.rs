//! Throughput of parsing and rendering, beside resvg with no limits and no fonts: what safety costs.

use crate::config::RenderConfig;
use crate::renderer::{Renderer, Target};
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::time::{Duration, Instant};

/// Pictures a second on one thread.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Throughput {
    /// With limits, survey, fonts, and the worker process where it is needed.
    pub guarded_per_s: f64,
    /// resvg alone.
    pub bare_per_s: f64,
    /// Fraction of the documents that rendered when guarded.
    pub rendered_frac: f64,
}

/// Draws all `sources` at `size` pixels on white, in alternating passes of the two kinds, until
/// `duration` has gone by (at least one pass of each).
pub fn throughput(
    renderer: &Renderer,
    sources: &[String],
    size: u32,
    duration: Duration,
) -> Throughput {
    let config = RenderConfig {
        size,
        ..RenderConfig::default()
    };
    let target = Target::Longest(size);
    let options = Options::default();
    let (mut guarded, mut bare, mut rendered, mut passes) =
        (Duration::ZERO, Duration::ZERO, 0usize, 0usize);
    let start = Instant::now();
    while passes == 0 || start.elapsed() < duration {
        let pass = Instant::now();
        rendered = sources
            .iter()
            .filter(|s| renderer.render(s, target, &config).is_ok())
            .count();
        guarded += pass.elapsed();
        let pass = Instant::now();
        for source in sources {
            // A failure here is a failure above as well; its time still counts.
            let _ = draw_bare(source, size, &options);
        }
        bare += pass.elapsed();
        passes += 1;
    }
    let total = (passes * sources.len()) as f64;
    Throughput {
        guarded_per_s: total / guarded.as_secs_f64(),
        bare_per_s: total / bare.as_secs_f64(),
        rendered_frac: rendered as f64 / sources.len().max(1) as f64,
    }
}

fn draw_bare(source: &str, size: u32, options: &Options<'_>) -> Option<Pixmap> {
    let tree = Tree::from_str(source, options).ok()?;
    let own = tree.size();
    let scale = size as f32 / own.width().max(own.height());
    let side = |v: f32| ((v * scale).round() as u32).clamp(1, size);
    let mut pixmap = Pixmap::new(side(own.width()), side(own.height()))?;
    pixmap.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(scale, scale),
        &mut pixmap.as_mut(),
    );
    Some(pixmap)
}
