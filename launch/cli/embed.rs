//! `svgrl embed`: features of pictures or texts by an encoder's folder.

use std::path::PathBuf;

use models::encoder::{Encoder, Pooling, unit_rows};
use models::image::Rgb8;
use models::write_tensors;
use rewards::ImageSource;
use serde::Deserialize;
use serde_json::Value;
use tch::{Kind, Tensor};

use super::{CliFailure, SharedFlags, rows};
use crate::progress::Bar;

/// `svgrl embed`
#[derive(Debug, Clone, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).args(["images", "texts"]),
    after_help = "\
Examples:
  svgrl embed --model dinov2-base --images a.png b.png --out features.safetensors --pool mean
  svgrl embed --model bge-m3 --texts captions.jsonl --out features.safetensors --normalize
  svgrl embed --model longclip-L.pt --images a.png --out features.safetensors
With --dtype bfloat16 encoders compute in float16, which keeps cosines within a thousandth of float32's."
)]
pub struct Args {
    /// Encoder: a Hugging Face folder (DINOv2; CLIP, Long-CLIP, SigLIP, or one of their towers; XLM-RoBERTa),
    /// DreamSim's folder, or a checkpoint of Long-CLIP or of pytorch-fid's Inception.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// PNG or JPEG files.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    images: Vec<PathBuf>,
    /// Rows `{"id", "text" | "token_ids"}`.
    #[arg(long, value_name = "FILE.jsonl")]
    texts: Option<PathBuf>,
    /// A safetensors file with `embeddings [N, D]`, float32, in input order.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// What stands for a sequence in DINOv2 and XLM-RoBERTa; default: its first token.
    #[arg(long, value_enum)]
    pool: Option<PoolName>,
    /// Scale each row to unit length.
    #[arg(long)]
    normalize: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum PoolName {
    /// The first token.
    Cls,
    /// The mean of all tokens, the first among them.
    Mean,
}

#[derive(Deserialize)]
struct RowIn {
    #[serde(rename = "id")]
    _id: Option<Value>,
    text: Option<String>,
    token_ids: Option<Vec<i64>>,
}

impl rows::FileRow for RowIn {
    const KEYS: &'static [&'static [&'static str]] = &[&["id", "text", "token_ids"]];
}

/// Items of one forward pass at most.
const BATCH: usize = 16;

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    trainer::threads(0);
    let kind = Encoder::half_is_float16(shared.kind());
    if kind != shared.kind() && !shared.quiet {
        eprintln!("embed: half precision is float16 here, which keeps cosines within a thousandth");
    }
    let encoder = Encoder::load(&args.model, (kind, shared.device()?))?;
    let pool = match (args.pool, encoder.default_pool()) {
        (None, default) => default.unwrap_or(Pooling::Cls),
        (Some(PoolName::Cls), Some(_)) => Pooling::Cls,
        (Some(PoolName::Mean), Some(_)) => Pooling::Mean,
        (Some(_), None) => {
            return Err(CliFailure::input(
                "--pool: this network's pooling is part of it (only DINOv2 and XLM-RoBERTa have a choice)",
            ));
        }
    };
    let parts = match &args.texts {
        Some(_) => texts(args, shared, &encoder, pool)?,
        None => images(args, shared, &encoder, pool)?,
    };
    let mut rows = Tensor::cat(&parts, 0);
    if rows.isfinite().all().int64_value(&[]) == 0 {
        return Err(CliFailure::input(format!(
            "{}: the network gave numbers that are not finite (are its weights, or is half precision too narrow for it?)",
            args.model.display()
        )));
    }
    if args.normalize {
        rows = unit_rows(&rows);
    }
    write_tensors(&args.out, &[("embeddings".into(), rows)])
        .map_err(|error| CliFailure::input(format!("--out: {error}")))
}

fn images(
    args: &Args,
    shared: &SharedFlags,
    encoder: &Encoder,
    pool: Pooling,
) -> Result<Vec<Tensor>, CliFailure> {
    let mut bar = Bar::new("embed", args.images.len() as u64, shared.quiet);
    let mut parts = Vec::new();
    for files in args.images.chunks(BATCH) {
        let mut pictures = Vec::new();
        for file in files {
            let place = |error: &dyn std::fmt::Display| {
                CliFailure::input(format!("{}: {error}", file.display()))
            };
            // Bounded, whatever the file is.
            let bytes = ImageSource::Path(file.clone()).read();
            let bytes = bytes.map_err(|error| CliFailure::input(error.to_string()))?;
            let picture = Rgb8::decode(&bytes).and_then(|picture| encoder.fit(&picture));
            pictures.push(picture.map_err(|error| place(&error))?);
        }
        for same in pictures.chunk_by(|a, b| (a.width, a.height) == (b.width, b.height)) {
            let same: Vec<&Rgb8> = same.iter().collect();
            parts.push(plain(encoder.embed_images(&same, pool)?));
        }
        bar.advance(files.len() as u64);
    }
    bar.finish();
    Ok(parts)
}

fn texts(
    args: &Args,
    shared: &SharedFlags,
    encoder: &Encoder,
    pool: Pooling,
) -> Result<Vec<Tensor>, CliFailure> {
    let path = args.texts.as_deref().unwrap_or(args.out.as_path());
    let mut all = Vec::new();
    for row in rows::read::<RowIn>(path, shared.quiet)? {
        let place =
            |error: &dyn std::fmt::Display| CliFailure::input(format!("{}: {error}", row.place));
        let ids = match (row.value.text, row.value.token_ids) {
            (Some(text), None) => encoder.tokenize(&text),
            (None, Some(ids)) => encoder.check_ids(&ids).map(|()| ids),
            _ => return Err(place(&"exactly one of text and token_ids is needed")),
        };
        all.push(ids.map_err(|error| place(&error))?);
    }
    if all.is_empty() {
        return Err(CliFailure::input(format!("{}: has no row", path.display())));
    }
    let mut bar = Bar::new("embed", all.len() as u64, shared.quiet);
    let mut parts = Vec::new();
    // Neighbours of one length share a pass, so that nothing is padded.
    for same in all.chunk_by(|a, b| a.len() == b.len()) {
        for batch in same.chunks(BATCH) {
            let ids: Vec<&[i64]> = batch.iter().map(Vec::as_slice).collect();
            parts.push(plain(encoder.embed_ids(&ids, batch[0].len(), pool)?));
            bar.advance(batch.len() as u64);
        }
    }
    bar.finish();
    Ok(parts)
}

fn plain(rows: Tensor) -> Tensor {
    rows.to_device(tch::Device::Cpu).to_kind(Kind::Float)
}
