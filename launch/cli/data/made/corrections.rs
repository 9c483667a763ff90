//! `svgrl data corrections`: rows from which a policy learns to correct criticised drawings, in IntroSVG's layout: the goal,
//! a draft, what was said of it; and the row's own drawing as the answer. No picture is shown.

use std::path::PathBuf;

use indexmap::IndexMap;
use serde_json::json;

use super::candidates::SamplingArgs;
use super::judged::{JudgeArgs, JudgedDrawing, judged};
use crate::cli::refine::roles::{Role, RoleTemplates, filled};
use crate::cli::rows::RowWriter;
use crate::cli::{CliFailure, SharedFlags};

/// `svgrl data corrections`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl data corrections --config configs/introsvg.yaml --model runs/introsvg/checkpoints/sft/final --endpoint https://api.openai.com/v1 --judge gpt-4o --api-key-env OPENAI_API_KEY --out refined.jsonl

Rows are `messages` (format: messages). Rows whose reference is a picture alone are left out, counted: there is no drawing to answer with.
Drawings stay in FILE.candidates.jsonl, answers in FILE.answers.jsonl, from where an interrupted making goes on.")]
pub struct Args {
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    judge: JudgeArgs,
    /// The file to write.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,
    /// YAML file with the words of the roles, as for `svgrl refine`.
    #[arg(long, value_name = "FILE")]
    templates: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let templates = RoleTemplates::read(args.templates.as_deref())?;
    let all = judged(&args.sampling, &args.judge, &args.out, shared)?;
    let mut out = RowWriter::create(&args.out)?;
    let mut kept = 0;
    for JudgedDrawing { drawing, said, .. } in &all {
        let candidate = &drawing.candidate;
        let Some(gold) = &candidate.reference.svg else {
            continue;
        };
        let fields = IndexMap::from([
            ("prompt", candidate.words.as_str()),
            ("draft", &drawing.svg),
            ("critique", &said.critique),
            ("suggestions", &said.suggestions),
        ]);
        out.write(&json!({
            "id": candidate.id,
            "messages": [
                {"role": "user", "content": filled(templates.of(Role::Correct), &fields)},
                {"role": "assistant", "content": gold},
            ],
            "images": [],
        }))?;
        kept += 1;
    }
    out.finish()?;
    if !shared.quiet {
        println!(
            "{kept} corrections; {} rows without an SVG left out",
            all.len() - kept
        );
    }
    Ok(())
}
