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
use crate::config::{TaskConfig, Turns};
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
            let rgb = Rgb8::decode_upright(&bytes).map_err(|error| named(&error))?;
            eyes.picture(&rgb).map_err(|error| named(&error))
        });
        let pictures: Vec<Picture> = pictures.collect::<Result<_, String>>()?;
        let ids = self.tokenizer.encode(&eyes.expand(text, &pictures)?);
        let shown = eyes.shown(&ids, pictures)?;
        Ok((ids, shown))
    }

    /// Draws until `count` examples have a prompt of at most `longest` tokens; ids are made unique.
    /// With [`Turns::All`] a conversation gives a prompt for each of its answers.
    ///
    /// # Errors
    /// A bad row, or a thousand draws in a row that are all too long.
    pub fn draw(
        &self,
        cursor: &mut Cursor,
        (count, turns): (usize, Turns),
        longest: usize,
    ) -> Result<Drawn, TrainError> {
        let mut drawn = Drawn {
            prompts: Vec::new(),
            targets: Vec::new(),
            too_long: 0,
            tally: Tally::default(),
        };
        let mut seen: HashMap<String, usize> = HashMap::new();
        let (mut kept, mut streak) = (0, 0);
        while kept < count {
            for draw in cursor.next(count - kept)? {
                let before = drawn.prompts.len();
                for turn in of_turns(&draw, turns) {
                    let mut prompt = self.prompt(&turn)?;
                    if prompt.ids.len() > longest || prompt.ids.is_empty() {
                        drawn.too_long += 1;
                        continue;
                    }
                    let times = seen.entry(prompt.id.clone()).or_default();
                    *times += 1;
                    if *times > 1 {
                        prompt.id = format!("{}#{times}", prompt.id);
                    }
                    drawn.prompts.push(prompt);
                    drawn.targets.push(turn.example.target);
                }
                if drawn.prompts.len() > before {
                    streak = 0;
                    kept += 1;
                    drawn.tally.add(&draw);
                    continue;
                }
                streak += 1;
                if streak >= 1000 {
                    return Err(TrainError::Input(format!(
                        "the last 1000 prompts drawn were longer than max_prompt_tokens {longest} (or empty); raise it"
                    )));
                }
            }
        }
        Ok(drawn)
    }
}

/// A draw as it is asked: with each of its answers to come, or with the last one.
fn of_turns(draw: &Draw, turns: Turns) -> Vec<Draw> {
    let mut all = Vec::new();
    if turns == Turns::All {
        all.extend(draw.example.earlier().map(|example| Draw {
            example,
            ..draw.clone()
        }));
    }
    all.push(draw.clone());
    all
}
