//! From rows of the data to prompts in token ids: templates, chat template, tokenizer.

use std::collections::HashSet;
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

/// Stands for a picture until its tokens do: a character that no text holds, unlike the words of placeholders.
const PLACE: &str = "\u{fdd0}";

/// Makes prompts for every task of a run.
pub struct PromptBuilder {
    tokenizer: Arc<Tokenizer>,
    /// How pictures become the policy's input, where it sees.
    eyes: Option<Processor>,
    tasks: IndexMap<String, Prompter>,
    /// Tasks whose completions are SVG.
    drawing: HashSet<String>,
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
        let drawing = tasks.iter().filter(|(_, task)| task.draws());
        let drawing = drawing.map(|(name, _)| name.clone()).collect();
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
            drawing,
            cut: AtomicU64::new(0),
        })
    }

    /// For a policy that sees.
    #[must_use]
    pub fn with_vision(mut self, eyes: Option<VisionSetup>) -> Self {
        let Some(VisionSetup { processor, .. }) = eyes else {
            return self;
        };
        let by_template = !processor.writes_placeholders();
        let text = processor.mark().replace(processor.placeholder(), PLACE);
        self.tasks = self
            .tasks
            .into_iter()
            .map(|(name, prompter)| (name, prompter.with_pictures(&text, by_template)))
            .collect();
        self.eyes = Some(processor);
        self
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The tokens that a draw's row has supervised training imitate, and the one that ends them; `None` where it has
    /// nothing of the kind.
    ///
    /// # Errors
    /// An answer that the chat template does not render behind its prompt.
    pub(crate) fn target(&self, draw: &Draw) -> Result<Option<Vec<i64>>, TrainError> {
        let example = &draw.example;
        let rendered = self.prompter(example)?.answer(draw);
        let rendered = rendered.map_err(|error| of_task(example, &error))?;
        let eos = self.tokenizer.eos();
        if let Some(text) = rendered {
            let mut ids = self.tokenizer.encode(&text);
            // What a template writes behind the end is the next turn's.
            match ids.iter().position(|id| eos.contains(id)) {
                Some(end) => ids.truncate(end + 1),
                None => ids.extend(eos.first()),
            }
            return Ok(Some(ids));
        }
        Ok(example.target.as_deref().map(|text| {
            let mut ids = self.tokenizer.encode(text);
            ids.extend(eos.first());
            ids
        }))
    }

    /// The text of an answer's tokens, without the one that ends it.
    pub(crate) fn answer_text(&self, ids: &[i64]) -> String {
        let eos = self.tokenizer.eos();
        let ended = ids.last().is_some_and(|id| eos.contains(id));
        self.tokenizer
            .decode(&ids[..ids.len() - usize::from(ended)])
    }

    /// The tokens of the answer that a pair rejects, ended like [`Self::target`]'s; `None` where the row is no pair.
    ///
    /// # Errors
    /// As [`Self::target`].
    pub(crate) fn rejected(&self, draw: &Draw) -> Result<Option<Vec<i64>>, TrainError> {
        let Some(example) = draw.example.rejected() else {
            return Ok(None);
        };
        self.target(&Draw {
            example,
            ..draw.clone()
        })
    }

    /// The words under which another row of the task asks the same as a draw; see [`Prompter::own_words`].
    ///
    /// # Errors
    /// As [`Self::prompt`].
    pub(crate) fn own_words(&self, draw: &Draw) -> Result<String, TrainError> {
        let example = &draw.example;
        let words = self.prompter(example)?.own_words(draw);
        words.map_err(|error| of_task(example, &error))
    }

    fn prompter(&self, example: &Example) -> Result<&Prompter, TrainError> {
        self.tasks.get(&example.task).ok_or_else(|| {
            let known: Vec<&String> = self.tasks.keys().collect();
            TrainError::Input(format!(
                "example {}: task `{}` is not in `tasks` {known:?}",
                example.id, example.task
            ))
        })
    }

    /// Whether a task's completions are SVG.
    pub(crate) fn draws(&self, task: &str) -> bool {
        self.drawing.contains(task)
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
        let prompter = self.prompter(example)?;
        let text = prompter
            .text(draw)
            .map_err(|error| of_task(example, &error))?;
        let asked = prompter
            .asked(draw)
            .map_err(|error| of_task(example, &error))?;
        let ids = self.encode(&text, &example.images).map_err(of(example))?;
        let text = match &self.eyes {
            Some(eyes) if text.contains(PLACE) => text.replace(PLACE, eyes.placeholder()),
            _ => text,
        };
        Ok(Prompt {
            asked: asked.into(),
            id: example.id.clone(),
            task: example.task.clone(),
            text: Some(text.into()),
            ids: ids.into(),
            shown: None,
            images: Arc::default(),
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
        let expanded = match text.contains(PLACE) {
            true => eyes.expand_at(PLACE, text, &counts)?,
            false => eyes.expand(text, &counts)?,
        };
        Ok(self.tokenizer.encode(&expanded))
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
        let images = example.images.as_slice().into();
        Ok(Prompt {
            shown,
            images,
            ..prompt
        })
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

/// Puts an example's task before what is wrong with its prompt.
fn of_task(example: &Example, error: &dyn std::fmt::Display) -> TrainError {
    TrainError::Input(format!("tasks.{}: {error}", example.task))
}

/// Puts an example's id before what is wrong with it.
fn of(example: &Example) -> impl FnOnce(String) -> TrainError {
    move |problem| TrainError::Input(format!("example {}: {problem}", example.id))
}
