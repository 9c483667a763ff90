//! From rows of the data to prompts in token ids: templates, chat template, tokenizer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indexmap::IndexMap;
use models::Tokenizer;
use models::image::{ProcessedPicture, Processor, Rgb8};
use models::vision::VisionSetup;
use rewards::ImageSource;
use rollout::Prompt;
use rollout::data::{Draw, Example};
use rollout::prompt::Prompter;
use rollout::template::ChatTemplate;

use crate::TrainError;
use crate::config::TaskConfig;

/// Makes prompts for every task of a run.
pub struct PromptBuilder {
    tokenizer: Arc<Tokenizer>,
    /// How pictures become the policy's input, where it sees.
    eyes: Option<Processor>,
    tasks: IndexMap<String, Prompter>,
    /// Pictures cut so far.
    cut: AtomicU64,
}

impl PromptBuilder {
    /// Checks every task's templates; `seed` chooses among them.
    ///
    /// # Errors
    /// A malformed template, named by its key.
    pub fn new(
        tasks: &IndexMap<String, TaskConfig>,
        tokenizer: Arc<Tokenizer>,
        chat: Option<&Arc<ChatTemplate>>,
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
            cut: AtomicU64::new(0),
        })
    }

    /// For a policy that sees.
    #[must_use]
    pub fn with_vision(mut self, eyes: Option<VisionSetup>) -> Self {
        let Some(VisionSetup { processor, .. }) = eyes else {
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
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The tokens of a text to imitate, and the one that ends it.
    pub(crate) fn target(&self, text: &str) -> Vec<i64> {
        let mut ids = self.tokenizer.encode(text);
        ids.extend(self.tokenizer.eos().first());
        ids
    }

    /// Pictures that were decoded and cut so far: a rank's own alone.
    pub fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }

    /// The prompt of one draw.
    ///
    /// # Errors
    /// A row that lacks a field of its template, or belongs to no task.
    pub fn prompt(&self, draw: &Draw) -> Result<Prompt, TrainError> {
        self.with_images(self.without_images(draw)?, &draw.example)
    }

    /// The prompt without its pictures, whose tokens stand in it all the same: their sizes say how many.
    pub(crate) fn without_images(&self, draw: &Draw) -> Result<Prompt, TrainError> {
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
        let asked = prompter
            .asked(draw)
            .map_err(|error| TrainError::Input(format!("tasks.{}: {error}", example.task)))?;
        let ids = self.encode(&text, &example.images).map_err(of(example))?;
        Ok(Prompt {
            asked: asked.into(),
            id: example.id.clone(),
            task: example.task.clone(),
            text: Some(text.into()),
            ids: ids.into(),
            shown: None,
            reference: Arc::new(example.reference.clone()),
            draw: draw.draw,
        })
    }

    /// Token ids, image tokens expanded.
    fn encode(&self, text: &str, images: &[ImageSource]) -> Result<Vec<i64>, String> {
        let Some(eyes) = self.eyes.as_ref().filter(|_| !images.is_empty()) else {
            return Ok(self.tokenizer.encode(text));
        };
        let counts = images.iter().map(|image| {
            let sides = Rgb8::sides(&read(image)?).map_err(named(image))?;
            eyes.patchify.tokens(sides).map_err(named(image))
        });
        let counts: Vec<i64> = counts.collect::<Result<_, String>>()?;
        Ok(self.tokenizer.encode(&eyes.expand(text, &counts)?))
    }

    /// The prompt with its pictures, decoded and cut, in their places among its ids.
    pub(crate) fn with_images(
        &self,
        prompt: Prompt,
        example: &Example,
    ) -> Result<Prompt, TrainError> {
        let Some(eyes) = &self.eyes else {
            return Ok(prompt);
        };
        let pictures = example.images.iter().map(|image| {
            let rgb = Rgb8::decode_upright(&read(image)?).map_err(named(image))?;
            self.cut.fetch_add(1, Ordering::Relaxed);
            eyes.picture(&rgb).map_err(named(image))
        });
        let pictures: Vec<ProcessedPicture> = pictures
            .collect::<Result<_, String>>()
            .map_err(of(example))?;
        // Without pictures as well: image tokens in the words of a row would stand for none.
        let shown = eyes
            .prompt_images(&prompt.ids, pictures)
            .map_err(of(example))?;
        Ok(Prompt { shown, ..prompt })
    }
}

/// The bytes of a picture.
fn read(image: &ImageSource) -> Result<Arc<[u8]>, String> {
    image.read().map_err(named(image))
}

/// Puts a picture's name before what is wrong with it.
fn named<E: std::fmt::Display>(image: &ImageSource) -> impl FnOnce(E) -> String {
    move |error| match image {
        ImageSource::Path(path) => format!("image {}: {error}", path.display()),
        ImageSource::Png(_) => format!("image: {error}"),
    }
}

/// Puts an example's id before what is wrong with it.
fn of(example: &Example) -> impl FnOnce(String) -> TrainError {
    move |problem| TrainError::Input(format!("example {}: {problem}", example.id))
}
