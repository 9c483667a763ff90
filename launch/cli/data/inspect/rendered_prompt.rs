//! The words and tokens of a row's prompt: as the policy is asked, or, without its folder, the task's
//! template alone.

use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use models::vision::VisionSetup;
use models::{ModelConfig, Tokenizer};
use rollout::data::Draw;
use rollout::prompt::{ChatUse, PICTURE, PromptConfig, PromptError, Prompter};
use rollout::template::ChatTemplate;
use trainer::PromptBuilder;
use trainer::config::Config;

use crate::cli::CliFailure;

/// What is at hand of the policy's folder.
pub struct Folder {
    /// The tokenizer.
    pub tokenizer: Option<Arc<Tokenizer>>,
    chat: Option<Arc<ChatTemplate>>,
    /// How it sees, where its shape is known: `None` inside for a policy that reads text.
    eyes: Option<Option<VisionSetup>>,
    /// What is lacking, and what follows from that.
    pub lack: Option<String>,
}

impl Folder {
    /// Reads what is there; a folder that is not there is no error unless it is `named` on purpose.
    pub fn of(model: &ModelConfig, named: bool) -> Result<Self, CliFailure> {
        let without = |lack: String| Self {
            tokenizer: None,
            chat: None,
            eyes: None,
            lack: Some(lack),
        };
        let Some(folder) = model.tokenizer_folder() else {
            return Ok(without(
                "the config names no tokenizer: lengths in characters alone".into(),
            ));
        };
        if !named && !folder.join("tokenizer.json").exists() {
            return Ok(without(format!(
                "{} has no tokenizer.json: lengths in characters alone, prompts without the chat \
                 template; --tokenizer DIR gives one",
                folder.display()
            )));
        }
        let tokenizer = model.read_tokenizer()?;
        let chat = ChatTemplate::load(folder).map_err(CliFailure::input)?;
        let absent = |path: &PathBuf| !path.join("config.json").exists();
        let (eyes, lack) = match model.path.as_ref().filter(|path| absent(path)) {
            Some(path) => {
                let lack = format!(
                    "{} has no config.json: pictures in prompts are not counted in tokens",
                    path.display()
                );
                (None, Some(lack))
            }
            None => (Some(model.shape(&tokenizer)?.vision), None),
        };
        Ok(Self {
            tokenizer: Some(Arc::new(tokenizer)),
            chat: chat.map(Arc::new),
            eyes,
            lack,
        })
    }
}

/// Makes the prompts of rows.
pub enum Words<'a> {
    /// As the policy is asked.
    Policy(Box<PromptBuilder>),
    /// The templates' words.
    Templates {
        tasks: IndexMap<String, Prompter>,
        tokenizer: Option<&'a Tokenizer>,
    },
}

/// A row's prompt.
pub struct RenderedPrompt {
    /// As text; special tokens stand in it.
    pub text: String,
    /// In tokens, those of pictures included, where they can be counted.
    pub tokens: Option<usize>,
}

impl<'a> Words<'a> {
    /// Checks the templates of the config's tasks.
    pub fn new(config: &Config, folder: &'a Folder) -> Result<Self, CliFailure> {
        let chat = folder.chat.as_ref();
        if let (Some(tokenizer), Some(eyes)) = (&folder.tokenizer, &folder.eyes) {
            let prompts = PromptBuilder::new(&config.tasks, tokenizer.clone(), chat, config.seed)?;
            return Ok(Self::Policy(Box::new(prompts.with_vision(eyes.clone()))));
        }
        let bare = |(name, task): (&String, &trainer::config::TaskConfig)| {
            let whole = task.prompt_config();
            let asked = PromptConfig {
                system: whole.system.clone().filter(|_| chat.is_some()),
                chat: match chat {
                    Some(_) => whole.chat,
                    None => ChatUse::Never,
                },
                ..whole
            };
            let prompter = Prompter::new(&asked, chat, config.seed)
                .map_err(|error| CliFailure::input(format!("tasks.{name}.{error}")))?;
            Ok((name.clone(), prompter.with_pictures(PICTURE, false)))
        };
        Ok(Self::Templates {
            tasks: config
                .tasks
                .iter()
                .map(bare)
                .collect::<Result<_, CliFailure>>()?,
            tokenizer: folder.tokenizer.as_deref(),
        })
    }

    /// The tokenizer, if there is one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match self {
            Self::Policy(prompts) => Some(prompts.tokenizer()),
            Self::Templates { tokenizer, .. } => *tokenizer,
        }
    }

    /// The prompt of a draw, or what a run would stop with.
    pub fn asked(&self, draw: &Draw) -> Result<RenderedPrompt, String> {
        let example = &draw.example;
        match self {
            Self::Policy(prompts) => {
                let prompt = prompts.prompt(draw).map_err(|error| error.to_string())?;
                Ok(RenderedPrompt {
                    text: prompt.text.as_deref().unwrap_or_default().to_owned(),
                    tokens: Some(prompt.ids.len()),
                })
            }
            Self::Templates { tasks, tokenizer } => {
                let prompter = tasks
                    .get(&example.task)
                    .ok_or_else(|| format!("task `{}` is not in `tasks`", example.task))?;
                let text = match prompter.text(draw) {
                    Ok(text) => text,
                    // Without a chat template there are no turns: the last question stands for all.
                    Err(PromptError::Turns { .. }) => {
                        example.fields.get("prompt").cloned().unwrap_or_default()
                    }
                    Err(error) => return Err(format!("tasks.{}: {error}", example.task)),
                };
                let counted = tokenizer.filter(|_| example.images.is_empty());
                let tokens = counted.map(|tokenizer| tokenizer.encode(&text).len());
                Ok(RenderedPrompt { text, tokens })
            }
        }
    }
}
