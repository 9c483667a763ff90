//! A run folder as one self-contained HTML file: curves of every stage, held-out numbers
//! before and after, and samples with their picture beside the target's.
//!
//! The page loads nothing from anywhere and runs no script. What a policy wrote is shown as
//! escaped text and as a PNG; it is never part of the markup.

mod chart;
mod data;
mod error;
mod html;
pub(crate) mod page;
mod panels;
mod samples;

use std::path::Path;

use data::RunData;
pub use error::ReportError;
pub use samples::Rasterise;

/// [`write()`] with pictures drawn by the renderer that rewards use.
///
/// # Errors
/// As [`write()`]; without a renderer the pictures are left out.
pub fn write_rendered(run_dir: &Path, out: &Path) -> Result<(), ReportError> {
    let deadline = std::time::Duration::from_secs(5);
    let renderer = svg::Renderer::new(&svg::WorkerProgram::Installed, deadline).ok();
    let config = svg::RenderConfig {
        mode: svg::ParseMode::Recover,
        ..svg::RenderConfig::default()
    };
    write(run_dir, out, &|text| {
        let source =
            svg::extract::first_svg(text).or_else(|| svg::extract::truncated_tail(text))?;
        let target = svg::Target::Longest(160);
        let rendered = renderer.as_ref()?.render(source, target, &config).ok()?;
        rendered.raster.to_png().ok()
    })
}

/// Writes the report of `run_dir` to `out`, which appears whole or not at all.
///
/// # Errors
/// No metrics in the folder, a malformed line, or what the file system says.
pub fn write(run_dir: &Path, out: &Path, rasterise: Rasterise<'_>) -> Result<(), ReportError> {
    let run = RunData::read(run_dir)?;
    let page = html::page(&run, rasterise);
    page::write(out, &page).map_err(|source| ReportError::File {
        path: out.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
