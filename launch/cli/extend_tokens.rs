//! `svgrl extend-tokens`: a model folder with SVG tokens.

use std::path::{Path, PathBuf};

use models::Tokenizer;
use models::svg_tokens::{SvgVocabulary, extend_folder};
use serde_json::{Value, json};

use super::{CliFailure, SharedFlags};

/// `svgrl extend-tokens`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl extend-tokens --model Qwen3-VL-8B-Instruct --out Qwen3-VL-8B-SVG
  svgrl extend-tokens --model InternVL3-8B --out InternVL3-8B-SVG --vocab internsvg --corpus train.jsonl")]
pub struct Args {
    /// The model folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// The folder to write; it must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Which tokens.
    #[arg(long, value_enum, default_value = "ctrl-s")]
    vocab: VocabName,
    /// Counts the tokens of these texts before and after: an SVG or text file, or JSONL rows whose
    /// `svg`, else `output`, else `text` is counted.
    #[arg(long, value_name = "FILE")]
    corpus: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum VocabName {
    /// CTRL-S: 49 tags, 35 attributes, integers, fractions.
    #[value(name = "ctrl-s")]
    CtrlS,
    /// InternSVG: 53 tags, 42 attributes, integers, fractions.
    Internsvg,
}

/// Runs the command.
pub fn run(args: &Args, shared: &SharedFlags) -> Result<(), CliFailure> {
    let vocabulary = match args.vocab {
        VocabName::CtrlS => SvgVocabulary::CtrlS,
        VocabName::Internsvg => SvgVocabulary::Internsvg,
    };
    let corpus = args.corpus.as_deref().map(texts).transpose()?;
    let before = Tokenizer::read(&args.model)?;
    let extension = extend_folder(&args.model, &args.out, vocabulary)?;
    let mut lines = vec![format!(
        "{} tokens added, {} were there already; {} ids, {} matrices",
        extension.tokens.len(),
        extension.skipped.len(),
        extension.ids_after,
        extension.matrices.len()
    )];
    if !extension.not_copied.is_empty() {
        lines.push(format!(
            "not copied, because other files hold the weights that count: {}",
            extension.not_copied.join(", ")
        ));
    }
    if let Some(texts) = corpus {
        let after = Tokenizer::read(&args.out)?;
        let count = |tokenizer: &Tokenizer| -> usize {
            texts.iter().map(|text| tokenizer.encode(text).len()).sum()
        };
        let (old, new) = (count(&before), count(&after));
        lines.push(format!(
            "corpus: {} texts, {old} tokens before, {new} after ({:.1} % saved)",
            texts.len(),
            100.0 * (1.0 - new as f64 / old.max(1) as f64)
        ));
        let path = args.out.join("extend_report.json");
        let failed = |error: &dyn std::fmt::Display| {
            CliFailure::other(format!("{}: {error}", path.display()))
        };
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let mut report: Value = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        report["corpus"] = json!({"texts": texts.len(), "tokens_before": old, "tokens_after": new});
        std::fs::write(&path, format!("{report:#}\n")).map_err(|error| failed(&error))?;
    }
    if !shared.quiet {
        println!("{}", lines.join("\n"));
    }
    Ok(())
}

fn texts(path: &Path) -> Result<Vec<String>, CliFailure> {
    let wrong = |problem: String| CliFailure::input(format!("{}{problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!(": {error}")))?;
    if path.extension().is_none_or(|end| end != "jsonl") {
        return Ok(vec![text]);
    }
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            let row: Value = serde_json::from_str(line)
                .map_err(|error| wrong(format!(":{}: not JSON: {error}", at + 1)))?;
            let found = ["svg", "output", "text"]
                .iter()
                .find_map(|key| row.get(key)?.as_str());
            found.map(str::to_owned).ok_or_else(|| {
                wrong(format!(
                    ":{}: none of svg, output and text is a string",
                    at + 1
                ))
            })
        })
        .collect()
}
