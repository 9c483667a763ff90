//! What a page shows of a row: SVGs drawn by the renderer that rewards use, pictures decoded and
//! encoded anew. Nothing of a row reaches the page as it was.

use std::time::Duration;

use indexmap::IndexMap;
use rewards::ImageSource;
use svg::{RenderConfig, Renderer, Target, WorkerProgram, extract};
use trainer::config::Config;

use crate::report::thumbnail::{self, PngResult};

/// What one document may take to draw.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longer side of what is shown, pixels.
const SIDE: u32 = 224;

/// Draws for a page.
pub struct PageRenderer {
    renderer: Option<Renderer>,
    renders: IndexMap<String, RenderConfig>,
}

impl PageRenderer {
    /// As the config's tasks draw; without a renderer there are no drawings.
    pub fn new(config: &Config) -> Self {
        let tasks = trainer::scoring(&config.tasks);
        Self {
            renderer: Renderer::new(&WorkerProgram::Installed, DEADLINE).ok(),
            renders: tasks
                .into_iter()
                .map(|(name, task)| (name, task.render))
                .collect(),
        }
    }

    /// The first SVG in a text, drawn.
    pub fn drawing(&self, text: &str, task: &str) -> PngResult {
        let source = extract::first_svg(text).unwrap_or(text);
        let renderer = self.renderer.as_ref().ok_or("no renderer is installed")?;
        let config = self.renders.get(task).cloned().unwrap_or_default();
        let drawn = renderer.render(source, Target::Longest(SIDE), &config);
        let drawn = drawn.map_err(|failure| failure.to_string())?;
        drawn.raster.to_png().map_err(|error| error.to_string())
    }
}

/// A picture of a row, small, over white.
pub fn thumbnail(image: &ImageSource) -> PngResult {
    thumbnail::thumbnail(image, SIDE)
}
