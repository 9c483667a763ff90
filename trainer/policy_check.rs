//! What a policy's folder lets a run expect, told before it starts: tokens that completions would lose,
//! lengths beyond the positions it was trained for, tensors that are left out.

use models::{DecoderConfig, Tokenizer, matching_tensors};

use crate::TrainError;
use crate::config::{Config, StageConfig};

/// What people are told, a sentence each. `longest` is the longest prompt that was seen of each stage, in
/// tokens; 0 where none was.
///
/// # Errors
/// A token of the tasks' formats, or one that looks like SVG, which decoding does not show.
pub(crate) fn told(
    config: &Config,
    shape: &DecoderConfig,
    tokenizer: &Tokenizer,
    longest: &[usize],
) -> Result<Vec<String>, TrainError> {
    let formats = config.tasks.values();
    let words: Vec<&str> = formats
        .flat_map(|task| task.completion.clone().unwrap_or_default().markup())
        .copied()
        .collect();
    let lost = tokenizer.unshown(&words);
    if !lost.is_empty() {
        return Err(TrainError::Input(format!(
            "model.tokenizer: completions would lose {}: {} an end or padding token of {}; give those another token",
            lost.join(", "),
            if lost.len() == 1 { "it is" } else { "they are" },
            tokenizer.folder().display()
        )));
    }
    let mut lines = Vec::new();
    for (index, stage) in config.stages.iter().enumerate() {
        let prompt = longest.get(index).copied().unwrap_or(0);
        for (key, new) in lengths(stage) {
            if prompt + new > shape.max_positions as usize {
                let after = match prompt {
                    0 => String::new(),
                    prompt => format!(" after a prompt of {prompt}"),
                };
                lines.push(format!(
                    "stages.{}.{key}: {new} tokens{after} go beyond the model's max_position_embeddings {}, further than it was trained",
                    stage.name(),
                    shape.max_positions
                ));
            }
        }
    }
    if let Some(folder) = &config.model.path
        && !config.model.ignore.is_empty()
    {
        let names = matching_tensors(folder, &config.model.ignore)?;
        lines.push(match names.len() {
            0 => "model.ignore: no tensor of model.path has such a name".to_owned(),
            _ => format!(
                "model.ignore: left out unless the network has it: {}",
                names.join(", ")
            ),
        });
    }
    Ok(lines)
}

/// The keys that say how long a stage's completions may be, with their values.
fn lengths(stage: &StageConfig) -> Vec<(&'static str, usize)> {
    let rollout = stage.algorithm.options().rollout();
    let sampled = rollout.map(|rollout| ("rollout.max_new_tokens", rollout.max_new_tokens));
    let eval = &stage.common.eval;
    let own = (eval.prompts > 0 && eval.max_new_tokens > 0)
        .then_some(("eval.max_new_tokens", eval.max_new_tokens));
    sampled.into_iter().chain(own).collect()
}
