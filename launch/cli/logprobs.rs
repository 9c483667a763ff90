//! `svgrl logprobs`: log-probabilities of given completions at temperature 1.

use std::path::{Path, PathBuf};

use models::load_folder;
use models::vision::Look;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainer::Learner;
use trainer::config::Aggregation;
use trainer::grpo::batch::{Normaliser, Trajectory, micro_batches};
use trainer::head::HeadOptions;

use super::rows::{self, PromptFields, TextSide};
use super::{Failure, Shared};
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

#[derive(Serialize)]
struct RowOut<'a> {
    id: &'a Value,
    logprobs: &'a [f32],
    sum: f64,
}

/// Rows of a micro-batch.
const ROWS: usize = 8192;

/// Runs the command.
pub fn run(args: &Args, shared: &Shared) -> Result<(), Failure> {
    let rows: Vec<rows::Row<RowIn>> = rows::read(&args.data)?;
    let device = shared.device()?;
    trainer::threads(0);
    let model = load_folder(&args.model, shared.kind(), device)?;
    let text = TextSide::read(&args.model, &model)?;
    let folder = args.data.parent().unwrap_or(Path::new(""));
    let (mut ids, mut lengths, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let place = row.place;
        let completion = match (row.value.completion, row.value.completion_token_ids) {
            (Some(completion), None) => text.encode(&completion, &place)?,
            (None, Some(completion)) => text.check(completion, &place)?,
            _ => {
                return Err(Failure::input(format!(
                    "{place}: exactly one of completion and completion_token_ids is needed"
                )));
            }
        };
        let (prompt, shown) = text.prompt(row.value.prompt, (folder, &place))?;
        ids.push(row.value.id);
        lengths.push(completion.len());
        if !completion.is_empty() {
            sequences.push(Trajectory {
                prompt: prompt.into(),
                view: shown
                    .map(|shown| model.look(&[shown]))
                    .transpose()?
                    .and_then(|mut views| views.pop()),
                sampler_logprobs: vec![0.0; completion.len()],
                ids: completion,
                advantage: 0.0,
            });
        }
    }
    let normaliser = Normaliser {
        aggregation: Aggregation::TokenMean,
        tokens: 1.0,
        sequences: 1.0,
        constant: 1.0,
    };
    let head = HeadOptions {
        temperature: 1.0,
        rows: 0,
    };
    let mut bar = Bar::new("logprobs", sequences.len() as u64, shared.quiet);
    let mut all = Vec::new();
    for micro in micro_batches(&sequences, &normaliser, ROWS, device) {
        let logprobs = Learner::log_probs(&model, &micro, (&head, Look::Kept))?;
        all.extend(
            Vec::<f32>::try_from(logprobs.to_kind(tch::Kind::Float)).map_err(Failure::other)?,
        );
        bar.advance(micro.lengths.len() as u64);
    }
    bar.finish();
    let mut out = rows::Writer::create(&args.out)?;
    let mut rest = all.as_slice();
    for (id, len) in ids.iter().zip(lengths) {
        let (own, after) = rest.split_at(len);
        rest = after;
        out.write(&RowOut {
            id,
            logprobs: own,
            sum: own.iter().fold(0.0, |sum, value| sum + f64::from(*value)),
        })?;
    }
    out.finish()
}
