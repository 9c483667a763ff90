//! What a page holds, as the JSON that its script draws from.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::apart::{self, ApartPrompt};
use super::artist::{Artist, DrawOrder};
use super::groups::{self, RowGroup};
use super::headlines::{self, BeforeAfter, NumberTable};
use super::heat;
use super::histogram::{self, StepHistograms, StepRows};
use super::page::{MOST_CHARACTERS, clipped};
use super::paired::{self, PairedDifference};
use super::panels::{self, ChartPanel};
use super::pictures::PictureBook;
use super::room::{self, GroupWords};
use super::rows::ReportRow;
use super::run_data::{ReportRun, ReportStage};

/// Bytes of samples on a page, so that a whole page stays below 20 MB.
const MOST_BYTES: usize = 15 << 20;
/// What finding the tokens of a run's texts may take: a report must not hold up the training that it tells of.
const PATIENCE: Duration = Duration::from_secs(20);
/// Points of a curve within a stage; more are averaged in equal runs.
const MOST_POINTS: usize = 600;

/// Everything on a page.
#[derive(Debug, Serialize)]
pub(super) struct PageData {
    /// Whether a server follows the run, and the page asks it for news.
    pub(super) live: bool,
    pub(super) runs: Vec<RunView>,
    pub(super) panels: Vec<ChartPanel>,
    pub(super) paired: Vec<PairedDifference>,
    /// Prompts on which runs are furthest apart.
    pub(super) apart: Vec<ApartPrompt>,
    pub(super) groups: Vec<GroupView>,
    /// Groups that did not fit.
    pub(super) left_out: usize,
    /// Groups of which long words did not fit whole.
    pub(super) shortened: usize,
    /// Base64 of PNG files, which groups name by their place.
    pub(super) pictures: Vec<String>,
}

/// A run without its samples.
#[derive(Debug, Serialize)]
pub(super) struct RunView {
    name: String,
    facts: Vec<(String, String)>,
    warnings: Vec<String>,
    stages: Vec<StageSpan>,
    tiles: Vec<BeforeAfter>,
    tables: Vec<NumberTable>,
    /// Points of each metric: steps since the run's beginning, values.
    curves: serde_json::Map<String, Value>,
    pub(super) histograms: Vec<StepHistograms>,
}

/// Where a stage lies among the run's steps.
#[derive(Debug, Serialize)]
struct StageSpan {
    name: String,
    offset: u64,
    steps: u64,
    seconds: f64,
}

/// A group of completions.
#[derive(Debug, Serialize)]
pub(super) struct GroupView {
    pub(super) run: usize,
    pub(super) stage: String,
    pub(super) set: Option<String>,
    pub(super) step: u64,
    pub(super) prompt_id: String,
    pub(super) task: String,
    /// The user's words.
    pub(super) asked: String,
    /// As the policy saw it.
    pub(super) raw: String,
    pub(super) shown: Vec<PictureView>,
    pub(super) draft: Option<PictureView>,
    pub(super) target: Option<PictureView>,
    pub(super) target_words: Option<String>,
    pub(super) gain: Option<f64>,
    pub(super) members: Vec<MemberView>,
}

/// A picture by its number, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum PictureView {
    Number(usize),
    Lacking(String),
}

/// One completion.
#[derive(Debug, Serialize)]
pub(super) struct MemberView {
    pub(super) index: usize,
    pub(super) text: String,
    pub(super) words: bool,
    pub(super) picture: Option<PictureView>,
    pub(super) total: Option<f64>,
    pub(super) advantage: Option<f64>,
    pub(super) parts: Vec<(String, Option<f64>)>,
    /// None of an answer that was learnt from.
    pub(super) valid: Option<bool>,
    pub(super) reason: Option<String>,
    pub(super) cut: bool,
    /// Whether it is a given answer that was learnt from; then its loss, and which of a pair's it is.
    pub(super) learnt: bool,
    pub(super) loss: Option<f64>,
    pub(super) chosen: Option<bool>,
    /// What of its source is not on the page.
    pub(super) lacking: Option<String>,
    pub(super) unscored: Vec<String>,
    pub(super) tokens: usize,
    /// The length of each token in the text, in UTF-16 units, and its log-probability in hundredths, negated; empty
    /// where the text is not known by token.
    pub(super) lengths: Vec<u32>,
    pub(super) surprises: Vec<Option<u32>>,
}

