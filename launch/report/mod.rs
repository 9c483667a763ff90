//! Run folders as one self-contained HTML file: what the training made of the held-out prompts, curves, numbers by task,
//! and samples with their pictures beside the target's.
//!
//! The page loads nothing from anywhere. What a policy wrote is shown as text and as a PNG; it is never part of the
//! markup, and no script but the page's own runs.

mod apart;
mod artist;
mod error;
mod groups;
mod headlines;
mod heat;
mod histogram;
mod html;
mod media;
pub(crate) mod page;
mod page_data;
mod paired;
mod panels;
mod pictures;
mod room;
mod rows;
mod run_data;
pub(crate) mod thumbnail;

use std::path::{Path, PathBuf};

use artist::{Artist, RunArtist};
pub use error::ReportError;
use page_data::PageData;
use run_data::ReportRun;

/// Writes what a run that goes on has of itself: `report.html`, and beside TensorBoard's scalars the pictures, texts,
/// histograms and hyper-parameters.
///
/// # Errors
/// As [`write_all`].
pub fn write_own(run_dir: &Path) -> Result<(), ReportError> {
    let artist = RunArtist::of(run_dir);
    let run = [ReportRun::read(run_dir)?];
    let data = PageData::of(&run, &[&artist], false);
    let out = run_dir.join("report.html");
    page::write(&out, &html::page(&data))
        .map_err(|source| ReportError::File { path: out, source })?;
    media::write(&run[0], &data).map_err(ReportError::Media)
}

/// A line for each held-out number that the report's tiles show, before and after each stage.
///
/// # Errors
/// A folder without metrics, a malformed line, what the file system says.
pub fn before_and_after(run_dir: &Path) -> Result<Vec<String>, ReportError> {
    let tiles = headlines::tiles(&ReportRun::read(run_dir)?);
    Ok(tiles.iter().map(ToString::to_string).collect())
}

/// Writes the report of one run, or of several side by side, to `out`, which appears whole or not at all.
///
/// # Errors
/// No metrics in a folder, a malformed line, or what the file system says. Without a renderer the pictures are left
/// out.
pub fn write_all(runs: &[PathBuf], out: &Path) -> Result<(), ReportError> {
    let page = rendered(runs, false)?;
    page::write(out, &page).map_err(|source| ReportError::File {
        path: out.to_owned(),
        source,
    })
}

/// The page of some runs; `live`: it asks the server that it came from for news.
///
/// # Errors
/// As [`write_all`].
pub fn rendered(runs: &[PathBuf], live: bool) -> Result<String, ReportError> {
    let artists: Vec<RunArtist> = runs.iter().map(|run| RunArtist::of(run)).collect();
    let artists: Vec<&dyn Artist> = artists.iter().map(|artist| artist as &dyn Artist).collect();
    drawn_by(runs, &artists, live)
}

fn drawn_by(runs: &[PathBuf], artists: &[&dyn Artist], live: bool) -> Result<String, ReportError> {
    let runs: Result<Vec<ReportRun>, ReportError> =
        runs.iter().map(|run| ReportRun::read(run)).collect();
    Ok(html::page(&PageData::of(&runs?, artists, live)))
}

#[cfg(test)]
mod tests;
