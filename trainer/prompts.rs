//! From rows of the data to prompts in token ids: templates, chat template, tokenizer.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use indexmap::IndexMap;
use models::Tokenizer;
use models::image::{ProcessedPicture, Processor, Rgb8};
use models::vision::VisionSetup;
use rewards::ImageSource;
use rollout::Prompt;
use rollout::data::{Cursor, Draw, Example};
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
    /// Pictures cut so far.
    cut: AtomicU64,
}

/// Prompts of one step, and how many rows were passed over for their length.
pub struct Drawn {
    /// The rank's own prompts.
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
    pub fn tokenizer(&self) -> &'a Tokenizer {
        self.tokenizer
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
        self.shown(self.asked(draw)?, &draw.example)
    }

    /// The prompt without its pictures, whose tokens stand in it all the same: their sizes say how many.
    fn asked(&self, draw: &Draw) -> Result<Prompt, TrainError> {
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
        let ids = self.encode(&text, &example.images).map_err(of(example))?;
        Ok(Prompt {
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
    fn shown(&self, prompt: Prompt, example: &Example) -> Result<Prompt, TrainError> {
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

    /// Draws until `count` examples have a prompt of at most `longest` tokens; ids are made unique.
    /// With [`Turns::All`] a conversation gives a prompt for each of its answers. Every rank draws the whole
    /// list and keeps each `size`th from its own number on: pictures of the others are not cut.
    ///
    /// # Errors
    /// A bad row, or a thousand draws in a row that are all too long.
    pub fn draw(
        &self,
        cursor: &mut Cursor,
        (count, turns): (usize, Turns),
        longest: usize,
        (rank, size): (usize, usize),
    ) -> Result<Drawn, TrainError> {
        let mut drawn = Drawn {
            prompts: Vec::new(),
            targets: Vec::new(),
            too_long: 0,
            tally: Tally::default(),
        };
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut own: Vec<(Prompt, Example)> = Vec::new();
        let (mut kept, mut streak, mut all) = (0, 0, 0);
        while kept < count {
            for draw in cursor.next(count - kept)? {
                let before = all;
                for turn in of_turns(&draw, turns) {
                    let mut prompt = self.asked(&turn)?;
                    if prompt.ids.len() > longest || prompt.ids.is_empty() {
                        drawn.too_long += 1;
                        continue;
                    }
                    let times = seen.entry(prompt.id.clone()).or_default();
                    *times += 1;
                    if *times > 1 {
                        prompt.id = format!("{}#{times}", prompt.id);
                    }
                    if all % size == rank {
                        own.push((prompt, turn.example));
                    }
                    all += 1;
                }
                if all > before {
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
        for (prompt, target) in self.all_shown(own)? {
            drawn.prompts.push(prompt);
            drawn.targets.push(target);
        }
        Ok(drawn)
    }

    /// The prompts with their pictures, cut on as many threads as libtorch computes with.
    fn all_shown(
        &self,
        own: Vec<(Prompt, Example)>,
    ) -> Result<Vec<(Prompt, Option<String>)>, TrainError> {
        let threads = usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1);
        let share = own.len().div_ceil(threads).max(1);
        let mut shares: Vec<Vec<(Prompt, Example)>> = Vec::new();
        let mut rest = own.into_iter();
        while rest.len() > 0 {
            shares.push(rest.by_ref().take(share).collect());
        }
        let show = |share: Vec<(Prompt, Example)>| {
            let one = |(prompt, example): (Prompt, Example)| {
                Ok((self.shown(prompt, &example)?, example.target))
            };
            share
                .into_iter()
                .map(one)
                .collect::<Result<Vec<_>, TrainError>>()
        };
        let done: Result<Vec<Vec<_>>, TrainError> = std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .into_iter()
                .map(|share| scope.spawn(|| show(share)))
                .collect();
            let joined = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(TrainError::Other("cutting pictures failed".into())))
            });
            joined.collect()
        });
        Ok(done?.into_iter().flatten().collect())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn tiny_vlm() -> (Config, Tokenizer) {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let text = std::fs::read_to_string(configs.join("tiny_vlm.yaml")).unwrap();
        let mut config: Config = serde_saphyr::from_str(&text).unwrap();
        config.resolve_paths(&configs);
        config.settle().unwrap();
        let tokenizer = Tokenizer::read(&configs.join("tiny_vlm_tokenizer")).unwrap();
        (config, tokenizer)
    }

    #[test]
    fn a_rank_cuts_the_pictures_of_its_own_prompts_alone() {
        let (config, tokenizer) = tiny_vlm();
        let eyes = config.model.shape(&tokenizer).unwrap().vision;
        let drawn = |rank: usize, size: usize| {
            let catalog = crate::plan::open_catalog(&config, &mut |_, _, _| {}).unwrap();
            let stage = config.stages[0].curriculum();
            let mut cursor = Cursor::new(Arc::new(catalog), stage, 3).unwrap();
            let prompts = Prompts::new(&config.tasks, &tokenizer, None, 0)
                .unwrap()
                .with_vision(eyes.clone());
            let asked = (24, Turns::Last);
            let drawn = prompts
                .draw(&mut cursor, asked, 4096, (rank, size))
                .unwrap();
            (drawn, prompts.cut())
        };
        let (all, cut) = drawn(0, 1);
        assert!(cut > 6 && cut < 24, "{cut}");
        let mut of_ranks = 0;
        for rank in 0..3 {
            let (own, cut) = drawn(rank, 3);
            of_ranks += cut;
            let expected = all.prompts.iter().skip(rank).step_by(3);
            assert_eq!(own.prompts.len(), 8);
            for (prompt, expected) in own.prompts.iter().zip(expected) {
                assert_eq!(prompt.id, expected.id);
                assert_eq!(prompt.ids, expected.ids);
                assert_eq!(prompt.shown, expected.shown);
            }
        }
        assert_eq!(of_ranks, cut);
    }

    #[test]
    fn image_tokens_in_the_words_of_a_row_are_refused_by_its_name() {
        let (config, tokenizer) = tiny_vlm();
        let catalog = Arc::new(crate::plan::open_catalog(&config, &mut |_, _, _| {}).unwrap());
        let mut cursor = Cursor::new(catalog, config.stages[0].curriculum(), 3).unwrap();
        let prompts = Prompts::new(&config.tasks, &tokenizer, None, 0)
            .unwrap()
            .with_vision(config.model.shape(&tokenizer).unwrap().vision);
        for mut draw in cursor.next(24).unwrap() {
            assert!(prompts.prompt(&draw).is_ok());
            let words = draw.example.fields.values_mut();
            words.for_each(|words| words.push_str(" <|image_pad|>"));
            let used = draw.example.task != "look";
            let said = prompts.prompt(&draw).err().map(|error| error.to_string());
            match said {
                Some(said) => assert!(said.contains(&draw.example.id), "{said}"),
                None => assert!(!used, "{}", draw.example.id),
            }
        }
    }
}
