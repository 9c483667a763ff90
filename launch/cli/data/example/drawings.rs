//! The drawings of an example: those of the built-in source `shapes`, with a flawed draft and a picture of each.

use std::path::Path;

use indexmap::IndexMap;
use rewards::ImageSource;
use rollout::data::{Catalog, DataConfig, ShapesConfig, ShapesKind, SourceConfig, Split};

use super::super::super::CliFailure;

/// One drawing.
#[derive(Debug, Clone)]
pub struct ExampleDrawing {
    /// What it shows.
    pub words: String,
    /// Its SVG.
    pub svg: String,
    /// An SVG with faults.
    pub draft: String,
    /// The SVG drawn, 128 pixels wide: a PNG.
    pub png: Vec<u8>,
}

/// `count` drawings.
///
/// # Errors
/// Drawings that cannot be made, for lack of memory for instance.
pub fn drawings(count: usize, seed: u64) -> Result<Vec<ExampleDrawing>, CliFailure> {
    let shapes = ShapesConfig {
        kind: ShapesKind::Refinement,
        picture: Some(128),
        count,
        held_out: 0,
        seed,
        ..ShapesConfig::default()
    };
    let config = DataConfig {
        sources: IndexMap::from([("shapes".to_owned(), SourceConfig::Shapes(shapes))]),
        ..DataConfig::default()
    };
    let catalog = Catalog::open(&config, Path::new(""), "draw").map_err(CliFailure::other)?;
    (0..count)
        .map(|row| {
            let read = catalog.row((0, Split::Train), row);
            let example = read
                .map_err(CliFailure::other)?
                .map_err(CliFailure::other)?;
            let field = |name: &str| example.fields.get(name).cloned().unwrap_or_default();
            let png = match example.images.first() {
                Some(ImageSource::Png(png)) => png.to_vec(),
                _ => return Err(CliFailure::other("a drawing could not be drawn")),
            };
            Ok(ExampleDrawing {
                words: field("prompt"),
                draft: field("draft"),
                svg: example.reference.svg.unwrap_or_default(),
                png,
            })
        })
        .collect()
}
