//! Scores drawings against a reference with the crates alone: shape, drawing, rubric.
//!
//! ```sh
//! cargo build && cargo run --example score
//! ```

use std::error::Error;
use std::sync::Arc;

use indexmap::IndexMap;
use rewards::{Candidate, Reference, RewardsConfig, ScoreJob, Scorer, TaskScoring};

/// A task as it stands in a config, see configs/REFERENCE.md.
const TASK: &str = "
completion: {format: svg}
render: {size: 64}
rubric:
  rewards:
    - {type: ssim, weight: 0.7, window_size: 7}
    - {type: code_efficiency, weight: 0.3, clip: [0, 1]}
";

fn disc(x: u32) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><circle cx="{x}" cy="32" r="16" fill="red"/></svg>"#
    )
}

/// The rewards of `texts` beside the disc in the middle.
pub fn scored(texts: &[String]) -> Result<Vec<rewards::Reward>, Box<dyn Error>> {
    let task: TaskScoring = serde_saphyr::from_str(TASK)?;
    let tasks = IndexMap::from([("draw".to_owned(), task)]);
    let scorer = Scorer::new(&RewardsConfig::default(), tasks, None)?;
    let reference = Arc::new(Reference {
        svg: Some(disc(32)),
        ..Reference::default()
    });
    let job = |(key, text): (usize, &String)| ScoreJob {
        key: key as u64,
        id: key.to_string(),
        task: "draw".into(),
        step: 1,
        measure: false,
        prompt: "a red disc".into(),
        reference: reference.clone(),
        candidate: Candidate {
            text: text.clone(),
            truncated: false,
        },
    };
    Ok(scorer.score(texts.iter().enumerate().map(job).collect()))
}

/// The drawing itself, one beside it, and no drawing.
pub fn texts() -> [String; 3] {
    [disc(32), disc(24), "I cannot draw.".to_owned()]
}

#[allow(dead_code, reason = "a test takes this file as a module")]
fn main() -> Result<(), Box<dyn Error>> {
    let texts = texts();
    for (text, reward) in texts.iter().zip(scored(&texts)?) {
        let total = reward.total.unwrap_or_default();
        println!("{total:.3} {:?} {text}", reward.parts);
    }
    Ok(())
}