impl PageData {
    /// Of some runs, each with its artist.
    pub(super) fn of(runs: &[ReportRun], artists: &[&dyn Artist], live: bool) -> Self {
        let mut book = PictureBook::default();
        let mut apart = apart::furthest(runs);
        let (mut groups, mut left_out, mut shortened) = (Vec::new(), 0, 0);
        for (at, (run, artist)) in runs.iter().zip(artists).enumerate() {
            let asked = apart
                .iter()
                .filter(|one| one.runs.0 == at || one.runs.1 == at);
            let asked = asked.map(|one| (&*one.set, &*one.task, &*one.prompt_id));
            let chosen = groups::chosen(run, &asked.collect::<Vec<_>>());
            let drawings = chosen.iter().flat_map(|group| orders(group, *artist));
            book.draw(drawings.collect(), *artist);
            let tokenizer = heat::tokenizer(&run.folder);
            let decode = |ids: &[i64]| {
                tokenizer
                    .as_ref()
                    .map_or_else(String::new, |one| one.decode(ids))
            };
            // Pictures that stand there already count too: an estimate from above.
            let pictures = |group: &RowGroup<'_>| -> usize {
                let orders = orders(group, *artist);
                orders.iter().map(|order| book.size(order)).sum()
            };
            let pictures: Vec<usize> = chosen.iter().map(pictures).collect();
            let shares = room::share(&chosen, &pictures, MOST_BYTES / runs.len().max(1));
            let end = Instant::now() + PATIENCE;
            for (group, share) in chosen.iter().zip(shares) {
                let Some(words) = share else {
                    left_out += 1;
                    continue;
                };
                let view = view((at, group), words, *artist, &mut book);
                shortened += usize::from(view.is_shortened());
                groups.push(with_tokens(view, group, end, &decode));
            }
        }
        for one in &mut apart {
            one.groups = [one.runs.0, one.runs.1].map(|run| {
                let own = |group: &GroupView| group.is_of(run, one);
                // The last evaluation is the last of the set's groups in the order of the run.
                let last = (0..groups.len()).filter(|at| own(&groups[*at]));
                last.max_by_key(|at| (runs[run].offset(&groups[*at].stage), groups[*at].step))
            });
        }
        let panels = panels::charts(runs);
        Self {
            live,
            runs: runs.iter().map(|run| RunView::of(run, &panels)).collect(),
            panels,
            paired: paired::differences(runs),
            apart,
            groups,
            left_out,
            shortened,
            pictures: book.embedded,
        }
    }
}

impl GroupView {
    /// Whether it is what `run` made of a prompt.
    fn is_of(&self, run: usize, prompt: &ApartPrompt) -> bool {
        let same_set = self.set.as_ref() == Some(&prompt.set);
        let same = self.task == prompt.task && self.prompt_id == prompt.prompt_id;
        self.run == run && same_set && same
    }

    /// Whether some of its completions are cut off.
    fn is_shortened(&self) -> bool {
        self.members.iter().any(|member| member.lacking.is_some())
    }
}

