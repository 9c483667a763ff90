//! Throughput of parsing and rendering, beside resvg with no limits and no fonts: what safety costs; and
//! beside worker processes alone.
//! Processor time is counted besides the clock's, so that figures taken on a busy machine can be compared.

use crate::config::RenderConfig;
use crate::failure::Failure;
use crate::isolate::on_large_stack;
use crate::renderer::{Renderer, WaitBudget};
use crate::target::Target;
use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Pictures a second.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Throughput {
    /// With limits, survey, fonts, and the worker process where it is needed: by the clock.
    pub guarded_per_s: f64,
    /// resvg alone, by the clock.
    pub bare_per_s: f64,
    /// The former per second of processor time, all threads and worker processes counted.
    pub guarded_per_cpu_s: f64,
    /// The latter per second of processor time.
    pub bare_per_cpu_s: f64,
    /// Fraction of the documents that rendered when guarded.
    pub rendered_frac: f64,
}

/// What a worker process costs, by the clock.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Isolation {
    /// Pictures a second as documents are drawn always: by a worker process where it is needed.
    pub guarded_per_s: f64,
    /// Pictures a second with every document sent to a worker process.
    pub isolated_per_s: f64,
    /// Fraction of the documents that need one.
    pub worker_frac: f64,
}

/// Seconds by the clock and of the processor.
#[derive(Clone, Copy, Default)]
struct Spent {
    wall: f64,
    cpu: f64,
}

impl Spent {
    fn on(&mut self, work: impl FnOnce()) {
        let (start, before) = (Instant::now(), process_seconds());
        work();
        self.cpu += process_seconds() - before;
        self.wall += start.elapsed().as_secs_f64();
    }
}

/// Draws all `sources` at `size` pixels on white in the two ways, a few documents in turn, until
/// `duration` has gone by (at least once all of them), on a thread like those that score.
///
/// # Errors
/// No such thread.
pub fn throughput(
    renderer: Renderer,
    sources: &[String],
    size: u32,
    duration: Duration,
) -> Result<Throughput, Failure> {
    on_large_stack(|| Ok(measure(renderer, sources, size, duration)))
}

/// Draws all `sources` at `size` pixels on white with and without leave to draw in this process, a few
/// documents in turn, until `duration` has gone by (at least once all of them).
///
/// # Errors
/// No thread like those that score.
pub fn isolation(
    renderer: &Renderer,
    sources: &[String],
    size: u32,
    duration: Duration,
) -> Result<Isolation, Failure> {
    let (config, target) = white(size);
    on_large_stack(|| {
        let here = |s: &str| renderer.render_within(s, (target, &config), WaitBudget::Here);
        let sent = |s: &&String| matches!(here(s), Ok(None));
        let sent = sources.iter().filter(sent).count();
        let (mut guarded, mut isolated) = (Spent::default(), Spent::default());
        let (start, mut passes) = (Instant::now(), 0usize);
        while passes == 0 || start.elapsed() < duration {
            // What fails does so in both ways, and its time counts in both.
            let guard = |source: &String| drop(renderer.render(source, target, &config));
            let isolate = |source: &String| drop(renderer.render_isolated(source, target, &config));
            let spent = (&mut guarded, &mut isolated);
            in_turn(sources, passes, spent, (guard, isolate));
            passes += 1;
        }
        let total = (passes * sources.len()) as f64;
        Ok(Isolation {
            guarded_per_s: total / guarded.wall,
            isolated_per_s: total / isolated.wall,
            worker_frac: sent as f64 / sources.len().max(1) as f64,
        })
    })
}

fn measure(renderer: Renderer, sources: &[String], size: u32, duration: Duration) -> Throughput {
    let (config, target) = white(size);
    let options = Options::default();
    let (mut guarded, mut bare) = (Spent::default(), Spent::default());
    let (mut rendered, mut passes) = (0usize, 0usize);
    let (start, children) = (Instant::now(), children_seconds());
    while passes == 0 || start.elapsed() < duration {
        let guard = |source: &String| {
            rendered += usize::from(renderer.render(source, target, &config).is_ok());
        };
        // A failure here is a failure above as well; its time still counts.
        let strip = |source: &String| drop(draw_bare(source, size, &options));
        in_turn(sources, passes, (&mut guarded, &mut bare), (guard, strip));
        passes += 1;
    }
    // Worker processes count once they have ended.
    drop(renderer);
    guarded.cpu += children_seconds() - children;
    let total = (passes * sources.len()) as f64;
    Throughput {
        guarded_per_s: total / guarded.wall,
        bare_per_s: total / bare.wall,
        guarded_per_cpu_s: total / guarded.cpu,
        bare_per_cpu_s: total / bare.cpu,
        rendered_frac: rendered as f64 / total.max(1.0),
    }
}

/// Documents drawn in one way before the other has its turn: what a machine does besides, and what it has
/// learnt of a document drawn a moment ago, then falls on both alike.
const TURN: usize = 32;

fn in_turn(
    sources: &[String],
    pass: usize,
    spent: (&mut Spent, &mut Spent),
    mut work: (impl FnMut(&String), impl FnMut(&String)),
) {
    for (turn, part) in sources.chunks(TURN).enumerate() {
        let first = (turn + pass).is_multiple_of(2);
        if first {
            spent.0.on(|| part.iter().for_each(&mut work.0));
        }
        spent.1.on(|| part.iter().for_each(&mut work.1));
        if !first {
            spent.0.on(|| part.iter().for_each(&mut work.0));
        }
    }
}

/// How drawings are asked for: on white, their longer side `size` pixels.
fn white(size: u32) -> (RenderConfig, Target) {
    let config = RenderConfig {
        size,
        ..RenderConfig::default()
    };
    (config, Target::Longest(size))
}

/// Processor time of this process' threads so far, in seconds.
pub fn process_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Processor time of child processes that have ended; 0 where the system does not say.
fn children_seconds() -> f64 {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields follow the program's name in parentheses; the 14th and 15th of them are meant.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: f64 = fields
        .skip(13)
        .take(2)
        .filter_map(|f| f.parse::<f64>().ok())
        .sum();
    ticks / TICKS
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
