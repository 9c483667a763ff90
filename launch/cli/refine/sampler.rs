//! Asking the policy in one of its roles, many prompts at a time.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use models::{GenerationConfig, load_folder};
use rollout::engine::{self, EngineConfig, EngineOptions, ServersOptions};
use rollout::{Completion, Engine, Request, Sampling, Submission};
use serde_json::{Value, json};

use super::super::rows::{PromptFields, TextSide};
use super::super::{CliFailure, SharedFlags};
use super::args::Args;
use crate::progress::Bar;

/// A question.
pub struct RoleQuestion {
    /// Whose it is.
    pub index: usize,
    /// Its words; in two parts where a picture stands between them.
    pub words: Vec<String>,
    /// The picture.
    pub image: Option<PathBuf>,
    /// Where the prompt came from: `file:line`.
    pub place: String,
}

/// The policy, its words and its engine.
pub struct RoleSampler {
    engine: Box<dyn Engine>,
    text: TextSide,
    stop_token_ids: Vec<i64>,
    seed: u64,
}

impl RoleSampler {
    /// Loads the policy.
    ///
    /// # Errors
    /// A folder that cannot be read, or whose policy sees no pictures.
    pub fn open(args: &Args, shared: &SharedFlags) -> Result<Self, CliFailure> {
        let device = shared.device()?;
        trainer::threads(0);
        let model = Rc::new(load_folder(&args.model, shared.kind(), device)?);
        if model.vision().is_none() {
            return Err(CliFailure::input(format!(
                "--model {}: reads text only; a critic must see the drawing",
                args.model.display()
            )));
        }
        let text = TextSide::read(&args.model, &model)?;
        let options = EngineOptions {
            policy: model.clone(),
            images: None,
            tokenizer: text.tokenizer.clone(),
            slots: args.slots,
            cache_tokens: 0,
            servers: ServersOptions::default(),
        };
        Ok(Self {
            engine: engine::open(EngineConfig::Local, options)?,
            text,
            stop_token_ids: GenerationConfig::read(&args.model)?.eos,
            seed: shared.seed.unwrap_or(0),
        })
    }

    /// An answer to each question, by whose it is. `phase` keys the random numbers.
    ///
    /// # Errors
    /// Prompts that the policy's folder cannot put; the engine's.
    pub fn answers(
        &mut self,
        asked: Vec<RoleQuestion>,
        (temperature, max_new_tokens): (f64, usize),
        phase: u64,
        bar: &mut Bar,
    ) -> Result<Vec<(usize, Completion)>, CliFailure> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let sampling = Sampling {
            temperature,
            max_new_tokens,
            stop_token_ids: self.stop_token_ids.clone(),
            ..Sampling::default()
        };
        sampling.check().map_err(CliFailure::input)?;
        let requests: Vec<Request> = asked
            .iter()
            .map(|question| {
                let fields: PromptFields =
                    serde_json::from_value(messages(question)).map_err(CliFailure::other)?;
                let (ids, images) = self.text.prompt(fields, (Path::new(""), &question.place))?;
                Ok(Request {
                    group: question.index,
                    ids: ids.into(),
                    images,
                    samples: 1,
                    draw: question.index as u64,
                    lengths: None,
                })
            })
            .collect::<Result<_, CliFailure>>()?;
        self.engine.submit(Submission {
            requests,
            sampling,
            seed: rollout::mix(self.seed, phase),
        })?;
        let mut answers = Vec::new();
        while let Some(finished) = self.engine.next()? {
            bar.advance(1);
            answers.push((finished.group, finished.completion));
        }
        answers.sort_by_key(|(index, _)| *index);
        Ok(answers)
    }
}

/// A user's turn.
fn messages(question: &RoleQuestion) -> Value {
    let Some(image) = &question.image else {
        return json!({"messages": [{"role": "user", "content": question.words.concat()}]});
    };
    let mut parts = Vec::new();
    for (at, words) in question.words.iter().enumerate() {
        if at > 0 {
            parts.push(json!({"type": "image"}));
        }
        if !words.is_empty() {
            parts.push(json!({"type": "text", "text": words}));
        }
    }
    json!({"messages": [{"role": "user", "content": parts}], "images": [image]})
}
