//! What a page shows of a row: SVGs drawn by the renderer that rewards use, pictures decoded and
//! encoded anew. Nothing of a row reaches the page as it was.

use std::time::Duration;

use indexmap::IndexMap;
use rewards::ImageSource;
use svg::{Filter, Raster, RenderConfig, Renderer, Target, WorkerProgram, extract, resize};
use trainer::config::Config;

/// What one document may take to draw.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longer side of what is shown, pixels.
const SIDE: u32 = 224;
/// Largest side of a picture that is read, as prompts read it.
const MOST_SIDE: u32 = 16_384;

/// Draws for a page.
pub struct PageRenderer {
    renderer: Option<Renderer>,
    renders: IndexMap<String, RenderConfig>,
}

/// A PNG, or why there is none.
pub type PngResult = Result<Vec<u8>, String>;

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
    let bytes = image.read().map_err(|error| error.to_string())?;
    let raster = Raster::decode(&bytes, MOST_SIDE).map_err(|error| error.to_string())?;
    let (width, height) = (raster.width, raster.height);
    let longest = width.max(height);
    let small = |side: u32| (side * SIDE / longest).max(1);
    let size = match longest > SIDE {
        true => (small(width), small(height)),
        false => (width, height),
    };
    let rgb = resize(
        &raster.rgb_over([255; 3]),
        3,
        (width, height),
        size,
        Filter::Bilinear,
    );
    let pixels = rgb.as_chunks::<3>().0.iter();
    let over_white = Raster {
        width: size.0,
        height: size.1,
        rgba: pixels.flat_map(|p| [p[0], p[1], p[2], 255]).collect(),
    };
    over_white.to_png().map_err(|error| error.to_string())
}
