//! From a suite's tasks to a result, of predictions in a folder or as they are sampled; what every suite of pictures and
//! choices shares.

use std::collections::HashSet;
use std::path::Path;

use tch::Device;

use super::caption_task::{CaptionRow, CaptionTask, open_bge};
use super::choice::{ChoiceTask, answers_file};
use super::config::SuiteConfig;
use super::eval_judge::{JudgedItem, ask_judge};
use super::item::EvalItem;
use super::picture_metric::PictureMetric;
use super::picture_scores::{EvalProgress, PictureJudge, PictureScores};
use super::picture_task::{PictureCase, PictureTask};
use super::prediction::{Prediction, PredictionFolder};
use super::result::SuiteResult;
use crate::TrainError;

/// A suite as its folder holds it.
#[derive(Debug, Clone, Default)]
pub struct SuiteTasks {
    /// Its name.
    pub suite: String,
    /// Tasks of pictures.
    pub pictures: Vec<PictureTask>,
    /// Tasks of choices; answers lie in a folder of the task's name.
    pub choices: Vec<ChoiceTask>,
    /// Tasks of captions, which come with their answers.
    pub captions: Vec<CaptionTask>,
    /// Whether drawings and captions are judged by a model elsewhere too, where the config names one.
    pub asks_judge: bool,
    /// What was left out, a sentence each.
    pub notes: Vec<String>,
}

/// What a judge elsewhere says of an item, 0 to 100.
const JUDGE: &str = "judge";

/// What a picture task's items say of being drawn at all: 100 or 0.
pub const SUCCESS: &str = "success_rate";

impl SuiteTasks {
    /// Judges `predictions`.
    ///
    /// # Errors
    /// Predictions of none of the tasks; networks that cannot be read; libtorch's.
    pub fn judge(
        mut self,
        (config, device): (&SuiteConfig, Device),
        predictions: &Path,
        progress: &mut dyn FnMut(EvalProgress),
    ) -> Result<SuiteResult, TrainError> {
        let notes = &mut self.notes;
        let mut folders = Vec::new();
        self.pictures.retain(|task| {
            let opened = opened(&predictions.join(&task.folder), task, notes);
            let kept = opened.is_some();
            folders.extend(opened);
            kept
        });
        let mut answered = Vec::new();
        self.choices.retain(|task| {
            let items = choices(task, &predictions.join(&task.name), notes);
            let kept = items.is_some();
            answered.extend(items.into_iter().flatten());
            kept
        });
        if self.pictures.is_empty() && self.choices.is_empty() && self.captions.is_empty() {
            let why = format!("{}: nothing there to judge", predictions.display());
            return Err(TrainError::Input(format!("{}\n{why}", notes.join("\n"))));
        }
        let judge = self.open_judge(config, device)?;
        let bge = match (&config.encoders.bge_m3, self.captions.is_empty()) {
            (Some(path), false) => Some(open_bge(path, device)?),
            _ => None,
        };
        for task in &self.captions {
            answered.extend(task.judge(bge.as_ref())?);
        }
        let tasks = &self.pictures;
        let cases = tasks.iter().enumerate().flat_map(|(at, task)| {
            let folder = &folders[at];
            task.rows
                .iter()
                .enumerate()
                .map(move |(row, item)| PictureCase {
                    task: at,
                    row,
                    prediction: match folder.prediction(&item.id, config.pictures) {
                        Prediction::Given(_, None) if task.canvas.needs_svg => {
                            Prediction::Missing("no_svg: the picture's SVG is missing".into())
                        }
                        prediction => prediction,
                    },
                })
        });
        progress(EvalProgress::Begin(
            tasks.iter().map(|task| task.rows.len()).sum(),
        ));
        let asked: Vec<PictureCase> = match self.asks(config) {
            true => cases.clone().collect(),
            false => Vec::new(),
        };
        let mut scores = judge.judge(tasks, cases, progress)?;
        if let Some(asker) = config.judge.as_ref().filter(|_| self.asks_judge) {
            let pictures = judge.pictures(tasks, &asked)?;
            let mut judged = self.drawings(&asked, pictures);
            judged.extend(self.words());
            let answers = ask_judge(
                asker,
                &judged
                    .iter()
                    .map(|(item, _)| item.clone())
                    .collect::<Vec<_>>(),
            )?;
            for ((item, id), answer) in judged.iter().zip(answers) {
                let mut all = scores.items.iter_mut().chain(&mut answered);
                let own = all.find(|own| own.task == item.task && own.id == *id);
                match (own, answer) {
                    (Some(own), Ok(score)) => own.put(JUDGE, score),
                    (Some(own), Err(why)) => own.fail(JUDGE, why),
                    (None, _) => {}
                }
            }
        }
        Ok(self.result(config, scores, answered))
    }

