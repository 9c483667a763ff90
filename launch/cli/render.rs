//! `svgrl render`: SVG files to PNG files, with the same limits, fonts and repair that rewards use.
//! Drawing several files at once is left out: one file takes a fraction of a millisecond.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use svg::{Background, Failure, ParseMode, Reason, RenderConfig, Renderer, Target, WorkerProgram};

/// Render SVG files to PNG.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl render icon.svg --out png
  svgrl render icons/*.svg --out png --size 448 --background white
  svgrl render cut_off.svg --out png --mode recover")]
pub struct Args {
    /// Files to render.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder for the PNG files, named after the inputs; made when missing.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Pixels of the longer side, 1 to 4096; by default each file's own size, at most 4096.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub size: Option<u32>,
    /// What lies behind the picture: white, none or #rrggbb.
    #[arg(long, value_name = "COLOUR", default_value = "white")]
    pub background: Background,
    /// Whether malformed XML is refused or repaired.
    #[arg(long, value_enum, default_value_t = Mode::Strict)]
    pub mode: Mode,
}

/// Whether malformed XML is refused or repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Refused.
    Strict,
    /// Repaired: open elements closed, broken ends dropped.
    Recover,
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The renderer cannot start.
    #[error("cannot render: {0}")]
    Renderer(#[from] Failure),
    /// The output folder cannot be used; exit status 2.
    #[error("--out {path}: {source}")]
    Out {
        /// As given.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
}

const CAP: u32 = 4096;
const DEADLINE: Duration = Duration::from_secs(10);

/// Renders every file; those that fail are listed on standard error. Returns the exit status: 1 when
/// any failed.
///
/// # Errors
/// When the output folder cannot be made or the renderer's worker program is missing.
pub fn run(args: &Args) -> Result<u8, RenderError> {
    let unusable = |source| RenderError::Out {
        path: args.out.display().to_string(),
        source,
    };
    std::fs::create_dir_all(&args.out).map_err(unusable)?;
    let renderer = Renderer::new(&WorkerProgram::Installed, DEADLINE)?;
    let config = RenderConfig {
        background: args.background,
        mode: match args.mode {
            Mode::Strict => ParseMode::Strict,
            Mode::Recover => ParseMode::Recover,
        },
        ..RenderConfig::default()
    };
    let target = args
        .size
        .map_or(Target::Intrinsic { cap: CAP }, Target::Longest);
    let mut written: Vec<PathBuf> = Vec::new();
    let mut failed = 0;
    for file in &args.files {
        let mut name = file.file_stem().unwrap_or_default().to_owned();
        name.push(".png");
        let out = args.out.join(name);
        let outcome = if written.contains(&out) {
            Err(format!(
                "{} is already taken by another input",
                out.display()
            ))
        } else {
            render(
                &renderer,
                file,
                &out,
                &RenderJob {
                    target,
                    config: &config,
                },
            )
        };
        match outcome {
            Ok(()) => written.push(out),
            Err(reason) => {
                failed += 1;
                eprintln!("{}: {reason}", file.display());
            }
        }
    }
    if failed > 0 {
        eprintln!("{failed} of {} files did not render", args.files.len());
    }
    Ok(u8::from(failed > 0))
}

struct RenderJob<'a> {
    target: Target,
    config: &'a RenderConfig,
}

/// A document of at most `limit` bytes; more are not read, however many there are.
fn read(file: &Path, limit: usize) -> Result<String, String> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(|e| e.to_string())?;
    let mut start = opened.take(limit as u64 + 1);
    start.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    let bad = |reason, said: &str| Err(Failure::new(reason, said.to_owned()).to_string());
    if bytes.len() > limit {
        return bad(
            Reason::TooManyBytes,
            &format!("at most {limit} bytes of source"),
        );
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return bad(
            Reason::MalformedXml,
            "the file is compressed (unpack it with gunzip first)",
        );
    }
    String::from_utf8(bytes)
        .or_else(|error| bad(Reason::MalformedXml, &format!("not UTF-8: {error}")))
}

fn render(renderer: &Renderer, file: &Path, out: &Path, job: &RenderJob<'_>) -> Result<(), String> {
    let source = read(file, job.config.limits.max_bytes)?;
    let source = source.trim_start_matches('\u{feff}');
    let rendered = renderer
        .render(source, job.target, job.config)
        .map_err(|e| e.to_string())?;
    let png = rendered.raster.to_png().map_err(|e| e.to_string())?;
    std::fs::write(out, png).map_err(|e| format!("{}: {e}", out.display()))
}
