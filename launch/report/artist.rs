//! Draws what a page shows, with the renderer that rewards use and on the canvas that they compare on. Every picture
//! is decoded or drawn here and encoded as a PNG: nothing of a completion reaches the page as markup.

use std::path::Path;
use std::time::Duration;

use indexmap::IndexMap;
use rewards::{CompletionConfig, ImageSource};
use serde::Deserialize;
use serde_json::Value;
use svg::{CanvasRule, ParseMode, Raster, RenderConfig, Renderer, Target, WorkerProgram, extract};

use super::thumbnail::{PngResult, thumbnail};

/// Longer side of a picture, pixels.
const SIDE: u32 = 160;
/// What one document may take to draw.
const DEADLINE: Duration = Duration::from_secs(5);

/// What is to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DrawOrder {
    /// An SVG of the data: a target, a draft.
    Source { task: String, svg: String },
    /// What a completion draws, on the canvas of what it is compared with.
    Completion {
        task: String,
        text: String,
        beside: Option<String>,
    },
    /// A picture of the data.
    Picture(ImageSource),
}

/// Draws for a page.
pub(super) trait Artist: Sync {
    /// A PNG, or why there is none.
    fn draw(&self, order: &DrawOrder) -> PngResult;
    /// Whether the completions of a task are words.
    fn is_words(&self, task: &str) -> bool;
}

/// The artist of a run: draws as its tasks do.
pub(super) struct RunArtist {
    renderer: Option<Renderer>,
    tasks: IndexMap<String, TaskLook>,
}

/// How a task draws.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct TaskLook {
    render: RenderConfig,
    completion: CompletionConfig,
}

impl RunArtist {
    /// Of the run in `folder`, by its resolved config; a config of another version draws as defaults do.
    pub(super) fn of(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("config.resolved.yaml")).unwrap_or_default();
        let config: Value = serde_saphyr::from_str(&text).unwrap_or_default();
        let tasks = config["tasks"].as_object().into_iter().flatten();
        let look = |task: &Value| serde_json::from_value(task.clone()).unwrap_or_default();
        Self {
            renderer: Renderer::new(&WorkerProgram::Installed, DEADLINE).ok(),
            tasks: tasks
                .map(|(name, task)| (name.clone(), look(task)))
                .collect(),
        }
    }

    fn svg(&self, source: &str, target: Target, config: &RenderConfig) -> Result<Raster, String> {
        let renderer = self.renderer.as_ref().ok_or("no renderer is installed")?;
        let drawn = renderer.render(source, target, config);
        drawn
            .map(|drawn| drawn.raster)
            .map_err(|failure| failure.to_string())
    }
}

impl Artist for RunArtist {
    fn draw(&self, order: &DrawOrder) -> PngResult {
        let look = |task: &str| self.tasks.get(task).cloned().unwrap_or_default();
        let png = |raster: &Raster| raster.to_png().map_err(|error| error.to_string());
        match order {
            DrawOrder::Picture(image) => thumbnail(image, SIDE),
            DrawOrder::Source { task, svg } => {
                let source = extract::first_svg(svg).unwrap_or(svg);
                png(&self.svg(source, canvas(&look(task).render, None), &look(task).render)?)
            }
            DrawOrder::Completion { task, text, beside } => {
                let look = look(task);
                let beside = beside.as_ref().and_then(|svg| {
                    let own = canvas(&look.render, None);
                    let drawn = self.svg(svg, own, &look.render).ok()?;
                    Some((drawn.width, drawn.height))
                });
                let target = canvas(&look.render, beside);
                if let Ok(source) = look.completion.extract(text)
                    && let Ok(raster) = self.svg(source, target, &look.render)
                {
                    return png(&raster);
                }
                // What rewards refuse is shown as far as it can be repaired.
                let source = extract::first_svg(text).or_else(|| extract::truncated_tail(text));
                let config = RenderConfig {
                    mode: ParseMode::Recover,
                    ..look.render
                };
                png(&self.svg(source.ok_or("no SVG in it")?, target, &config)?)
            }
        }
    }

    fn is_words(&self, task: &str) -> bool {
        let look = self.tasks.get(task);
        look.is_some_and(|look| look.completion.is_text())
    }
}

/// A small canvas by the task's rule.
fn canvas(config: &RenderConfig, beside: Option<(u32, u32)>) -> Target {
    match (config.canvas, beside) {
        (CanvasRule::Reference, Some((width, height))) => Target::Exact { width, height },
        (CanvasRule::Fixed, _) => Target::Exact {
            width: SIDE,
            height: SIDE,
        },
        (CanvasRule::Reference | CanvasRule::Intrinsic, _) => Target::Longest(SIDE),
    }
}