    /// Whether a judge elsewhere is asked.
    fn asks(&self, config: &SuiteConfig) -> bool {
        self.asks_judge && config.judge.is_some()
    }

    /// What a judge is asked about drawings, and their ids.
    fn drawings(
        &self,
        cases: &[PictureCase],
        pictures: Vec<Option<[Vec<u8>; 2]>>,
    ) -> Vec<(JudgedItem, String)> {
        let pairs = cases.iter().zip(pictures);
        let item = |(case, pictures): (&PictureCase, Option<[Vec<u8>; 2]>)| {
            let task = &self.pictures[case.task];
            let row = &task.rows[case.row];
            let [reference, predicted] = pictures?;
            // A drawing of words is judged by the words alone.
            let shown = match task.name.as_str() {
                "text" => vec![predicted],
                _ => vec![reference, predicted],
            };
            let words = row.caption.as_ref()?.as_ref().ok()?;
            let item = JudgedItem {
                task: task.name.clone(),
                words: words.clone(),
                answer: None,
                pictures: shown.into_iter().map(Into::into).collect(),
            };
            Some((item, row.id.clone()))
        };
        pairs.filter_map(item).collect()
    }

    /// What a judge is asked about captions, and their ids.
    fn words(&self) -> Vec<(JudgedItem, String)> {
        let rows = self
            .captions
            .iter()
            .flat_map(|task| task.rows.iter().map(move |row| (task, row)));
        let item = |(task, row): (&CaptionTask, &CaptionRow)| {
            let item = JudgedItem {
                task: task.name.clone(),
                words: row.reference.clone(),
                answer: Some(row.answer.clone().unwrap_or_default()),
                pictures: Vec::new(),
            };
            (item, row.id.clone())
        };
        rows.map(item).collect()
    }

    /// What judges the pictures; metrics that nothing is there to compute are taken away, and it is said.
    pub(super) fn open_judge(
        &mut self,
        config: &SuiteConfig,
        device: Device,
    ) -> Result<PictureJudge, TrainError> {
        let judge = PictureJudge::open(config, &self.pictures, device)?;
        for task in &mut self.pictures {
            let (kept, lost): (Vec<PictureMetric>, Vec<PictureMetric>) =
                task.metrics.iter().partition(|metric| judge.has(**metric));
            for metric in lost {
                let key = match metric.network() {
                    Some(network) => format!("encoders.{}", network.key()),
                    None => "tokenizer".to_owned(),
                };
                self.notes.push(format!(
                    "{}: {} is left out: the config has no {key}",
                    task.name,
                    metric.name()
                ));
            }
            task.metrics = kept;
        }
        Ok(judge)
    }

    /// The result of all that was judged.
    pub(super) fn result(
        self,
        config: &SuiteConfig,
        scores: PictureScores,
        answered: Vec<EvalItem>,
    ) -> SuiteResult {
        let asks = self.asks(config);
        let judge = || asks.then(|| JUDGE.to_owned());
        let mut result = SuiteResult {
            suite: self.suite,
            items: scores.items,
            whole: scores.whole,
            notes: self.notes,
            spent: scores.spent,
            ..SuiteResult::default()
        };
        for item in &mut result.items {
            let rate = if item.valid { 100.0 } else { 0.0 };
            item.values.shift_insert(0, SUCCESS.to_owned(), rate);
        }
        result.items.extend(answered);
        for task in self.pictures {
            let names = task.metrics.iter().map(|metric| metric.name().to_owned());
            let metrics = std::iter::once(SUCCESS.to_owned())
                .chain(names)
                .chain(judge());
            result.tasks.insert(task.name, metrics.collect());
        }
        for task in self.captions {
            let bge = config.encoders.bge_m3.as_ref().map(|_| "bge_m3".to_owned());
            let metrics = std::iter::once("rouge_l".to_owned())
                .chain(bge)
                .chain(judge());
            result.tasks.insert(task.name, metrics.collect());
        }
        for task in self.choices {
            let metrics = task.metrics();
            result.tasks.insert(task.name, metrics);
        }
        result
    }

