//! Draws a step's rows and makes prompts of them. Every rank draws the whole list, so that all go through
//! the data alike, and cuts the pictures of its own share alone. Where answers are given, shares are balanced by tokens.

use std::collections::HashMap;
use std::rc::Rc;

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use rollout::Prompt;
use rollout::data::{Cursor, CursorState, Draw, SkippedRow, Spread};

use crate::TrainError;
use crate::config::AnswerSelection;
use crate::draw_stats::DrawStats;
use crate::prompt_builder::PromptBuilder;

/// Gives steps their prompts.
pub trait Loader {
    /// The next prompts that fit, this rank's share of them; ids are unique within a step.
    ///
    /// # Errors
    /// A bad row, or no row that fits.
    fn prompts(&mut self, request: PromptRequest) -> Result<LoadedPrompts, TrainError>;

    /// Its place in the data.
    fn state(&self) -> CursorState;

    /// Goes back to `state`.
    ///
    /// # Errors
    /// A state of other sources or another curriculum.
    fn restore(&mut self, state: &CursorState) -> Result<(), TrainError>;

    /// Tells the curriculum the total rewards of groups, by draw: of all draws below `end` that it has not been told of.
    fn observe(&mut self, totals: &[(u64, &[f64])], end: u64);

    /// What the curriculum has learnt from rewards.
    fn spreads(&self) -> Vec<Spread>;

    /// The text of an answer's tokens, without the one that ends it; empty where there is no tokenizer.
    fn answer_text(&self, ids: &[i64]) -> String;
}

/// A stage's place in its data, and what makes prompts of rows.
pub struct DataLoader {
    cursor: Cursor,
    builder: Rc<PromptBuilder>,
    share: Share,
}

/// Which of a step's prompts are a rank's own: every `size`th, from its own number on; or where lengths are known,
/// those that give every rank about as many tokens.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// The rank, below `size`.
    pub rank: usize,
    /// How many ranks share the prompts.
    pub size: usize,
}

/// Which prompts are wanted.
#[derive(Debug, Clone, Copy)]
pub struct PromptRequest {
    /// Examples with a prompt, over all ranks.
    pub count: usize,
    /// Which answers of a conversation; each gives a prompt of its own.
    pub answers: AnswerSelection,
    /// Tokens of the longest prompt; rows with longer ones are passed over.
    pub longest: usize,
    /// How often the step asked before: the same row may come again, under another id.
    pub attempt: usize,
    /// Whether ranks share the rows by the tokens of prompts and answers, all of which are known.
    pub balanced: bool,
}

/// Prompts of one step, and how many rows were passed over for their length.
pub struct LoadedPrompts {
    /// The rank's own prompts.
    pub prompts: Vec<Prompt>,
    /// Tokens of what SFT imitates, aligned with the prompts, the first of the tokenizer's ending ones last.
    pub targets: Vec<Option<Vec<i64>>>,
    /// The targets' weights in the loss, aligned: 1 but for rows that say another.
    pub weights: Vec<f64>,
    /// Tokens of the answers that pairs reject, ended like the targets; none where a row is no pair.
    pub rejected: Vec<Option<Vec<i64>>>,
    /// Rows left out because their prompt was too long, or empty.
    pub too_long: u64,
    /// What was drawn of each task.
    pub stats: DrawStats,
}

impl DataLoader {
    /// Draws by `cursor` and keeps `share` of the prompts.
    pub fn new(cursor: Cursor, builder: Rc<PromptBuilder>, share: Share) -> Self {
        Self {
            cursor,
            builder,
            share,
        }
    }

    /// Bad rows that were left out since the last call.
    pub fn take_skipped(&mut self) -> Vec<SkippedRow> {
        self.cursor.take_skipped()
    }
}

impl Loader for DataLoader {
    fn state(&self) -> CursorState {
        self.cursor.state()
    }

    fn restore(&mut self, state: &CursorState) -> Result<(), TrainError> {
        Ok(self.cursor.restore(state)?)
    }

    fn observe(&mut self, totals: &[(u64, &[f64])], end: u64) {
        self.cursor.observe(totals.iter().copied(), end);
    }

    fn spreads(&self) -> Vec<Spread> {
        self.cursor.spreads()
    }

