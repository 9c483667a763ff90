//! References as a task's rewards see them: drawn, and kept for the group's other completions.

use crate::cache::{Cache, Key, key};
use crate::picture::Picture;
use crate::reference::{MAX_IMAGE_SIDE, Reference};
use crate::rules::{AnyKept, Drawn, ReferencePictures};
use crate::scoring::active::ActiveRewards;
use std::sync::{Arc, Mutex, PoisonError};
use svg::{Failure, Filter, Raster, Reason, RenderConfig, Renderer};

/// Failures that are the machine's, not the drawing's.
const MACHINE: [Reason; 2] = [Reason::WorkerUnavailable, Reason::WorkerCrashed];

/// Pixels beyond which pictures are decoded one at a time: a small file may ask for half a gigabyte.
const LARGE: u64 = 1 << 22;
static TURN: Mutex<()> = Mutex::new(());

/// A task's references, the least recently used leaving first.
pub(crate) struct References {
    renderer: Arc<Renderer>,
    render: RenderConfig,
    rewards: Arc<ActiveRewards>,
    cache: Cache<Result<Arc<KeptReference>, Failure>>,
}

/// What is kept of a reference that can be drawn.
pub(crate) struct KeptReference {
    pub canvas: (u32, u32),
    /// What each reward keeps of it; the metrics' are left out where they were not wanted.
    pub kept: Vec<AnyKept>,
}

impl References {
    /// None yet, and no more than `capacity` at a time.
    pub fn new(
        renderer: Arc<Renderer>,
        render: RenderConfig,
        rewards: Arc<ActiveRewards>,
        capacity: usize,
    ) -> Self {
        References {
            renderer,
            render,
            rewards,
            cache: Cache::new(capacity),
        }
    }

    /// The reference's own; none when it has neither SVG nor image.
    ///
    /// # Errors
    /// Why it cannot be drawn.
    pub fn get(
        &self,
        reference: &Reference,
        metrics: bool,
    ) -> Result<Option<Arc<KeptReference>>, Failure> {
        let places = self.rewards.places(metrics);
        let metrics = places.len() > self.rewards.places(false).len();
        let Some(key) = self.key(reference, metrics)? else {
            return Ok(None);
        };
        let draft = self.needed_draft(reference, metrics);
        let compute = || self.target(reference, metrics, draft).map(Arc::new);
        // What the machine lacked for a moment says nothing of the reference.
        let lasts = |target: &Result<_, Failure>| {
            !target
                .as_ref()
                .is_err_and(|failure| MACHINE.contains(&failure.reason))
        };
        self.cache.get_lasting(key, compute, lasts).map(Some)
    }

    /// Lets what is kept of a reference be made anew: an encoder failed on it.
    pub fn forget(&self, reference: &Reference) {
        for metrics in [false, true] {
            if let Ok(Some(key)) = self.key(reference, metrics) {
                self.cache.remove(&key);
            }
        }
    }

    /// What the prompt showed, where a reward needs it.
    fn needed_draft<'a>(&self, reference: &'a Reference, metrics: bool) -> Option<&'a str> {
        let draft = reference.draft.as_deref();
        draft.filter(|_| self.rewards.need_draft(self.rewards.places(metrics)))
    }

    /// Where it is kept; none when it has neither SVG nor image. What is kept for metrics is kept apart, so that
    /// training does not pay for it.
    fn key(&self, reference: &Reference, metrics: bool) -> Result<Option<Key>, Failure> {
        let draft = self.needed_draft(reference, metrics);
        let beside = [&[u8::from(metrics)], draft.unwrap_or_default().as_bytes()];
        Ok(if let Some(source) = &reference.svg {
            Some(key(&[b"svg", source.as_bytes(), beside[0], beside[1]]))
        } else if let Some(image) = &reference.image {
            let bytes = image.read().map_err(|e| image_failure(&e))?;
            Some(key(&[b"png", &bytes, beside[0], beside[1]]))
        } else {
            None
        })
    }

    fn target(
        &self,
        reference: &Reference,
        metrics: bool,
        draft: Option<&str>,
    ) -> Result<KeptReference, Failure> {
        let drawn = self.draw(reference)?;
        let canvas = (drawn.picture.width as u32, drawn.picture.height as u32);
        let draft = draft.and_then(|source| self.draft(source, canvas));
        let pictures = ReferencePictures {
            drawn: Some(&drawn),
            draft: draft.as_ref(),
        };
        let places = self.rewards.places(metrics);
        let kept = places.map(|index| self.rewards.prepare(index, &pictures));
        Ok(KeptReference {
            canvas,
            kept: kept.collect(),
        })
    }

    fn draw(&self, reference: &Reference) -> Result<Drawn, Failure> {
        let render = &self.render;
        if let Some(source) = &reference.svg {
            let rendered = self.renderer.render(source, render.own_target(), render)?;
            return Ok(Drawn {
                picture: Arc::new(Picture::drawn(&rendered.raster, render)),
                intrinsic: rendered.intrinsic,
            });
        }
        let bytes = match &reference.image {
            Some(image) => image.read().map_err(|e| image_failure(&e))?,
            None => return Err(Failure::new(Reason::NoSvg, "the reference is empty")),
        };
        let size = Raster::size(&bytes).map_err(|e| image_failure(&e))?;
        let large = u64::from(size.0) * u64::from(size.1) > LARGE;
        let _turn = large.then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner));
        let raster = Raster::decode(&bytes, MAX_IMAGE_SIDE).map_err(|e| image_failure(&e))?;
        Ok(Drawn {
            picture: Arc::new(self.fit_image(&Picture::drawn(&raster, render))),
            intrinsic: (f64::from(raster.width), f64::from(raster.height)),
        })
    }

    /// The draft's picture on its reference's pixels; none when it does not render.
    fn draft(&self, source: &str, canvas: (u32, u32)) -> Option<Arc<Picture>> {
        let render = &self.render;
        let target = render.target_beside(canvas);
        let rendered = self.renderer.render(source, target, render).ok()?;
        let picture = Arc::new(Picture::drawn(&rendered.raster, render));
        Some(picture.on_canvas(Some(canvas)))
    }

    /// A reference image on the canvas the task asks for.
    fn fit_image(&self, picture: &Picture) -> Picture {
        let longer = picture.width.max(picture.height) as u32;
        match self.render.own_target() {
            svg::Target::Exact { width, height } => {
                picture.resized(width as usize, height as usize, Filter::Bicubic)
            }
            svg::Target::Longest(side) => picture.longest(side as usize, Filter::Bicubic),
            svg::Target::Intrinsic { cap } if longer > cap => {
                picture.longest(cap as usize, Filter::Bicubic)
            }
            svg::Target::Intrinsic { .. } => picture.clone(),
        }
    }
}

fn image_failure(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::RenderFailed, format!("image: {error}"))
}
