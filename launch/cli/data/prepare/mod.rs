//! `svgrl data prepare`: a corpus in, rows to train on out.
//!
//! Rows are read in batches of bounded size, judged on all cores, and written in their order, so that
//! the result does not depend on the number of threads. Of a row stay a digest and, where asked, a
//! hash of its picture. VectorGym's curation filters by token length (2,000 to 8,000 tokens), colour entropy and
//! duplicates; how it defines the latter two, and from which values on a row goes, is not known to us, so
//! that the filters are off until a bound is given, exact duplicates excepted. Unlike there tokens are
//! counted after normalising, and rows are split by what their pictures look like.

mod duplicates;
mod options;
mod perceptual_hash;
mod row;
mod write;

use std::time::{Duration, Instant};

use models::Tokenizer;
use rollout::data::{RecordRow, Records};
use serde_json::json;
use svg::{NormaliseOptions, Renderer, WorkerProgram};

use super::parallel::RowThreads;
use crate::cli::{CliFailure, SharedFlags};
use crate::progress::{Bar, duration};
pub use options::Args;
use row::{Rejection, Rules};
use write::Output;

/// What one document may take to draw.
const DEADLINE: Duration = Duration::from_secs(5);
/// Rows, and bytes of them, that are judged at a time.
const BATCH_ROWS: usize = 512;
const BATCH_BYTES: usize = 32 << 20;

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let tokens = (
        args.filters.min_tokens.unwrap_or(0),
        args.filters.max_tokens.unwrap_or(usize::MAX),
    );
    if tokens.0 > tokens.1 {
        return Err(CliFailure::input(format!(
            "--min-tokens {} is more than --max-tokens {}",
            tokens.0, tokens.1
        )));
    }
    let records = Records::open(&args.input.source()?, "--from").map_err(CliFailure::input)?;
    let folder = args.filters.tokenizer.as_deref();
    let tokenizer = folder.map(Tokenizer::read).transpose()?;
    let renderer = Renderer::new(&WorkerProgram::Installed, DEADLINE).map_err(CliFailure::other)?;
    let rules = Rules {
        renderer: &renderer,
        tokenizer: tokenizer.as_ref(),
        form: NormaliseOptions {
            side: args.form.side,
            decimals: args.form.decimals,
        },
        fields: (&args.input.svg_field, &args.input.prompt_field),
        min_ssim: args.form.min_ssim,
        min_entropy: args.filters.min_colour_entropy,
        pictures: args.form.pictures,
        tokens,
    };
    let workers = RowThreads::new(args.threads.map_or(0, usize::from))?;
    let seed = shared.seed.unwrap_or(0);
    let mut output = Output::create(args, seed)?;
    let mut bar = Bar::new("prepare", records.bytes(), shared.quiet);
    let started = Instant::now();
    let (mut batch, mut bytes, mut position) = (Vec::new(), 0, 0);
    let scanned = records.scan(&mut |row: RecordRow| -> Result<(), CliFailure> {
        bar.advance(row.position.saturating_sub(position));
        position = position.max(row.position);
        bytes += row.value.as_ref().map_or(0, size);
        batch.push(row);
        if batch.len() < BATCH_ROWS && bytes < BATCH_BYTES {
            return Ok(());
        }
        bytes = 0;
        settle(&std::mem::take(&mut batch), &rules, &workers, &mut output)
    });
    scanned.map_err(CliFailure::input)??;
    settle(&batch, &rules, &workers, &mut output)?;
    bar.finish();
    let seconds = started.elapsed().as_secs_f64();
    let summary = output.finish(json!({
        "from": args.input.from, "svg_field": args.input.svg_field, "side": args.form.side,
        "decimals": args.form.decimals, "min_ssim": args.form.min_ssim, "pictures": args.form.pictures,
        "tokenizer": args.filters.tokenizer, "min_tokens": args.filters.min_tokens,
        "max_tokens": args.filters.max_tokens,
        "min_colour_entropy": args.filters.min_colour_entropy,
        "near_duplicates": args.filters.near_duplicates,
        "keep_duplicates": args.filters.keep_duplicates, "held_out": args.held_out, "seed": seed,
    }))?;
    if !shared.quiet {
        let rate = summary.rows as f64 / seconds.max(1e-9);
        print!("{}", summary.text);
        println!("took {} ({rate:.0} rows/s)", duration(seconds));
    }
    Ok(())
}

/// Judges a batch on all threads and writes it in order.
fn settle(
    batch: &[RecordRow],
    rules: &Rules<'_>,
    workers: &RowThreads,
    output: &mut Output,
) -> Result<(), CliFailure> {
    let verdicts = workers.map(batch, |row| rules.judge(row.clone()));
    for (row, verdict) in batch.iter().zip(verdicts) {
        let verdict = verdict.unwrap_or_else(|| Err(Rejection::new("panic", "it was not judged")));
        output.take(row, verdict)?;
    }
    Ok(())
}

/// Bytes of a row's text, roughly.
fn size(value: &serde_json::Value) -> usize {
    let fields = value.as_object().into_iter().flatten();
    fields
        .map(|(_, value)| value.as_str().map_or(16, str::len))
        .sum()
}
