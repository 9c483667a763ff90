//! The renderer: one call from source text to pixels, in process where the work is bounded, in a
//! worker process where it is not.

use crate::config::RenderConfig;
use crate::document::{SizedDocument, parse, prepare};
use crate::draw::{DrawOptions, draw};
use crate::failure::{Failure, Reason};
use crate::isolate::{caught, has_large_stack};
use crate::lanes::WatchdogThreads;
use crate::pool::{Pool, WorkerProgram};
use crate::protocol::DrawRequest;
use crate::raster::Raster;
use crate::survey::{RenderTier, survey};
use crate::target::Target;
use std::time::Duration;

/// Bytes of a document that may be read and drawn unwatched, and the least deadline for which what the
/// survey lets be drawn so is short.
const UNWATCHED_BYTES: usize = 16 << 10;
const UNWATCHED_DEADLINE: Duration = Duration::from_secs(1);

/// How long a caller waits for one document before it turns to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitBudget {
    /// Not for a worker process.
    Here,
    /// For what a worker process draws in a moment: text, for instance, which is mostly short work but
    /// cannot be told beforehand.
    Moment,
    /// Until the deadline.
    Deadline,
}

/// A quarter of a second: a worker process has started and drawn a usual text in a fraction of it.
const MOMENT: Duration = Duration::from_millis(250);

/// A picture and the size its document gave itself (CSS pixels).
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The picture.
    pub raster: Raster,
    /// Width and height of the document, CSS pixels.
    pub intrinsic: (f64, f64),
}

/// Draws documents; shared by threads, which may draw at the same time.
pub struct Renderer {
    pool: Pool,
    lanes: WatchdogThreads,
    deadline: Duration,
}

impl Renderer {
    /// `deadline` is what one document may take; only those whose work the limits cannot bound come
    /// near it. Fails with `worker_unavailable` when the worker program cannot be found.
    pub fn new(program: &WorkerProgram, deadline: Duration) -> Result<Self, Failure> {
        Ok(Renderer {
            lanes: WatchdogThreads::default(),
            pool: Pool::new(program)?,
            deadline,
        })
    }

    /// What one document may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Draws one document. Whatever the text holds, this returns: a picture, or the reason why not.
    pub fn render(
        &self,
        source: &str,
        target: Target,
        config: &RenderConfig,
    ) -> Result<Rendered, Failure> {
        let _span = tracing::trace_span!("render", bytes = source.len()).entered();
        let step = self.first(source, target, config)?;
        self.finished(step, config, self.deadline)
    }

    /// [`Self::render`] for a caller who has others to draw: none where this one takes more than `patience`.
    ///
    /// # Errors
    /// The reason why the document cannot be drawn.
    pub fn render_within(
        &self,
        source: &str,
        (target, config): (Target, &RenderConfig),
        patience: WaitBudget,
    ) -> Result<Option<Rendered>, Failure> {
        let _span = tracing::trace_span!("render", bytes = source.len()).entered();
        let step = self.first(source, target, config)?;
        let drawn = step.raster.is_some();
        match patience {
            WaitBudget::Here if !drawn => Ok(None),
            WaitBudget::Moment if !drawn && MOMENT < self.deadline => {
                match self.finished(step, config, MOMENT) {
                    Err(late) if late.reason == Reason::Deadline => Ok(None),
                    answer => answer.map(Some),
                }
            }
            _ => self.finished(step, config, self.deadline).map(Some),
        }
    }

    /// [`Self::render`] by a worker process whatever the survey says: what a worker costs, measured.
    pub(crate) fn render_isolated(
        &self,
        source: &str,
        target: Target,
        config: &RenderConfig,
    ) -> Result<Rendered, Failure> {
        let step = caught(|| first_step(source, target, config, None))?;
        self.finished(step, config, self.deadline)
    }

    /// Takes a document to its end, by a worker process where it is not drawn yet.
    fn finished(
        &self,
        step: Step,
        config: &RenderConfig,
        deadline: Duration,
    ) -> Result<Rendered, Failure> {
        let raster = match step.raster {
            Some(raster) => raster,
            None => {
                let request = DrawRequest {
                    canvas: step.prepared.canvas,
                    options: draw_options(config),
                    deadline_ms: deadline.as_millis().max(1) as u64,
                };
                self.pool.draw(&request, &step.prepared.source)?
            }
        };
        Ok(Rendered {
            raster,
            intrinsic: step.prepared.intrinsic,
        })
    }

    /// As far as this process takes it.
    fn first(&self, source: &str, target: Target, config: &RenderConfig) -> Result<Step, Failure> {
        let open = self.lanes.are_open();
        // Changing threads would cost a short drawing a tenth of its time.
        let short = source.len() <= UNWATCHED_BYTES && self.deadline >= UNWATCHED_DEADLINE;
        if open && short && has_large_stack() {
            let own = caught(|| first_step(source, target, config, Some(RenderTier::Unwatched)))?;
            if own.raster.is_some() || own.tier == RenderTier::Worker {
                return Ok(own);
            }
        }
        let (owned, settings) = (source.to_owned(), config.clone());
        let most = open.then_some(RenderTier::Here);
        self.lanes.run(self.deadline, move || {
            first_step(&owned, target, &settings, most)
        })
    }
}

/// Draws a document that this project wrote itself, in this thread and without a deadline; limits
/// hold all the same.
///
/// # Errors
/// The reason why it cannot be drawn.
pub fn draw_own(source: &str, target: Target, config: &RenderConfig) -> Result<Raster, Failure> {
    let prepared = prepare(source, target, config)?;
    let document = parse(&prepared.source, &config.limits)?;
    draw(&document, prepared.canvas, draw_options(config))
}

/// A document as far as this process takes it.
struct Step {
    prepared: SizedDocument,
    tier: RenderTier,
    raster: Option<Raster>,
}

/// Checks and parses; draws too where the survey's answer is `most` or asks for less.
fn first_step(
    source: &str,
    target: Target,
    config: &RenderConfig,
    most: Option<RenderTier>,
) -> Result<Step, Failure> {
    let prepared = prepare(source, target, config)?;
    let document = parse(&prepared.source, &config.limits)?;
    let tier = survey(
        &document,
        prepared.canvas,
        prepared.pixels_per_unit,
        &config.limits,
    )?;
    let draws = most.is_some_and(|most| tier <= most);
    let raster = draws.then(|| draw(&document, prepared.canvas, draw_options(config)));
    let raster = raster.transpose()?;
    drop(document);
    Ok(Step {
        prepared,
        tier,
        raster,
    })
}

fn draw_options(config: &RenderConfig) -> DrawOptions {
    DrawOptions {
        background: config.background,
        system_fonts: config.system_fonts,
    }
}
