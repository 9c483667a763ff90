//! `svgrl logprobs`: log-probabilities of given completions at temperature 1.

use std::path::{Path, PathBuf};

use models::{AdapterMode, Decoder, VisionFeatures, load_folder};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainer::Learner;
use trainer::config::Aggregation;
use trainer::learn::{HeadOptions, LossNorm, Trajectory, micro_batches};

use super::rows::{self, FileRow, PromptFields, TextSide};
use super::{CliFailure, SharedFlags};
use crate::progress::Bar;

/// `svgrl logprobs`
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  svgrl logprobs --model DIR --data pairs.jsonl --out logprobs.jsonl"
)]
pub struct Args {
    /// Model folder in Hugging Face layout.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows `{"id", "prompt" | "messages" | "prompt_token_ids", "completion" | "completion_token_ids", "images"?}`.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Rows `{"id", "logprobs", "sum"}`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Deserialize)]
struct RowIn {
    id: Value,
    #[serde(flatten)]
    prompt: PromptFields,
    completion: Option<String>,
    completion_token_ids: Option<Vec<i64>>,
}

impl FileRow for RowIn {
    const KEYS: &'static [&'static [&'static str]] = &[
        &["id", "completion", "completion_token_ids"],
        PromptFields::KEYS,
    ];
}

#[derive(Serialize)]
struct RowOut<'a> {
    id: &'a Value,
    logprobs: &'a [f32],
    sum: f64,
}

/// Rows of a micro-batch.
const ROWS: usize = 8192;
/// Rows of the file whose pictures are held at a time.
const TOGETHER: usize = 256;

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let rows: Vec<rows::Row<RowIn>> = rows::read(&args.data, shared.quiet)?;
    let device = shared.device()?;
    trainer::threads(0);
    let model = load_folder(&args.model, shared.kind(), device)?;
    let text = TextSide::read(&args.model, &model)?;
    let folder = args.data.parent().unwrap_or(Path::new(""));
    for row in &rows {
        text.look_for(&row.value.prompt, (folder, &row.place))?;
    }
    let mut out = rows::RowWriter::create(&args.out)?;
    let mut bar = Bar::new("logprobs", rows.len() as u64, shared.quiet);
    let mut rest = rows.into_iter().peekable();
    while rest.peek().is_some() {
        let (mut ids, mut sequences) = (Vec::new(), Vec::new());
        for row in rest.by_ref().take(TOGETHER) {
            let place = row.place;
            let completion = match (row.value.completion, row.value.completion_token_ids) {
                (Some(completion), None) => text.encode(&completion, &place)?,
                (None, Some(completion)) => text.check(completion, &place)?,
                _ => {
                    return Err(CliFailure::input(format!(
                        "{place}: exactly one of completion and completion_token_ids is needed"
                    )));
                }
            };
            let (prompt, shown) = text.prompt(row.value.prompt, (folder, &place))?;
            let view = shown
                .map(|shown| model.encode_images(&[shown]))
                .transpose()?;
            ids.push((row.value.id, completion.len()));
            if !completion.is_empty() {
                sequences.push(Trajectory {
                    prompt: prompt.into(),
                    view: view.and_then(|mut views| views.pop()),
                    sampler_logprobs: vec![0.0; completion.len()],
                    ids: completion,
                    advantage: 0.0,
                });
            }
        }
        let all = log_probs(&model, &sequences)?;
        let mut left = all.as_slice();
        for (id, len) in &ids {
            let (own, after) = left.split_at(*len);
            left = after;
            out.write(&RowOut {
                id,
                logprobs: own,
                sum: own.iter().fold(0.0, |sum, value| sum + f64::from(*value)),
            })?;
        }
        bar.advance(ids.len() as u64);
    }
    bar.finish();
    out.finish()
}

/// The log-probabilities of all completion tokens, in order.
fn log_probs(model: &Decoder, sequences: &[Trajectory]) -> Result<Vec<f32>, CliFailure> {
    let norm = LossNorm {
        aggregation: Aggregation::TokenMean,
        tokens: 1.0,
        sequences: 1.0,
        constant: 1.0,
    };
    let head = HeadOptions {
        temperature: 1.0,
        rows: 0,
    };
    let mut all = Vec::new();
    for micro in micro_batches(sequences, &norm, ROWS, model.device()) {
        let logprobs = Learner::log_probs(
            model,
            &micro,
            &head,
            VisionFeatures::Cached,
            AdapterMode::On,
        )?;
        all.extend(
            Vec::<f32>::try_from(logprobs.to_kind(tch::Kind::Float)).map_err(CliFailure::other)?,
        );
    }
    Ok(all)
}
