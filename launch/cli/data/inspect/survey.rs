//! Reading a config's rows and counting what is in them.

use std::collections::BTreeMap;

use rollout::data::{Catalog, DataError, Draw, Example, LeftOut, SourceSummary, Split};
use svg::Raster;
use trainer::config::Config;

use super::problems::Problems;
use super::rendered_prompt::{RenderedPrompt, Words};
use crate::cli::CliFailure;
use crate::cli::data::parallel::RowThreads;
use crate::cli::data::stats::Lengths;
use crate::progress::Bar;
use trainer::{RowTokens, StageSurvey};

/// Rows that are read at a time.
const BATCH: usize = 256;

/// How a survey is taken.
pub struct Measuring<'a> {
    pub config: &'a Config,
    pub words: &'a Words<'a>,
    /// Rows of each source that are read; 0: all.
    pub limit: usize,
    /// Rows of each source that are shown.
    pub samples: usize,
    pub workers: &'a RowThreads,
    pub quiet: bool,
}

/// What the rows of a config's sources are.
pub struct Survey {
    pub sources: Vec<SourceSurvey>,
    /// In the order of the config's tasks; those that have rows.
    pub tasks: Vec<TaskSurvey>,
    pub stages: Vec<StageSurvey>,
    pub samples: Vec<Sample>,
}

/// What one source holds.
pub struct SourceSurvey {
    pub summary: SourceSummary,
    /// Rows that were read.
    pub measured: usize,
    /// Malformed rows: skipped, or the end of a run, as `on_bad_row` says.
    pub bad: Problems,
    /// Rows that are no samples of the source's view.
    pub absent: Problems,
    /// Rows that end a run whatever `on_bad_row` says: no prompt can be made of them.
    pub stops: Problems,
}

/// What the measured rows of one task are.
#[derive(Default)]
pub struct TaskSurvey {
    pub name: String,
    /// Rows of its sources: to train on, held out, measured.
    pub rows: [usize; 3],
    /// Rows whose reference has an SVG, a text, a picture.
    pub references: [usize; 3],
    pub lengths: TaskLengths,
    pub pictures: PictureCounts,
}

/// Lengths of a task's rows.
#[derive(Default)]
pub struct TaskLengths {
    /// The curriculum's measure: of the reference's SVG, else its text, else the target.
    pub reference_characters: Lengths,
    pub reference_tokens: Lengths,
    /// Of what supervised training imitates.
    pub target_tokens: Lengths,
    pub prompt_characters: Lengths,
    pub prompt_tokens: Lengths,
}

impl TaskLengths {
    /// Those that were counted, with their names.
    pub fn named(&self) -> Vec<(&'static str, &Lengths)> {
        let all = [
            ("prompt, characters", &self.prompt_characters),
            ("prompt, tokens", &self.prompt_tokens),
            ("reference, characters", &self.reference_characters),
            ("reference, tokens", &self.reference_tokens),
            ("target, tokens", &self.target_tokens),
        ];
        let counted = all.into_iter().filter(|(_, lengths)| lengths.total() > 0);
        counted.collect()
    }
}

/// Pictures that prompts show.
#[derive(Default)]
pub struct PictureCounts {
    /// Rows that show any.
    pub rows: usize,
    pub count: usize,
    /// How often each width and height occurs.
    pub sizes: BTreeMap<(u32, u32), usize>,
}

impl PictureCounts {
    /// The most frequent sizes.
    pub fn frequent(&self, most: usize) -> Vec<((u32, u32), usize)> {
        let mut sizes: Vec<_> = self.sizes.iter().map(|(size, n)| (*size, *n)).collect();
        sizes.sort_by_key(|(size, count)| (std::cmp::Reverse(*count), *size));
        sizes.truncate(most);
        sizes
    }
}

/// A row to be shown.
pub struct Sample {
    pub example: Example,
    pub list: Split,
    pub asked: RenderedPrompt,
    pub answer_tokens: Option<usize>,
    /// Of the answer that a pair rejects.
    pub rejected_tokens: Option<usize>,
}

/// What became of a row.
enum RowOutcome {
    Read(Box<Read>),
    Bad(LeftOut),
    Stops { id: String, problem: String },
}

struct Read {
    sample: Sample,
    reference_tokens: Option<usize>,
    target_tokens: Option<usize>,
    sizes: Vec<(u32, u32)>,
}

