//! `svgrl data critiques`: rows from which a policy learns to criticise drawings, in IntroSVG's layout.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::json;

use super::candidates::SamplingArgs;
use super::judged::{JudgeArgs, JudgedDrawing, judged};
use crate::cli::refine::roles::{Role, RoleTemplates, filled};
use crate::cli::rows::RowWriter;
use crate::cli::{CliFailure, SharedFlags};

/// `svgrl data critiques`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl data critiques --config configs/introsvg.yaml --model runs/introsvg/checkpoints/sft/final --endpoint https://api.openai.com/v1 --judge gpt-4o --api-key-env OPENAI_API_KEY --out critic.jsonl

Rows are `messages` and `images` (format: messages): the question of `svgrl refine` to its critic, and the judge's answer. SquarePictures lie in
the folder `draft_image` beside the file. Drawings stay in FILE.candidates.jsonl, answers in FILE.answers.jsonl, from where an interrupted
making goes on.")]
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
    let folder = args.out.parent().unwrap_or(Path::new(""));
    let mut out = RowWriter::create(&args.out)?;
    for (index, judged) in all.iter().enumerate() {
        let JudgedDrawing { drawing, png, said } = judged;
        let candidate = &drawing.candidate;
        let picture = format!("draft_image/{index:06}.png");
        let path = folder.join(&picture);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))
            .and_then(|()| std::fs::write(&path, png))
            .map_err(|error| CliFailure::other(format!("{}: {error}", path.display())))?;
        let fields = IndexMap::from([
            ("prompt", candidate.words.as_str()),
            ("image", "<image>"),
            ("draft", &drawing.svg),
        ]);
        let answer = json!({
            "score": said.score, "critique": said.critique, "suggestions": said.suggestions,
        });
        out.write(&json!({
            "id": candidate.id,
            "messages": [
                {"role": "user", "content": filled(templates.of(Role::Critique), &fields)},
                {"role": "assistant", "content": answer.to_string()},
            ],
            "images": [picture],
        }))?;
    }
    out.finish()?;
    if !shared.quiet {
        println!("{} critiques", all.len());
    }
    Ok(())
}