impl RunView {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// With the points of the metrics that some chart shows.
    fn of(run: &ReportRun, panels: &[ChartPanel]) -> Self {
        let series = panels.iter().flat_map(|panel| &panel.series);
        let shown: HashSet<&str> = series
            .flat_map(|one| [Some(one.metric.as_str()), one.band.as_deref()])
            .flatten()
            .collect();
        let mut curves = serde_json::Map::new();
        for stage in &run.stages {
            let offset = run.offset(&stage.name) as f64;
            let all = stage.curves.iter().chain(&stage.evals);
            for (name, points) in all.filter(|(name, _)| shown.contains(name.as_str())) {
                let place = curves
                    .entry(name.clone())
                    .or_insert_with(|| json!([[], []]));
                for (step, value) in thinned(points) {
                    push(place, 0, offset + step);
                    push(place, 1, value);
                }
            }
        }
        let fact = |(name, value): (&String, &Value)| match value {
            Value::String(text) => Some((name.clone(), text.clone())),
            Value::Number(number) => Some((name.clone(), number.to_string())),
            Value::Object(inner) => {
                let inner = inner.iter().filter(|(_, value)| !value.is_null());
                let told = inner.map(|(key, value)| match value {
                    Value::String(text) => format!("{key} {text}"),
                    other => format!("{key} {other}"),
                });
                Some((name.clone(), told.collect::<Vec<_>>().join(", ")))
            }
            Value::Array(words) => {
                let words = words.iter().filter_map(Value::as_str);
                Some((name.clone(), words.collect::<Vec<_>>().join(" ")))
            }
            _ => None,
        };
        let span = |stage: &ReportStage| StageSpan {
            name: stage.name.clone(),
            offset: run.offset(&stage.name),
            steps: stage.steps,
            seconds: stage.span.map_or(0.0, |(first, last)| last - first),
        };
        Self {
            name: run.name.clone(),
            facts: run.environment.iter().filter_map(fact).collect(),
            warnings: run.warnings.clone(),
            stages: run.stages.iter().map(span).collect(),
            tiles: headlines::tiles(run),
            tables: headlines::tables(run),
            curves,
            histograms: histograms(run),
        }
    }
}

fn push(pair: &mut Value, at: usize, value: f64) {
    if let Some(list) = pair[at].as_array_mut() {
        // Six digits are more than a chart shows.
        let short = format!("{value:.6e}").parse::<f64>().unwrap_or(value);
        list.push(json!(short));
    }
}

/// Averages of equal runs of points where there are too many to see.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let run = points.len().div_ceil(MOST_POINTS).max(1);
    let average = |chunk: &[(f64, f64)]| {
        let n = chunk.len() as f64;
        let (steps, values) = chunk
            .iter()
            .fold((0.0, 0.0), |(s, v), (step, value)| (s + step, v + value));
        (steps / n, values / n)
    };
    points.chunks(run).map(average).collect()
}

/// Of the first and the last samples of each stage's training, and of each set's evaluations.
fn histograms(run: &ReportRun) -> Vec<StepHistograms> {
    let mut out = Vec::new();
    for stage in &run.stages {
        let steps: Vec<StepRows<'_>> = stage
            .samples
            .iter()
            .map(|(step, rows)| (stage.name.as_str(), None, *step, rows.as_slice()))
            .collect();
        out.extend(histogram::of_steps(&steps));
    }
    for (set, evaluations) in &run.sets {
        let steps: Vec<StepRows<'_>> = evaluations
            .iter()
            .map(|one| {
                (
                    one.stage.as_str(),
                    Some(set.as_str()),
                    one.step,
                    one.rows.as_slice(),
                )
            })
            .collect();
        out.extend(histogram::of_steps(&steps));
    }
    out
}

/// The drawings of a group.
fn orders(group: &RowGroup<'_>, artist: &dyn Artist) -> Vec<DrawOrder> {
    let mut orders: Vec<DrawOrder> = shown(group).to_vec();
    orders.extend(draft(group, artist));
    orders.extend(target(group));
    orders.extend(group.rows.iter().filter_map(|row| completion(row, artist)));
    orders
}

fn shown(group: &RowGroup<'_>) -> Vec<DrawOrder> {
    let images = group.rows.iter().flat_map(|row| &row.images);
    images
        .map(|image| DrawOrder::Picture(image.clone()))
        .collect()
}

/// The drawing that the prompt shows as a source: what is to be mended, or put into words.
fn draft(group: &RowGroup<'_>, artist: &dyn Artist) -> Option<DrawOrder> {
    let row = group.rows.first()?;
    let told = || svg::extract::first_svg(&row.prompt).filter(|_| artist.is_words(&row.task));
    let draft = row.reference.draft.as_ref().or(row.draft.as_ref()).cloned();
    Some(DrawOrder::Source {
        task: row.task.clone(),
        svg: draft.or_else(|| told().map(str::to_owned))?,
    })
}

fn target(group: &RowGroup<'_>) -> Option<DrawOrder> {
    let row = group.rows.first()?;
    let svg = row.reference.svg.clone().map(|svg| DrawOrder::Source {
        task: row.task.clone(),
        svg,
    });
    svg.or_else(|| row.reference.image.clone().map(DrawOrder::Picture))
}