impl Survey {
    /// Reads the rows of `catalog`, which leaves bad ones out.
    pub fn take(catalog: &Catalog, measuring: &Measuring) -> Result<Self, CliFailure> {
        let summaries = catalog.summary();
        let config = measuring.config;
        let named = |name: &String| TaskSurvey {
            name: name.clone(),
            ..TaskSurvey::default()
        };
        let mut survey = Self {
            sources: Vec::new(),
            tasks: config.tasks.keys().map(named).collect(),
            stages: config.stages.iter().map(StageSurvey::of).collect(),
            samples: Vec::new(),
        };
        let chosen = |of: &SourceSummary| match measuring.limit {
            0 => of.train + of.held_out,
            limit => (of.train + of.held_out).min(limit),
        };
        let total: usize = summaries.iter().map(chosen).sum();
        let mut bar = Bar::new("inspect", total as u64, measuring.quiet);
        for (source, summary) in summaries.into_iter().enumerate() {
            let measured = chosen(&summary);
            survey.tasks_of(&summary);
            survey.sources.push(SourceSurvey::of(summary, catalog));
            survey.source(catalog, (source, measured), measuring, &mut bar)?;
        }
        bar.finish();
        survey.tasks.retain(|task| task.rows != [0; 3]);
        Ok(survey)
    }

    fn tasks_of(&mut self, source: &SourceSummary) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.name == source.task) {
            task.rows[0] += source.train;
            task.rows[1] += source.held_out;
        }
    }

    /// Reads `measured` rows of a source, spread evenly over it.
    fn source(
        &mut self,
        catalog: &Catalog,
        (source, measured): (usize, usize),
        measuring: &Measuring,
        bar: &mut Bar,
    ) -> Result<(), CliFailure> {
        let summary = self.sources[source].summary.clone();
        let all = summary.train + summary.held_out;
        let rows: Vec<usize> = (0..measured).map(|at| at * all / measured).collect();
        // Of all rows those with the least keys are shown.
        let key = |row: usize| {
            let seed = rollout::mix(measuring.config.seed, source as u64);
            rollout::mix(seed, row as u64)
        };
        let mut shown: BTreeMap<(u64, usize), Sample> = BTreeMap::new();
        for batch in rows.chunks(BATCH) {
            let outcomes = measuring.workers.map(batch, |row| {
                let place = match *row < summary.train {
                    true => (Split::Train, *row),
                    false => (Split::HeldOut, *row - summary.train),
                };
                outcome(catalog, (source, place), measuring.words)
            });
            for (row, outcome) in batch.iter().zip(outcomes) {
                let outcome = outcome.unwrap_or_else(|| {
                    Ok(RowOutcome::Stops {
                        id: format!("{}, row {row}", summary.name),
                        problem: "reading it failed inside".into(),
                    })
                });
                let outcome = outcome.map_err(|error| CliFailure::input(error.to_string()))?;
                if let Some(sample) = self.count(source, outcome) {
                    shown.insert((key(*row), *row), sample);
                    if shown.len() > measuring.samples {
                        shown.pop_last();
                    }
                }
            }
            bar.advance(batch.len() as u64);
        }
        let mut shown: Vec<(usize, Sample)> =
            shown.into_iter().map(|((_, row), of)| (row, of)).collect();
        shown.sort_by_key(|(row, _)| *row);
        self.samples
            .extend(shown.into_iter().map(|(_, sample)| sample));
        Ok(())
    }

    fn count(&mut self, source: usize, outcome: RowOutcome) -> Option<Sample> {
        let of = &mut self.sources[source];
        let read = match outcome {
            RowOutcome::Read(read) => read,
            RowOutcome::Bad(row) => {
                of.bad.add(&row.place, &row.problem);
                return None;
            }
            RowOutcome::Stops { id, problem } => {
                of.stops.add(&id, &problem);
                return None;
            }
        };
        of.measured += 1;
        let example = &read.sample.example;
        if let Some(task) = self.tasks.iter_mut().find(|task| task.name == example.task) {
            task.count(&read);
        }
        if let (Split::Train, Some(prompt)) = (read.sample.list, read.sample.asked.tokens) {
            for stage in &mut self.stages {
                let row = RowTokens {
                    prompt,
                    answer: read.sample.answer_tokens,
                    rejected: read.sample.rejected_tokens,
                };
                stage.count(&of.summary.name, row);
            }
        }
        Some(read.sample)
    }

    /// Why the exit status is not 0: `stops` says whether a malformed row ends a run.
    pub fn verdict(&self, stops: bool) -> Option<String> {
        let of = |problems: &dyn Fn(&SourceSurvey) -> &Problems, what: &str, way_out: &str| {
            let count: u64 = self.sources.iter().map(|of| problems(of).total()).sum();
            let first = self.sources.iter().find_map(|of| problems(of).first())?;
            Some(format!("{count} {what}; one of them: {first}{way_out}"))
        };
        let bad = || {
            let way_out = " (data.on_bad_row: skip leaves them out)";
            of(&|of| &of.bad, "row(s) would stop a run", way_out)
        };
        let what = "row(s) of which no prompt can be made would stop a run";
        of(&|of| &of.stops, what, "").or_else(|| bad().filter(|_| stops))
    }
}

