//! A benchmark inside training: the policy answers its questions, and the answers are judged as by `svgrl eval SUITE`.

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use rollout::{Engine, FinishReason};
use tch::Device;

use super::evaluate::SetScores;
use super::kept_pictures::{KeptPicture, KeptPictures};
use super::suite_answers::{PolicyAnswer, PolicyAnswerer};
use crate::TrainError;
use crate::config::{Config, DeviceName, StageSuite, TaskConfig};
use crate::eval::{Bootstrap, EvalItem, EvalReference, PictureTask, SuiteConfig, SuiteSource};
use crate::interrupt::Interrupt;
use crate::learn::Ranks;
use crate::metrics::Metrics;
use crate::prompt_builder::PromptBuilder;
use crate::samples::{SampleRow, StepId};

/// What a suite's evaluation needs besides the policy.
pub(crate) struct SuiteEvaluation<'a> {
    /// Which, and how it is judged.
    pub(crate) suite: &'a StageSuite,
    /// Makes prompts; knows the tasks of [`tasks_and_suites`].
    pub(crate) builder: &'a PromptBuilder,
    /// The stop strings of the stage.
    pub(crate) stops: (Vec<String>, bool),
    /// The run's seed.
    pub(crate) seed: u64,
    /// The ranks that share the questions, and what ends the evaluation.
    pub(crate) world: (&'a Ranks, &'a Interrupt),
    /// How many drawings are kept as pictures.
    pub(crate) pictures: usize,
}

/// What a suite's evaluation gives, and what is to be told; empty on all ranks but 0.
pub(crate) struct SuiteScored {
    pub(crate) set: SetScores,
    pub(crate) notes: Vec<String>,
}

/// The config's tasks, and one for each suite whose questions are asked as they are published.
pub(crate) fn tasks_and_suites(config: &Config) -> IndexMap<String, TaskConfig> {
    let mut all = config.tasks.clone();
    let suites = config.stages.iter();
    let suites = suites.filter_map(|stage| stage.common.eval.suite.as_ref());
    for suite in suites.filter(|suite| suite.task.is_none()) {
        all.insert(suite.own_task(), TaskConfig::default());
    }
    all
}

impl SuiteEvaluation<'_> {
    /// The suite's numbers; `None` when a signal's grace ran out on any rank.
    ///
    /// # Errors
    /// The engine's, the networks', those of a folder that holds nothing of the suite, a lost rank.
    pub(crate) fn run(
        &self,
        engine: &mut dyn Engine,
        id: &StepId,
    ) -> Result<Option<SuiteScored>, TrainError> {
        let (ranks, _) = self.world;
        let suite = self.suite;
        let mut tasks = suite.name.read(SuiteSource {
            data: Some(&suite.with.data),
            predictions: None,
            samples: suite.with.sampling.samples,
        });
        tasks.keep(suite.items);
        let notes = tasks.unused(&suite.with, true).into_iter();
        let notes: Vec<String> = notes
            .map(|key| format!("with.{key}: has no use here"))
            .collect();
        tasks.notes.extend(notes);
        let questions = tasks.all_questions(None);
        if questions.is_empty() {
            let name = suite.name.name();
            return Err(TrainError::Input(format!(
                "stages.{}.eval.suite: nothing to ask of {name}: {}",
                id.stage,
                tasks.notes.join("; ")
            )));
        }
        let mut sampling = suite.name.sampling(&suite.with.sampling);
        let (stops, included) = &self.stops;
        if sampling.stop.is_empty() {
            (sampling.stop, sampling.include_stop) = (stops.clone(), *included);
        }
        let mut answerer = PolicyAnswerer {
            engine,
            builder: self.builder,
            task: match &suite.task {
                Some(task) => (task.clone(), true),
                None => (suite.own_task(), false),
            },
            sampling,
            seed: self.seed,
            world: self.world,
            answers: Vec::new(),
            dropped: false,
        };
        if !ranks.is_leader() {
            crate::eval::Answerer::answer(&mut answerer, &questions, &mut |_, _| Ok(()))?;
            let scored = SuiteScored {
                set: SetScores::none(suite.name.name()),
                notes: Vec::new(),
            };
            return Ok((!answerer.dropped).then_some(scored));
        }
        let shown = tasks.pictures.clone();
        let place = (&suite.with, self.device(&suite.with)?);
        let mut result = tasks.sample_afresh(place, &mut answerer)?;
        if answerer.dropped {
            return Ok(None);
        }
        result.headlines = suite.name.headlines(&result);
        let scored = result.scored(Bootstrap {
            samples: 1,
            confidence: 0.5,
            seed: 0,
        });
        let mut metrics = Metrics::new();
        for row in &scored.rows {
            let name = match &row.task {
                Some(task) => format!("{task}/{}", row.metric),
                None => row.metric.clone(),
            };
            if let Some(value) = row.value {
                metrics.set_name(name, value);
            }
        }
        let items: IndexMap<String, &EvalItem> = scored
            .result
            .items
            .iter()
            .map(|item| (format!("{}/{}", item.task, item.id), item))
            .collect();
        let mut rows = Vec::new();
        for answer in &answerer.answers {
            let question = &questions[answer.at];
            let item = items.get(&question.item).copied();
            rows.push(row(
                id,
                (&question.item, &question.text),
                (answer, item),
                &shown,
            ));
        }
        let pictures = self.kept(&shown, &rows)?;
        let set = SetScores {
            name: suite.name.name(),
            metrics: metrics.held_out(suite.name.name()),
            rows,
            pictures,
        };
        Ok(Some(SuiteScored {
            set,
            notes: scored.result.notes,
        }))
    }

    /// Where the judging networks compute.
    fn device(&self, with: &SuiteConfig) -> Result<Device, TrainError> {
        match with.device == DeviceName::default() {
            true => Ok(self.world.0.device()),
            false => with.device.resolve(0).map_err(TrainError::Input),
        }
    }

    /// Pictures of the first drawings that render.
    fn kept(
        &self,
        tasks: &[PictureTask],
        rows: &[SampleRow],
    ) -> Result<Vec<KeptPicture>, TrainError> {
        let mut kept = KeptPictures::new(self.pictures)?;
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.valid) {
            let task = tasks.iter().find(|task| task.name == row.task);
            let svg = task.and_then(|task| task.canvas.answers.find(&row.completion).ok());
            if let Some(svg) = svg
                && !kept.add(at, &svg)
            {
                break;
            }
        }
        Ok(kept.pictures)
    }
}

