//! From rows of the data to prompts in token ids: templates, chat template, tokenizer.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;
use models::Tokenizer;
use models::image::{Picture, Processor, Rgb8};
use models::vision::{Eyes, Shown};
use rewards::ImageSource;
use rollout::Prompt;
use rollout::data::{Cursor, Draw};
use rollout::prompt::Prompter;
use rollout::template::ChatTemplate;

use crate::TrainError;
use crate::config::TaskConfig;
use crate::tally::Tally;

/// Makes prompts for every task of a run.
pub struct Prompts<'a> {
    tokenizer: &'a Tokenizer,
    /// How pictures become the policy's input, where it sees.
    eyes: Option<Processor>,
    tasks: IndexMap<String, Prompter<'a>>,
}

/// Token ids and the pictures among them.
type Encoded = (Vec<i64>, Option<Arc<Shown>>);

/// Prompts of one step, and how many rows were passed over for their length.
pub struct Drawn {
    /// The prompts.
    pub prompts: Vec<Prompt>,
    /// What SFT imitates, aligned with the prompts.
    pub targets: Vec<Option<String>>,
    /// Rows left out because their prompt was too long.
    pub too_long: u64,
    /// What was drawn of each task.
    pub tally: Tally,
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
        Ok(Self {
            tokenizer,
            eyes: None,
            tasks,
        })
    }

    /// For a policy that sees.
    #[must_use]
    pub fn with_eyes(mut self, eyes: Option<Eyes>) -> Self {
        let Some(Eyes { processor, .. }) = eyes else {
            return self;
        };
        let (text, by_template) = (processor.mark(), !processor.writes_placeholders());
        self.tasks = self
            .tasks
            .into_iter()
            .map(|(name, prompter)| (name, prompter.with_pictures(text, by_template)))
            .collect();
        self.eyes = Some(processor);
        self
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
        let (ids, shown) = self
            .encode(&text, &example.images)
            .map_err(|error| TrainError::Input(format!("example {}: {error}", example.id)))?;
        Ok(Prompt {
            id: example.id.clone(),
            task: example.task.clone(),
            text: Some(text.into()),
            ids: ids.into(),
            shown,
            reference: Arc::new(example.reference.clone()),
            draw: draw.draw,
        })
    }

    /// Token ids, image tokens expanded, and the pictures in their places.
    fn encode(&self, text: &str, images: &[ImageSource]) -> Result<Encoded, String> {
        let Some(eyes) = self.eyes.as_ref().filter(|_| !images.is_empty()) else {
            return Ok((self.tokenizer.encode(text), None));
        };
        let pictures = images.iter().map(|image| {
            let named = |error: &dyn std::fmt::Display| match image {
                ImageSource::Path(path) => format!("image {}: {error}", path.display()),
                ImageSource::Png(_) => format!("image: {error}"),
            };
            let bytes = image.read().map_err(|error| named(&error))?;
            let rgb = Rgb8::decode(&bytes).map_err(|error| named(&error))?;
            eyes.picture(&rgb).map_err(|error| named(&error))
        });
        let pictures: Vec<Picture> = pictures.collect::<Result<_, String>>()?;
        let ids = self.tokenizer.encode(&eyes.expand(text, &pictures)?);
        let shown = eyes.shown(&ids, pictures)?;
        Ok((ids, shown))
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
            tally: Tally::default(),
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
                drawn.tally.add(&draw);
                drawn.prompts.push(prompt);
                drawn.targets.push(draw.example.target);
            }
        }
        Ok(drawn)
    }
}