    fn answer_text(&self, ids: &[i64]) -> String {
        self.builder.answer_text(ids)
    }

    /// Draws until `request.count` examples have a prompt that fits; each rank keeps its share. A thousand draws in a row that are all too long are an error.
    fn prompts(&mut self, request: PromptRequest) -> Result<LoadedPrompts, TrainError> {
        let longest = request.longest;
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut drawn: Vec<(Prompt, Draw)> = Vec::new();
        let (mut too_long, mut stats) = (0, DrawStats::default());
        let (mut kept, mut streak, mut all) = (0, 0, 0);
        while kept < request.count {
            for draw in self.cursor.next(request.count - kept)? {
                let before = all;
                for turn in of_answers(&draw, request.answers) {
                    let mut prompt = self.builder.without_images(&turn)?;
                    if prompt.ids.len() > longest || prompt.ids.is_empty() {
                        too_long += 1;
                        continue;
                    }
                    let times = seen.entry(prompt.id.clone()).or_default();
                    *times += 1;
                    if *times > 1 {
                        prompt.id = format!("{}#{times}", prompt.id);
                    }
                    if request.attempt > 0 {
                        prompt.id = format!("{}#refill{}", prompt.id, request.attempt);
                    }
                    // Of the others nothing is asked where their lengths do not matter.
                    if request.balanced || all % self.share.size == self.share.rank {
                        drawn.push((prompt, turn));
                    }
                    all += 1;
                }
                if all > before {
                    streak = 0;
                    kept += 1;
                    stats.add(&draw);
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
        let builder = self.builder.as_ref();
        let answered: Vec<Result<Answered, TrainError>> = drawn
            .into_par_iter()
            .map(|(prompt, draw)| {
                Ok(Answered {
                    prompt,
                    target: builder.target(&draw)?,
                    rejected: builder.rejected(&draw)?,
                    draw,
                })
            })
            .collect();
        let answered: Result<Vec<Answered>, TrainError> = answered.into_iter().collect();
        let mut answered = answered?;
        if request.balanced {
            let owners = owners(answered.iter().map(Answered::tokens), self.share.size);
            let mut owners = owners.into_iter();
            answered.retain(|_| owners.next() == Some(self.share.rank));
        }
        let shown: Vec<Result<_, TrainError>> = answered
            .into_par_iter()
            .map(|row| {
                let weight = row.draw.example.talk.answer_weight.unwrap_or(1.0);
                Ok((
                    builder.with_images(row.prompt, &row.draw.example)?,
                    ((row.target, row.rejected), weight),
                ))
            })
            .collect();
        let shown: Result<Vec<_>, TrainError> = shown.into_iter().collect();
        let (prompts, answers): (_, Vec<_>) = shown?.into_iter().unzip();
        let (answers, weights): (Vec<_>, _) = answers.into_iter().unzip();
        let (targets, rejected) = answers.into_iter().unzip();
        Ok(LoadedPrompts {
            prompts,
            targets,
            weights,
            rejected,
            too_long,
            stats,
        })
    }
}

/// A drawn row with its answers.
struct Answered {
    prompt: Prompt,
    draw: Draw,
    target: Option<Vec<i64>>,
    rejected: Option<Vec<i64>>,
}

impl Answered {
    fn tokens(&self) -> usize {
        let answers = self.target.iter().chain(&self.rejected);
        self.prompt.ids.len() + answers.map(Vec::len).sum::<usize>()
    }
}

/// Which of `size` ranks has each row, so that all have about as many tokens: the longest first, each to the rank with
/// the fewest so far.
fn owners(tokens: impl Iterator<Item = usize>, size: usize) -> Vec<usize> {
    let tokens: Vec<usize> = tokens.collect();
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by_key(|row| std::cmp::Reverse(tokens[*row]));
    let mut loads = vec![0; size];
    let mut owners = vec![0; tokens.len()];
    for row in order {
        let least = (0..size).min_by_key(|rank| loads[*rank]).unwrap_or(0);
        owners[row] = least;
        loads[least] += tokens[row];
    }
    owners
}

/// A draw as it is asked: with each of its answers to come, or with the last one.
fn of_answers(draw: &Draw, answers: AnswerSelection) -> Vec<Draw> {
    let mut all = Vec::new();
    if answers == AnswerSelection::All {
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
    use std::path::Path;
    use std::sync::Arc;

    use models::Tokenizer;

    use super::*;
    use crate::config::Config;
    use crate::data::open_catalog;

    fn tiny_vlm() -> (Config, Arc<Tokenizer>) {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let text = std::fs::read_to_string(configs.join("tiny_vlm.yaml")).unwrap();
        let mut config: Config = serde_saphyr::from_str(&text).unwrap();
        config.resolve_paths(&configs);
        config.settle().unwrap();
        let tokenizer = Tokenizer::read(&configs.join("tiny_vlm_tokenizer")).unwrap();
        (config, Arc::new(tokenizer))
    }

    fn cursor(config: &Config) -> Cursor {
        let catalog = Arc::new(open_catalog(config, &mut |_, _, _| {}).unwrap());
        Cursor::new(catalog, &config.stages[0].common.curriculum, 3).unwrap()
    }

    fn builder(config: &Config, tokenizer: &Arc<Tokenizer>) -> PromptBuilder {
        let vision = config.model.shape(tokenizer).unwrap().vision;
        let builder = PromptBuilder::new(&config.tasks, tokenizer.clone(), None, 0);
        builder.unwrap().with_vision(vision)
    }

    #[test]
    fn a_rank_cuts_the_pictures_of_its_own_prompts_alone() {
        let (config, tokenizer) = tiny_vlm();
        let drawn = |rank: usize, size: usize| {
            let builder = Rc::new(builder(&config, &tokenizer));
            let share = Share { rank, size };
            let mut loader = DataLoader::new(cursor(&config), builder.clone(), share);
            let request = PromptRequest {
                count: 24,
                answers: AnswerSelection::Last,
                longest: 4096,
                attempt: 0,
                balanced: false,
            };
            (loader.prompts(request).unwrap(), builder.cut())
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
    fn ranks_have_about_as_many_tokens_of_answered_rows() {
        let (config, tokenizer) = tiny_vlm();
        let drawn = |rank: usize, size: usize| {
            let builder = Rc::new(builder(&config, &tokenizer));
            let mut loader = DataLoader::new(cursor(&config), builder, Share { rank, size });
            let request = PromptRequest {
                count: 24,
                answers: AnswerSelection::Last,
                longest: 4096,
                attempt: 0,
                balanced: true,
            };
            let loaded = loader.prompts(request).unwrap();
            let rows = loaded.prompts.into_iter().zip(loaded.targets);
            let row = |(prompt, target): (Prompt, Option<Vec<i64>>)| {
                (prompt.id, prompt.ids.len() + target.unwrap().len())
            };
            rows.map(row).collect::<Vec<_>>()
        };
        let all = drawn(0, 1);
        let longest = all.iter().map(|(_, tokens)| *tokens).max().unwrap();
        for size in [2, 3] {
            let shares: Vec<_> = (0..size).map(|rank| drawn(rank, size)).collect();
            let sum = |share: &Vec<(String, usize)>| share.iter().map(|row| row.1).sum::<usize>();
            let (most, least) = (shares.iter().map(sum).max(), shares.iter().map(sum).min());
            assert!(most.unwrap() - least.unwrap() <= longest);
            let mut rows: Vec<_> = shares.into_iter().flatten().collect();
            let mut expected = all.clone();
            rows.sort();
            expected.sort();
            assert_eq!(rows, expected, "{size} ranks");
        }
        assert_eq!(owners([5, 1, 4, 3].into_iter(), 2), [0, 0, 1, 1]);
    }

    #[test]
    fn image_tokens_in_the_words_of_a_row_are_refused_by_its_name() {
        let (config, tokenizer) = tiny_vlm();
        let builder = builder(&config, &tokenizer);
        for mut draw in cursor(&config).next(24).unwrap() {
            assert!(builder.prompt(&draw).is_ok());
            let words = draw.example.fields.values_mut();
            words.for_each(|words| words.push_str(" <|image_pad|>"));
            let used = draw.example.task != "look";
            let said = builder.prompt(&draw).err().map(|error| error.to_string());
            match said {
                Some(said) => assert!(said.contains(&draw.example.id), "{said}"),
                None => assert!(!used, "{}", draw.example.id),
            }
        }
    }
}
