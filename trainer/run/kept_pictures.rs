//! Pictures of an evaluation's drawings: the first ones that render, small.

use std::time::Duration;

use svg::{CanvasRule, RenderConfig, Renderer, Target, WorkerProgram};

use crate::TrainError;

/// Pixels of a picture's longer side.
const SIDE: u32 = 256;
/// What drawing one may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A drawing's picture.
#[derive(Debug, Clone)]
pub struct KeptPicture {
    /// The drawing's row, from 0.
    pub row: usize,
    /// A PNG file.
    pub png: Vec<u8>,
}

/// Pictures that are kept of one set.
pub(crate) struct KeptPictures {
    renderer: Option<Renderer>,
    most: usize,
    /// So far.
    pub(crate) pictures: Vec<KeptPicture>,
}

impl KeptPictures {
    /// At most `most` of them.
    ///
    /// # Errors
    /// A render worker that is missing.
    pub(crate) fn new(most: usize) -> Result<Self, TrainError> {
        let renderer = (most > 0).then(|| Renderer::new(&WorkerProgram::Installed, DEADLINE));
        let renderer = renderer.transpose();
        Ok(Self {
            renderer: renderer.map_err(|failure| TrainError::Other(failure.to_string()))?,
            most,
            pictures: Vec::new(),
        })
    }

    /// Keeps the picture of the drawing in row `at`, where it renders; false when there are enough.
    pub(crate) fn add(&mut self, at: usize, source: &str) -> bool {
        let Some(renderer) = self
            .renderer
            .as_ref()
            .filter(|_| self.pictures.len() < self.most)
        else {
            return false;
        };
        let config = RenderConfig {
            canvas: CanvasRule::Intrinsic,
            size: SIDE,
            ..RenderConfig::default()
        };
        let drawn = renderer.render(source, Target::Longest(SIDE), &config);
        let png = drawn.ok().and_then(|drawn| drawn.raster.to_png().ok());
        if let Some(png) = png {
            self.pictures.push(KeptPicture { row: at, png });
        }
        self.pictures.len() < self.most
    }
}
