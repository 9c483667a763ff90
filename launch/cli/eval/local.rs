//! A model folder that answers a suite's questions in this process.

use std::path::Path;
use std::rc::Rc;

use models::{GenerationConfig, load_folder};
use rewards::ImageSource;
use rollout::engine::{self, Engine, EngineConfig, EngineOptions, ServersOptions};
use rollout::{Request, Sampling, Submission};
use serde_json::{Value, json};
use trainer::TrainError;
use trainer::eval::{Answerer, EvalQuestion, TakeAnswer};

use crate::cli::rows::{PromptFields, TextSide};
use crate::cli::{CliFailure, SharedFlags};

/// A model, its text side and an engine.
pub struct LocalModel {
    text: TextSide,
    engine: Box<dyn Engine>,
    sampling: Sampling,
    seed: u64,
    /// Questions that are held at a time.
    ahead: usize,
}

/// The place of a picture in a question.
const PICTURE: &str = "<image>";

impl LocalModel {
    /// Loads `folder`, whose end-of-sequence ids are added to `sampling`.
    pub fn open(
        folder: &Path,
        device: tch::Device,
        shared: &SharedFlags,
        (mut sampling, slots): (Sampling, usize),
    ) -> Result<Self, CliFailure> {
        let model = Rc::new(load_folder(folder, shared.kind(), device)?);
        let text = TextSide::read(folder, &model)?;
        if text.tokenizer.is_none() {
            return Err(CliFailure::input(format!(
                "--model {}: has no tokenizer.json, and a suite asks in words",
                folder.display()
            )));
        }
        sampling.stop_token_ids = GenerationConfig::read(folder)?.eos;
        let options = EngineOptions {
            policy: model,
            images: None,
            tokenizer: text.tokenizer.clone(),
            slots,
            cache_tokens: 0,
            servers: ServersOptions::default(),
        };
        Ok(Self {
            text,
            engine: engine::open(EngineConfig::Local, options)?,
            sampling,
            seed: shared.seed.unwrap_or(0),
            ahead: (4 * slots).max(512),
        })
    }

    fn request(&self, group: usize, question: &EvalQuestion) -> Result<Request, CliFailure> {
        let fields: PromptFields =
            serde_json::from_value(self.fields(question)).map_err(CliFailure::other)?;
        let (ids, images) = self.text.prompt(fields, (Path::new(""), &question.item))?;
        Ok(Request {
            group,
            ids: ids.into(),
            images,
            samples: 1,
            draw: question.draw,
            lengths: None,
        })
    }

    /// The question as a row of `svgrl generate`: a user's turn where the folder has a chat template and the words are no
    /// whole prompt, else the words.
    fn fields(&self, question: &EvalQuestion) -> Value {
        let images: Vec<&ImageSource> = question.picture.iter().collect();
        if question.raw || !self.text.chats() {
            return json!({"prompt": question.text, "images": images});
        }
        if images.is_empty() {
            return json!({"messages": [{"role": "user", "content": question.text}]});
        }
        let words = |text: &str| json!({"type": "text", "text": text});
        let picture = json!({"type": "image"});
        let parts = match question.text.split_once(PICTURE) {
            None => vec![picture, words(&question.text)],
            Some(("", after)) => vec![picture, words(after)],
            Some((before, after)) => vec![words(before), picture, words(after)],
        };
        json!({"messages": [{"role": "user", "content": parts}], "images": images})
    }
}

impl Answerer for LocalModel {
    fn answer(
        &mut self,
        questions: &[EvalQuestion],
        take: &mut TakeAnswer,
    ) -> Result<(), TrainError> {
        // Pictures are held for one batch of questions at a time.
        for start in (0..questions.len()).step_by(self.ahead) {
            let end = (start + self.ahead).min(questions.len());
            let mut requests = Vec::new();
            for (at, question) in questions[start..end].iter().enumerate() {
                match self.request(start + at, question) {
                    Ok(request) => requests.push(request),
                    // A picture that is missing, say: this question's fault.
                    Err(error) => take(start + at, Err(error.to_string()))?,
                }
            }
            self.engine.submit(Submission {
                requests,
                sampling: self.sampling.clone(),
                seed: self.seed,
            })?;
            while let Some(finished) = self.engine.next()? {
                let text = finished.completion.text.unwrap_or_default();
                take(finished.group, Ok(text))?;
            }
        }
        Ok(())
    }
}