    /// The keys of a config that the suite has no use for; `samples` where a model answers.
    pub fn unused(&self, config: &SuiteConfig, samples: bool) -> Vec<String> {
        let default = SuiteConfig::default();
        let encoders = self.unused_encoders(config).into_iter();
        let mut unused: Vec<String> = encoders.map(|key| format!("encoders.{key}")).collect();
        let keys = [
            ("judge", config.judge.is_some() && !self.asks_judge),
            ("pictures", config.pictures != default.pictures && samples),
            ("sampling", config.sampling != default.sampling && !samples),
            ("template", config.template.is_some() && !samples),
            ("server", config.server != default.server && !samples),
        ];
        let given = keys.into_iter().filter(|(_, given)| *given);
        unused.extend(given.map(|(key, _)| key.to_owned()));
        unused
    }

    /// The names of a config's networks that the suite has no use for.
    fn unused_encoders(&self, config: &SuiteConfig) -> Vec<&'static str> {
        let used = |key: &str| {
            if key == "bge_m3" {
                return !self.captions.is_empty();
            }
            let metrics = self.pictures.iter().flat_map(|task| &task.metrics);
            let mut networks = metrics.filter_map(|metric| metric.network());
            networks.any(|network| network.key() == key)
        };
        let given = config
            .encoders
            .each()
            .into_iter()
            .filter(|(_, path)| path.is_some());
        given.map(|(key, _)| key).filter(|key| !used(key)).collect()
    }
}

/// A task's predictions, if there are any.
fn opened(folder: &Path, task: &PictureTask, notes: &mut Vec<String>) -> Option<PredictionFolder> {
    let name = &task.name;
    if !folder.is_dir() {
        notes.push(format!(
            "{name}: no folder {}: the task is left out",
            folder.display()
        ));
        return None;
    }
    match PredictionFolder::open(folder, task.canvas.folder_each, notes) {
        Ok(opened) => {
            let known = task.rows.iter().map(|row| row.id.as_str()).collect();
            tell_strangers(&opened, &known, name, notes);
            Some(opened)
        }
        Err(error) => {
            notes.push(format!("{name}: {error}: the task is left out"));
            None
        }
    }
}

/// A task's judged answers, if there are any.
fn choices(task: &ChoiceTask, folder: &Path, notes: &mut Vec<String>) -> Option<Vec<EvalItem>> {
    let name = &task.name;
    if !folder.is_dir() {
        notes.push(format!(
            "{name}: no folder {}: the task is left out",
            folder.display()
        ));
        return None;
    }
    let file = answers_file(folder);
    match file.and_then(|file| PredictionFolder::of_file(&file, "result", notes)) {
        Ok(answers) => {
            let known = task.rows.iter().map(|row| row.id.as_str()).collect();
            tell_strangers(&answers, &known, name, notes);
            Some(task.judge(&answers))
        }
        Err(error) => {
            notes.push(format!("{name}: {error}: the task is left out"));
            None
        }
    }
}

/// Says that answers belong to no item.
fn tell_strangers(
    answers: &PredictionFolder,
    known: &HashSet<&str>,
    task: &str,
    notes: &mut Vec<String>,
) {
    let strangers = answers.strangers(&|id| known.contains(id));
    if let Some(first) = strangers.first() {
        notes.push(format!(
            "{task}: {} answers belong to no item of the suite (the first: id {first})",
            strangers.len()
        ));
    }
}
