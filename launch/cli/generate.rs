//! `svgrl generate`: completions of prompts, in input order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use models::{GenerationConfig, load_folder};
use rollout::engine::{self, EngineConfig, EngineOptions, ServersOptions};
use rollout::{Completion, FinishReason, Request, Sampling, Submission};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows::{self, FileRow, PromptFields, TextSide};
use super::{CliFailure, SharedFlags};
use crate::progress::Bar;

/// `svgrl generate`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl generate --model runs/quickstart/checkpoints/rl/final --prompts prompts.jsonl --out out.jsonl
  svgrl generate --model DIR --prompts prompts.jsonl --out out.jsonl --n 8 --temperature 0.6 --stop '</answer>'")]
pub struct Args {
    /// Model folder in Hugging Face layout.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Rows `{"id", "prompt" | "messages" | "token_ids", "images"?}`.
    #[arg(long, value_name = "FILE")]
    prompts: PathBuf,
    /// Rows `{"id", "index", "text", "token_ids", "logprobs", "finish_reason"}`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Completions of each prompt.
    #[arg(long, default_value_t = 1)]
    n: usize,
    /// Divides the logits; 0 is greedy.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Keeps the smallest set of tokens with this much probability.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Keeps this many most probable tokens; 0 is off.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    top_k: i64,
    /// Keeps tokens at least this probable relative to the best; 0 is off.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f64,
    /// Longest completion, in tokens.
    #[arg(long, default_value_t = 512)]
    max_new_tokens: usize,
    /// A string that ends a completion; may be repeated.
    #[arg(long, value_name = "STR")]
    stop: Vec<String>,
    /// Keep the stop string in the text.
    #[arg(long)]
    include_stop: bool,
    /// Take the most probable token always.
    #[arg(long)]
    greedy: bool,
    /// Sequences decoded at a time; 0: all.
    #[arg(long, default_value_t = 64)]
    slots: usize,
}

#[derive(Deserialize)]
struct RowIn {
    id: Value,
    #[serde(flatten)]
    prompt: PromptFields,
}

impl FileRow for RowIn {
    const KEYS: &'static [&'static [&'static str]] = &[&["id"], PromptFields::KEYS];
}

#[derive(Serialize)]
struct RowOut<'a> {
    id: &'a Value,
    index: usize,
    text: &'a Option<String>,
    token_ids: &'a [i64],
    logprobs: &'a [f32],
    finish_reason: FinishReason,
}

/// Completions of prompts with pictures that are asked for at a time, at least.
const AHEAD: usize = 512;

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    if args.n == 0 {
        return Err(CliFailure::input("--n: must be >= 1, got 0"));
    }
    let rows: Vec<rows::Row<RowIn>> = rows::read(&args.prompts, shared.quiet)?;
    let device = shared.device()?;
    trainer::threads(0);
    let model = Rc::new(load_folder(&args.model, shared.kind(), device)?);
    let text = TextSide::read(&args.model, &model)?;
    let sampling = Sampling {
        temperature: if args.greedy { 0.0 } else { args.temperature },
        top_p: args.top_p,
        top_k: args.top_k,
        min_p: args.min_p,
        max_new_tokens: args.max_new_tokens,
        stop: args.stop.clone(),
        include_stop: args.include_stop,
        stop_token_ids: GenerationConfig::read(&args.model)?.eos,
    };
    let flag = |error: String| CliFailure::input(format!("--{}", error.replace('_', "-")));
    sampling.check().map_err(flag)?;
    if text.tokenizer.is_none() && !sampling.stop.is_empty() {
        return Err(flag(
            "stop: stop strings need a tokenizer in the model folder".into(),
        ));
    }
    let options = EngineOptions {
        policy: model.clone(),
        images: None,
        tokenizer: text.tokenizer.clone(),
        slots: args.slots,
        cache_tokens: 0,
        servers: ServersOptions::default(),
    };
    let mut engine = engine::open(EngineConfig::Local, options)?;
    let folder = args.prompts.parent().unwrap_or(Path::new(""));
    for row in &rows {
        text.look_for(&row.value.prompt, (folder, &row.place))?;
    }
    let ids: Vec<Value> = rows.iter().map(|row| row.value.id.clone()).collect();
    // Pictures are held for one batch of rows at a time.
    let together = match model.vision() {
        Some(_) => (AHEAD.max(4 * args.slots) / args.n).max(1),
        None => ids.len(),
    };
    let mut out = rows::RowWriter::create(&args.out)?;
    let mut bar = Bar::new("generate", (ids.len() * args.n) as u64, shared.quiet);
    let mut ready: BTreeMap<(usize, usize), Completion> = BTreeMap::new();
    let mut next = (0, 0);
    let positions = model.config.max_positions as usize;
    let (mut longest, mut told) = (0, shared.quiet);
    let mut waiting = rows.into_iter().enumerate().peekable();
    while waiting.peek().is_some() {
        let mut requests = Vec::new();
        for (group, row) in waiting.by_ref().take(together) {
            let (prompt, shown) = text.prompt(row.value.prompt, (folder, &row.place))?;
            longest = longest.max(prompt.len());
            requests.push(Request {
                group,
                ids: prompt.into(),
                images: shown,
                samples: args.n,
                draw: group as u64,
                lengths: None,
            });
        }
        if longest + args.max_new_tokens > positions && !told {
            told = true;
            eprintln!(
                "--max-new-tokens: {} tokens after a prompt of {longest} go beyond the model's max_position_embeddings {positions}, further than it was trained",
                args.max_new_tokens
            );
        }
        engine.submit(Submission {
            requests,
            sampling: sampling.clone(),
            seed: shared.seed.unwrap_or(0),
        })?;
        while let Some(finished) = engine.next()? {
            ready.insert((finished.group, finished.index), finished.completion);
            bar.advance(1);
            while let Some(completion) = ready.remove(&next) {
                out.write(&RowOut {
                    id: &ids[next.0],
                    index: next.1,
                    text: &completion.text,
                    token_ids: &completion.ids,
                    logprobs: &completion.logprobs,
                    finish_reason: completion.finish,
                })?;
                next = match next {
                    (row, index) if index + 1 == args.n => (row + 1, 0),
                    (row, index) => (row, index + 1),
                };
            }
        }
    }
    bar.finish();
    out.finish()
}
