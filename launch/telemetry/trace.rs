//! A Chrome trace: every span of the run on one timeline by thread, for Perfetto or chrome://tracing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tracing_chrome::{ChromeLayer, ChromeLayerBuilder, FlushGuard};
use tracing_subscriber::filter::{FilterFn, Filtered, filter_fn};
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::cli::CliFailure;

/// Writes what is buffered when it is dropped.
pub(super) type Guard = FlushGuard;

/// The layer, seeing spans alone.
pub(super) type TraceLayer<S> = Filtered<ChromeLayer<S>, FilterFn, S>;

/// The layer that writes `path` (rank 0), or beside it `path` with the process's name in its own.
///
/// # Errors
/// A file that cannot be made.
pub(super) fn layer<S>(path: &Path, process: &str) -> Result<(TraceLayer<S>, Guard), CliFailure>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let path = of_process(path, process);
    // The builder would panic where the file cannot be made.
    let file = std::fs::File::create(&path)
        .map_err(|error| CliFailure::input(format!("--trace {}: {error}", path.display())))?;
    let (layer, guard) = ChromeLayerBuilder::new()
        .writer(std::io::BufWriter::new(file))
        .include_args(true)
        .build();
    let spans: FilterFn = filter_fn(|metadata| metadata.is_span());
    Ok((layer.with_filter(spans), guard))
}

/// `trace.json` for rank 0, `trace.rank_1.json` for rank 1.
fn of_process(path: &Path, process: &str) -> PathBuf {
    if process == "rank_0" {
        return path.to_owned();
    }
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!(".{process}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_write_beside_one_another() {
        let named = |path: &str, process| of_process(Path::new(path), process);
        assert_eq!(named("a/t.json", "rank_0"), Path::new("a/t.json"));
        assert_eq!(named("a/t.json", "rank_2"), Path::new("a/t.rank_2.json"));
        assert_eq!(named("t", "rank_1"), Path::new("t.rank_1"));
    }
}
