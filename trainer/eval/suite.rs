//! From a suite's tasks to a result, of predictions in a folder; what every suite of pictures, choices and captions
//! shares.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use tch::Device;

use super::caption_task::{CaptionTask, open_bge};
use super::choice::{ChoiceTask, answers_file};
use super::config::SuiteConfig;
use super::eval_canvas::PredictionLayout;
use super::item::EvalItem;
use super::judge_questions::{AskedItems, JudgeQuestions};
use super::picture_metric::PictureMetric;
use super::picture_scores::{EvalProgress, PictureJudge, PictureScores};
use super::picture_task::{PictureCase, PictureTask};
use super::prediction::{Prediction, PredictionFolder};
use super::result::SuiteResult;
use super::score_journal::ScoreJournal;
use super::sgp_published;
use super::variety;
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
    /// Tasks of captions.
    pub captions: Vec<CaptionTask>,
    /// What is asked of a judge elsewhere, where the config names one.
    pub asked: JudgeQuestions,
    /// Whether its questions are whole prompts, without a chat template.
    pub raw_prompts: bool,
    /// What was left out, a sentence each.
    pub notes: Vec<String>,
}

/// What a picture task's items say of being drawn at all: 100 or 0.
pub const SUCCESS: &str = "success_rate";

impl SuiteTasks {
    /// Judges `predictions`; what the result's folder `out` holds of an evaluation that was interrupted is taken over.
    ///
    /// # Errors
    /// Predictions of none of the tasks; networks that cannot be read; libtorch's.
    pub fn judge(
        mut self,
        (config, device): (&SuiteConfig, Device),
        (predictions, out): (&Path, &Path),
        progress: &mut dyn FnMut(EvalProgress),
    ) -> Result<SuiteResult, TrainError> {
        let notes = &mut self.notes;
        let mut folders = Vec::new();
        self.pictures.retain(|task| {
            let opened = opened(predictions, task, notes);
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
        self.captions.retain_mut(|task| {
            match task.take_answers(&predictions.join(&task.name), notes) {
                Ok(()) => true,
                Err(error) => {
                    notes.push(format!("{}: {error}: the task is left out", task.name));
                    false
                }
            }
        });
        if self.pictures.is_empty() && self.choices.is_empty() && self.captions.is_empty() {
            let why = format!("{}: nothing there to judge", predictions.display());
            return Err(TrainError::Input(format!("{}\n{why}", notes.join("\n"))));
        }
        let judge = self.open_judge(config, device)?;
        answered.extend(self.judged_captions(config, device)?);
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
                        Prediction::Given(_, None)
                            if task.canvas.layout == PredictionLayout::FlatWithSvg =>
                        {
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
        let mut journal = ScoreJournal::open(out, config)?;
        let scores = judge.judge(tasks, cases, Some(&mut journal), progress)?;
        self.notes.extend(journal.told());
        self.finished((config, Some(out)), (&judge, asked), (scores, answered))
    }

    /// Whether a judge elsewhere is asked.
    pub(super) fn asks(&self, config: &SuiteConfig) -> bool {
        self.asked.any() && config.judge.is_some()
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

    /// The captions' items.
    pub(super) fn judged_captions(
        &self,
        config: &SuiteConfig,
        device: Device,
    ) -> Result<Vec<EvalItem>, TrainError> {
        let bge = match (&config.encoders.bge_m3, self.captions.is_empty()) {
            (Some(path), false) => Some(open_bge(path, device)?),
            _ => None,
        };
        let judged = self.captions.iter().map(|task| task.judge(bge.as_ref()));
        let judged: Vec<Vec<EvalItem>> = judged.collect::<Result<_, TrainError>>()?;
        Ok(judged.concat())
    }

    /// The result of all that was judged, after the judge elsewhere has been asked about `asked`; what that answers is kept
    /// in the result's folder, where there is one.
    pub(super) fn finished(
        mut self,
        (config, out): (&SuiteConfig, Option<&Path>),
        (judge, asked): (&PictureJudge, Vec<PictureCase>),
        (mut scores, mut answered): (PictureScores, Vec<EvalItem>),
    ) -> Result<SuiteResult, TrainError> {
        if let Some(asker) = config.judge.as_ref().filter(|_| self.asked.any()) {
            let pictures = judge.pictures(&self.pictures, &asked)?;
            let cases: Vec<_> = asked.into_iter().zip(pictures).collect();
            let about = AskedItems {
                pictures: &self.pictures,
                captions: &self.captions,
                cases: &cases,
            };
            let items = scores.items.iter_mut().chain(&mut answered);
            let mut items: Vec<&mut EvalItem> = items.collect();
            let told = self.asked.ask((asker, out), &about, &mut items)?;
            self.notes.extend(told);
        }
        Ok(self.result(config, scores, answered))
    }

    /// The result of all that was judged.
    fn result(
        self,
        config: &SuiteConfig,
        scores: PictureScores,
        answered: Vec<EvalItem>,
    ) -> SuiteResult {
        let judged = match self.asks(config) {
            true => self.asked.metrics(),
            false => Vec::new(),
        };
        let of_judge = |task: &str| match (&self.asked, task) {
            (JudgeQuestions::Composition(_), task) if task != "composition" => Vec::new(),
            _ => judged.clone(),
        };
        let variety = variety::of(&self.pictures, &scores.features);
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
        for task in &self.pictures {
            let names = task.metrics.iter().map(|metric| metric.name().to_owned());
            let metrics = std::iter::once(SUCCESS.to_owned())
                .chain(names)
                .chain(of_judge(&task.name));
            result.tasks.insert(task.name.clone(), metrics.collect());
        }
        for task in self.captions {
            let bge = config.encoders.bge_m3.as_ref().map(|_| "bge_m3".to_owned());
            let metrics = std::iter::once("rouge_l".to_owned())
                .chain(bge)
                .chain(of_judge(&task.name));
            result.tasks.insert(task.name, metrics.collect());
        }
        for task in self.choices {
            let metrics = task.metrics();
            result.tasks.insert(task.name, metrics);
        }
        for (task, metrics, items) in variety {
            result.tasks.insert(task, metrics);
            result.items.extend(items);
        }
        result
    }

    /// Keeps `count` items of each task, evenly spread over them; 0 keeps all.
    pub fn keep(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        for task in &mut self.pictures {
            thin(&mut task.rows, count);
        }
        for task in &mut self.choices {
            thin(&mut task.rows, count);
        }
        for task in &mut self.captions {
            thin(&mut task.rows, count);
        }
    }

    /// The keys of a config that the suite has no use for; `samples` where a model answers.
    pub fn unused(&self, config: &SuiteConfig, samples: bool) -> Vec<String> {
        let default = SuiteConfig::default();
        let encoders = self.unused_encoders(config).into_iter();
        let mut unused: Vec<String> = encoders.map(|key| format!("encoders.{key}")).collect();
        // How many answers there are is told of predictions as well.
        let mut sampling = config.sampling.clone();
        let count = sampling.samples.take();
        let keys = [
            ("judge", config.judge.is_some() && !self.asked.any()),
            ("pictures", config.pictures != default.pictures && samples),
            ("sampling", sampling != default.sampling && !samples),
            (
                "sampling.samples",
                count.is_some() && self.suite != "sgp-genbench",
            ),
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

/// Keeps `count` of `rows`, evenly spread.
fn thin<T>(rows: &mut Vec<T>, count: usize) {
    let total = rows.len();
    let count = count.min(total);
    let chosen: HashSet<usize> = (0..count).map(|at| at * total / count.max(1)).collect();
    let mut at = 0;
    rows.retain(|_| {
        at += 1;
        chosen.contains(&(at - 1))
    });
}

/// A task's predictions, if there are any.
fn opened(
    predictions: &Path,
    task: &PictureTask,
    notes: &mut Vec<String>,
) -> Option<PredictionFolder> {
    let name = &task.name;
    let mut folder = predictions.join(&task.folder);
    if let (false, Some(released)) = (folder.is_dir(), sgp_published::folder_of(task)) {
        let released: PathBuf = predictions.join(released);
        if released.is_dir() {
            folder = released;
        }
    }
    if !folder.is_dir() {
        notes.push(format!(
            "{name}: no folder {}: the task is left out",
            folder.display()
        ));
        return None;
    }
    let opened = PredictionFolder::open(&folder, task.canvas, notes)
        .and_then(|opened| sgp_published::with_released(opened, &folder, task, notes));
    match opened {
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