impl SourceSurvey {
    fn of(summary: SourceSummary, catalog: &Catalog) -> Self {
        let mut of = Self {
            measured: 0,
            bad: Problems::default(),
            absent: Problems::default(),
            stops: Problems::default(),
            summary,
        };
        let own = |name: &str| name == of.summary.name;
        for skipped in catalog.skipped().iter().filter(|row| own(&row.source)) {
            let row = &skipped.row;
            match row.is_absent() {
                true => of.absent.add(&row.place, &row.problem),
                false => of.bad.add(&row.place, &row.problem),
            }
        }
        of
    }
}

impl TaskSurvey {
    fn count(&mut self, read: &Read) {
        let Sample { example, asked, .. } = &read.sample;
        let reference = &example.reference;
        self.rows[2] += 1;
        for (count, has) in self.references.iter_mut().zip([
            reference.svg.is_some(),
            reference.text.is_some(),
            reference.image.is_some(),
        ]) {
            *count += usize::from(has);
        }
        let lengths = &mut self.lengths;
        if example.length > 0 {
            lengths.reference_characters.add(example.length);
        }
        lengths.prompt_characters.add(asked.text.chars().count());
        for (lengths, tokens) in [
            (&mut lengths.prompt_tokens, asked.tokens),
            (&mut lengths.reference_tokens, read.reference_tokens),
            (&mut lengths.target_tokens, read.target_tokens),
        ] {
            if let Some(tokens) = tokens {
                lengths.add(tokens);
            }
        }
        let pictures = &mut self.pictures;
        pictures.rows += usize::from(!example.images.is_empty());
        pictures.count += example.images.len();
        for size in &read.sizes {
            *pictures.sizes.entry(*size).or_default() += 1;
        }
    }
}

/// A row through the checks of training.
fn outcome(
    catalog: &Catalog,
    (source, (list, at)): (usize, (Split, usize)),
    words: &Words,
) -> Result<RowOutcome, DataError> {
    let example = match catalog.row((source, list), at)? {
        Ok(example) => example,
        Err(skipped) => return Ok(RowOutcome::Bad(skipped.row)),
    };
    let mut draw = Draw {
        example,
        draw: at as u64,
        bucket: None,
    };
    let read = words
        .asked(&draw)
        .and_then(|asked| Ok((asked, sizes(&draw.example)?)));
    let (asked, sizes) = match read {
        Ok(read) => read,
        Err(problem) => {
            let id = std::mem::take(&mut draw.example.id);
            return Ok(RowOutcome::Stops { id, problem });
        }
    };
    let example = draw.example;
    let count = |text: &String| words.tokenizer().map(|tokens| tokens.encode(text).len());
    let reference = &example.reference;
    let target = example.target.as_ref();
    let measured = reference.svg.as_ref().or(reference.text.as_ref());
    let reference_tokens = measured.and_then(count);
    let target_tokens = match target == measured {
        true => reference_tokens,
        false => target.and_then(count),
    };
    Ok(RowOutcome::Read(Box::new(Read {
        reference_tokens,
        target_tokens,
        sizes,
        sample: Sample {
            answer_tokens: target_tokens.or(reference_tokens),
            rejected_tokens: example.fields.get("rejected").and_then(count),
            example,
            list,
            asked,
        },
    })))
}

/// Sizes of the pictures that a prompt shows, in pixels.
fn sizes(example: &Example) -> Result<Vec<(u32, u32)>, String> {
    let size = |image: &rewards::ImageSource| {
        let bytes = image.read().map_err(|error| error.to_string());
        let size = bytes.and_then(|bytes| Raster::size(&bytes).map_err(|error| error.to_string()));
        size.map_err(|problem| match image {
            rewards::ImageSource::Path(path) => format!("image {}: {problem}", path.display()),
            rewards::ImageSource::Png(_) => format!("image: {problem}"),
        })
    };
    example.images.iter().map(size).collect()
}
