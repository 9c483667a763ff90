//! From rows of the data to prompts in token ids: templates, chat template, tokenizer.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use models::Tokenizer;
use rollout::Prompt;
use rollout::data::{Cursor, Draw};
use rollout::prompt::{PromptConfig, Prompter};
use rollout::template::ChatTemplate;

use crate::TrainError;
use crate::config::{TaskConfig, TaskType};

/// Makes prompts for every task of a run.
pub struct Prompts<'a> {
    tokenizer: &'a Tokenizer,
    tasks: IndexMap<String, Prompter<'a>>,
}

/// Prompts of one step, and how many rows were passed over for their length.
pub struct Drawn {
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// What SFT imitates, aligned with the prompts.
    pub targets: Vec<Option<String>>,
    /// Rows left out because their prompt was too long.
    pub too_long: u64,
}

impl TaskConfig {
    fn prompt_config(&self) -> PromptConfig {
        let mut templates = self.templates.clone();
        if templates.is_empty() {
            templates.push(match self.task_type {
                TaskType::TextToSvg => "{prompt}".into(),
                TaskType::Refinement => "{prompt}\n{draft}".into(),
            });
        }
        PromptConfig {
            templates,
            system: self.system.clone(),
            chat: self.chat,
            prefill: self.prefill.clone(),
        }
    }
}

impl<'a> Prompts<'a> {
    /// Checks every task's templates; `seed` chooses among them.
    ///
    /// # Errors
    /// A malformed template, named by its key.
    pub fn new(
        tasks: &IndexMap<String, TaskConfig>,
        tokenizer: &'a Tokenizer,
        chat: Option<&'a ChatTemplate>,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let tasks = tasks
            .iter()
            .map(|(name, task)| {
                let prompter = Prompter::new(&task.prompt_config(), chat, seed)
                    .map_err(|error| TrainError::Input(format!("tasks.{name}.{error}")))?;
                Ok((name.clone(), prompter))
            })
            .collect::<Result<_, TrainError>>()?;
        Ok(Self { tokenizer, tasks })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
    }

    /// The prompt of one draw.
    ///
    /// # Errors
    /// A row that lacks a field of its template, or belongs to no task.
    pub fn prompt(&self, draw: &Draw) -> Result<Prompt, TrainError> {
        let example = &draw.example;
        let prompter = self.tasks.get(&example.task).ok_or_else(|| {
            let known: Vec<&String> = self.tasks.keys().collect();
            TrainError::Input(format!(
                "example {}: task `{}` is not in `tasks` {known:?}",
                example.id, example.task
            ))
        })?;
        let text = prompter
            .text(draw)
            .map_err(|error| TrainError::Input(format!("tasks.{}: {error}", example.task)))?;
        let ids = self.tokenizer.encode(&text);
        Ok(Prompt {
            id: example.id.clone(),
            task: example.task.clone(),
            text: Some(text.into()),
            ids: ids.into(),
            reference: Arc::new(example.reference.clone()),
            draw: draw.draw,
        })
    }

    /// Draws until `count` prompts of at most `longest` tokens are found; ids are made unique.
    ///
    /// # Errors
    /// A bad row, or a thousand draws in a row that are all too long.
    pub fn draw(
        &self,
        cursor: &mut Cursor,
        count: usize,
        longest: usize,
    ) -> Result<Drawn, TrainError> {
        let mut drawn = Drawn {
            prompts: Vec::new(),
            targets: Vec::new(),
            too_long: 0,
        };
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut streak = 0;
        while drawn.prompts.len() < count {
            for draw in cursor.next(count - drawn.prompts.len())? {
                let mut prompt = self.prompt(&draw)?;
                if prompt.ids.len() > longest || prompt.ids.is_empty() {
                    drawn.too_long += 1;
                    streak += 1;
                    if streak >= 1000 {
                        return Err(TrainError::Input(format!(
                            "the last 1000 prompts drawn were longer than max_prompt_tokens {longest} (or empty); raise it"
                        )));
                    }
                    continue;
                }
                streak = 0;
                let times = seen.entry(prompt.id.clone()).or_default();
                *times += 1;
                if *times > 1 {
                    prompt.id = format!("{}#{times}", prompt.id);
                }
                drawn.prompts.push(prompt);
                drawn.targets.push(draw.example.target);
            }
        }
        Ok(drawn)
    }
}
