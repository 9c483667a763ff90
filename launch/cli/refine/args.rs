//! The flags of `svgrl refine`.

use std::path::PathBuf;

/// `svgrl refine`
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  svgrl refine --model runs/introsvg/checkpoints/dpo/final --prompts prompts.jsonl --out refined
  svgrl refine --model DIR --prompts prompts.jsonl --out refined --rounds 5 --stop-at 9

OUT/rounds.jsonl has every round of every prompt, OUT/final.jsonl the last drawings, OUT/pictures/ and OUT/strips/ what they look like.")]
pub struct Args {
    /// Model folder in Hugging Face layout.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Rows `{"id", "prompt"}`.
    #[arg(long, value_name = "FILE")]
    pub prompts: PathBuf,
    /// The folder to write; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Corrections of each drawing.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// A drawing whose critique has this score or more (0 to 10) is not corrected further.
    #[arg(long, value_name = "SCORE")]
    pub stop_at: Option<f64>,
    /// YAML file with the words of the roles `draft`, `critique` and `correct`, in place of our own.
    #[arg(long, value_name = "FILE")]
    pub templates: Option<PathBuf>,
    /// Temperature of drafts.
    #[arg(long, default_value_t = 0.5)]
    pub draft_temperature: f64,
    /// Temperature of critiques; the last one is greedy.
    #[arg(long, default_value_t = 0.1)]
    pub critique_temperature: f64,
    /// Temperature of corrections.
    #[arg(long, default_value_t = 0.2)]
    pub correct_temperature: f64,
    /// Longest drawing, in tokens.
    #[arg(long, default_value_t = 6000)]
    pub max_new_tokens: usize,
    /// Longest critique, in tokens.
    #[arg(long, default_value_t = 2048)]
    pub critique_tokens: usize,
    /// Side of the pictures, in pixels.
    #[arg(long, default_value_t = 200)]
    pub size: u32,
    /// Sequences decoded at a time; 0: all.
    #[arg(long, default_value_t = 64)]
    pub slots: usize,
}