/// What a completion draws; none of words.
fn completion(row: &ReportRow, artist: &dyn Artist) -> Option<DrawOrder> {
    let words = artist.is_words(&row.task);
    (!words && row.completion.contains("<svg")).then(|| DrawOrder::Completion {
        task: row.task.clone(),
        text: row.completion.clone(),
        beside: row.reference.svg.clone(),
    })
}

fn view(
    (run, group): (usize, &RowGroup<'_>),
    words: GroupWords,
    artist: &dyn Artist,
    book: &mut PictureBook,
) -> GroupView {
    let mut place = |order: DrawOrder| match book.place(&order) {
        Ok((number, _)) => PictureView::Number(number),
        Err(reason) => PictureView::Lacking(reason),
    };
    let fitting = |text: &str| match words {
        GroupWords::Whole => text.to_owned(),
        GroupWords::Beginnings => clipped(text),
    };
    let lacking = |row: &ReportRow| {
        let all = row.completion.chars().count();
        let cut = words == GroupWords::Beginnings && all > MOST_CHARACTERS;
        cut.then(|| format!("the first {MOST_CHARACTERS} of {all} characters: a page holds so many bytes, and the rest, with the tokens' probabilities, did not fit"))
    };
    let empty = ReportRow::default();
    let first = group.rows.first().copied().unwrap_or(&empty);
    let members = group.rows.iter().map(|row| MemberView {
        index: row.index,
        text: fitting(&row.completion),
        words: artist.is_words(&row.task),
        picture: completion(row, artist).map(&mut place),
        total: row.total,
        advantage: row.advantage.filter(|_| group.set.is_none()),
        parts: row
            .parts
            .iter()
            .map(|(name, value)| (name.clone(), *value))
            .collect(),
        valid: row.valid,
        reason: row.reason.clone(),
        cut: row.finish_reason == "length",
        unscored: row.unscored.clone(),
        tokens: row.token_ids.len(),
        learnt: row.is_learnt(),
        loss: row.loss,
        chosen: row.chosen,
        lacking: lacking(row),
        lengths: Vec::new(),
        surprises: Vec::new(),
    });
    let members = members.collect();
    let asked = match first.reward_prompt.is_empty() {
        true => &first.prompt,
        false => &first.reward_prompt,
    };
    GroupView {
        run,
        stage: group.stage.to_owned(),
        set: group.set.map(str::to_owned),
        step: group.step,
        prompt_id: first.prompt_id.clone(),
        task: first.task.clone(),
        asked: fitting(asked),
        raw: fitting(&first.prompt),
        shown: shown(group).into_iter().map(&mut place).collect(),
        draft: draft(group, artist).map(&mut place),
        target: target(group).map(&mut place),
        target_words: first.reference.text.as_deref().map(fitting),
        gain: group.gain,
        members,
    }
}

/// The view with each completion's tokens, where `decode` gives their text.
fn with_tokens(
    view: GroupView,
    group: &RowGroup<'_>,
    end: Instant,
    decode: &(dyn Fn(&[i64]) -> String + Sync),
) -> GroupView {
    let members = view
        .members
        .into_par_iter()
        .zip(&group.rows)
        .map(|(member, row)| {
            let whole = row.logprobs().len() == row.token_ids.len();
            if !whole || member.text != row.completion {
                return member;
            }
            if Instant::now() > end {
                let lacking = Some(
                    "its tokens are not coloured: finding those of all texts took too long"
                        .to_owned(),
                );
                return MemberView { lacking, ..member };
            }
            let Some(ends) = heat::ends(&row.token_ids, &row.completion, &|ids| decode(ids)) else {
                return member;
            };
            let starts = std::iter::once(&0).chain(&ends);
            let hundredths =
                |value: &Option<f32>| value.map(|value| (value * -100.0).round().max(0.0) as u32);
            MemberView {
                lengths: ends
                    .iter()
                    .zip(starts)
                    .map(|(end, start)| end - start)
                    .collect(),
                surprises: row.logprobs().iter().map(hundredths).collect(),
                ..member
            }
        });
    GroupView {
        members: members.collect(),
        ..view
    }
}