/// An answer as a row of sample files.
fn row(
    id: &StepId,
    (item, question): (&str, &str),
    (answer, judged): (&PolicyAnswer, Option<&EvalItem>),
    tasks: &[PictureTask],
) -> SampleRow {
    let own = judged.map_or("", |judged| judged.id.as_str());
    let task = judged.map_or("", |judged| judged.task.as_str());
    let shown = tasks.iter().find(|shown| shown.name == task);
    let shown = shown.and_then(|task| task.rows.iter().find(|row| row.id == own));
    let mut reference = Reference::default();
    if let Some(shown) = shown {
        match &shown.reference {
            EvalReference::Absent => {}
            EvalReference::File(path) => reference.image = Some(ImageSource::Path(path.clone())),
            EvalReference::Svg(source) => reference.svg = Some(source.clone()),
        }
        reference.text = shown.caption.clone().and_then(Result::ok);
    }
    let reward_text = reference.wish(question).to_owned();
    let (text, ids, logprobs, finish) = match &answer.said {
        Ok(said) => (
            said.text.clone(),
            said.ids.clone(),
            said.logprobs.clone(),
            said.finish,
        ),
        Err(_) => (String::new(), Vec::new(), Vec::new(), FinishReason::Stop),
    };
    let reason = judged.and_then(|judged| judged.reason.as_deref());
    SampleRow {
        stage: id.stage.clone(),
        step: id.step,
        prompt_id: item.to_owned(),
        task: task.to_owned(),
        index: 0,
        prompt: answer.prompt.clone(),
        completion: text,
        token_ids: ids,
        sampler_logprobs: logprobs,
        finish_reason: finish,
        valid: judged.is_some_and(|judged| judged.valid),
        reason: reason.and_then(|reason| reason.parse().ok()),
        parts: IndexMap::new(),
        metrics: judged
            .map(|judged| judged.values.clone())
            .unwrap_or_default(),
        total: None,
        advantage: 0.0,
        policy_version: id.policy_version,
        policy_spans: Vec::new(),
        unscored: Vec::new(),
        reward_prompt: question.to_owned(),
        reward_text,
        reference,
        images: Vec::new(),
        render_ms: 0.0,
        deadline_hit: false,
    }
}
