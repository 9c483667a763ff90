//! Tasks: what is asked, in which words, and how answers are scored. A type brings its own words
//! (configs/templates/), completion format, rubric and metrics; each may be replaced.

use std::path::PathBuf;

use indexmap::IndexMap;
use rewards::rules::{CodeEfficiency, Format, MseForeground, Ssim};
use rewards::{
    CompletionConfig, MeasureWhen, PlainText, RewardConfig, RubricConfig, TaskScoring, Variant,
    Weight,
};
use rollout::prompt::{ChatUse, PromptConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Config, JudgeSees, StageConfig};

/// What kind of work a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskType {
    /// Words in, SVG out.
    #[default]
    TextToSvg,
    /// A picture in, SVG out.
    ImageToSvg,
    /// A sketch in, SVG out.
    SketchToSvg,
    /// An SVG and a wish in, the edited SVG out.
    Edit,
    /// Words and a flawed SVG in (with a picture, where the row has one), SVG out.
    Refinement,
    /// An SVG in, words out.
    Caption,
    /// A question with choices in, a letter out.
    Understanding,
}

/// One task: its prompts and its scoring.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskConfig {
    /// What kind of work it is; gives what is not said below.
    #[serde(rename = "type")]
    pub task_type: TaskType,
    /// Prompt templates with placeholders such as {prompt} and {draft}; one is chosen by seed and
    /// draw. `["{prompt}"]` passes a row's own words. Empty: those of `templates_file`, else the
    /// type's own (configs/templates/), and rows that are whole questions (alpaca, sharegpt,
    /// messages, dpo) are asked as they stand.
    pub templates: Vec<String>,
    /// YAML file with a list `templates`, relative to the config's folder.
    pub templates_file: Option<PathBuf>,
    /// System message, for chat prompts.
    pub system: Option<String>,
    /// Whether the prompt goes through the tokenizer's chat template: `auto` if it has one.
    pub chat: ChatUse,
    /// Text that the completion's turn begins with, as part of the prompt.
    pub prefill: Option<String>,
    /// What a completion must look like and where its SVG stands; absent: `svg`, and `text` for
    /// captions and choices.
    pub completion: Option<CompletionConfig>,
    /// Whether the task follows its paper's words (`strict`) or the code that its authors released (`as_released`), where
    /// the two differ: in where the SVG of a completion is found (`completion.extraction`), in `code_efficiency` and in
    /// `image_text`. What says it for itself keeps its own. Absent: `strict`.
    pub variant: Option<Variant>,
    /// How SVG is rendered for scoring.
    pub render: svg::RenderConfig,
    /// The rewards and how they are combined; absent: the type's own.
    pub rubric: Option<RubricConfig>,
    /// What is measured besides, for the record: any rewards without weights, reported as `metric/<name>/mean` and in
    /// no total; a row whose reference lacks what one needs is left out of it. Absent: what the type's literature
    /// reports and the rubric does not already reward, by encoders those that some task's rewards use. `[]`: nothing.
    pub metrics: Option<Vec<RewardConfig>>,
    /// When it is measured: `held_out` (evaluations, `svgrl reward --metrics`) or `always` (training and a scoring service too).
    pub measured: MeasureWhen,
}

/// A file of templates.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    templates: Vec<String>,
}

impl TaskConfig {
    /// Fills in what the type brings and the config does not say; reads `templates_file`.
    ///
    /// # Errors
    /// A file that cannot be read or is no list of templates.
    pub fn settle(&mut self) -> Result<(), String> {
        let words = matches!(self.task_type, TaskType::Caption | TaskType::Understanding);
        self.completion.get_or_insert_with(|| match words {
            true => CompletionConfig::Text(PlainText::default()),
            false => CompletionConfig::default(),
        });
        self.rubric
            .get_or_insert_with(|| own_rubric(self.task_type));
        if let Some(variant) = self.variant {
            let rewards = self
                .rubric
                .iter_mut()
                .flat_map(|rubric| &mut rubric.rewards);
            let rules = rewards.chain(self.metrics.iter_mut().flatten());
            rules.for_each(|rule| rule.take_variant(variant));
            let completion = self.completion.iter_mut();
            completion.for_each(|completion| completion.take_variant(variant));
        }
        let Some(path) = self
            .templates_file
            .as_ref()
            .filter(|_| self.templates.is_empty())
        else {
            return Ok(());
        };
        let problem = |problem: &dyn std::fmt::Display| {
            format!("templates_file: {}: {problem}", path.display())
        };
        let text = std::fs::read_to_string(path).map_err(|error| problem(&error))?;
        let file: TemplateFile = serde_saphyr::from_str(&text).map_err(|error| problem(&error))?;
        if file.templates.is_empty() {
            return Err(problem(&"the list `templates` is empty"));
        }
        self.templates = file.templates;
        Ok(())
    }

    /// How the task asks.
    pub fn prompt_config(&self) -> PromptConfig {
        let own = self.templates.is_empty();
        PromptConfig {
            templates: match own {
                true => self.own_templates(),
                false => self.templates.clone(),
            },
            spare_whole_questions: own,
            system: self.system.clone(),
            chat: self.chat,
            prefill: self.prefill.clone(),
        }
    }

    /// What the type asks with, for the task's completion format.
    fn own_templates(&self) -> Vec<String> {
        let format = match self.completion {
            Some(CompletionConfig::CtrlS(_)) => "ctrl_s",
            Some(CompletionConfig::Sgp(_)) => "sgp",
            _ => "",
        };
        let file: TemplateFile = serde_saphyr::from_str(own_file(self.task_type, format))
            .expect("the program's own template files are well formed");
        file.templates
    }

    /// Whether its completions are SVG.
    pub fn draws(&self) -> bool {
        !matches!(self.completion, Some(CompletionConfig::Text(_)))
    }

    /// How the task scores.
    pub fn scoring(&self) -> TaskScoring {
        TaskScoring {
            completion: self.completion.clone().unwrap_or_default(),
            render: self.render.clone(),
            rubric: self.rubric.clone().unwrap_or_default(),
            metrics: self.metrics.clone().unwrap_or_default(),
            measured: self.measured,
        }
    }
}

/// How the tasks score, as the scorer takes them.
pub fn scoring(tasks: &IndexMap<String, TaskConfig>) -> IndexMap<String, TaskScoring> {
    tasks
        .iter()
        .map(|(name, task)| (name.clone(), task.scoring()))
        .collect()
}

impl Config {
    /// How everything is scored that a run scores: the tasks, and what judges the pairs that stages make.
    pub fn scorings(&self) -> IndexMap<String, TaskScoring> {
        let mut all = scoring(&self.tasks);
        for stage in &self.stages {
            all.extend(self.judged_pairs(stage));
        }
        all
    }

    /// What a stage's own judge scores pairs by, for each task of the stage's sources.
    pub(super) fn judged_pairs(&self, stage: &StageConfig) -> IndexMap<String, TaskScoring> {
        let pairs = stage.algorithm.options().pairs();
        let Some((pairs, judge)) = pairs.and_then(|pairs| Some((pairs, pairs.judge.as_ref()?)))
        else {
            return IndexMap::new();
        };
        let drawn = &stage.common.curriculum.sources;
        let used = |name: &String| drawn.is_empty() || drawn.contains(name);
        let sources = self.data.sources.iter().filter(|(name, _)| used(name));
        let first = self.tasks.keys().next().map(String::as_str);
        let names = sources.filter_map(|(_, source)| source.task().or(first));
        // One who sees all is asked when they are all there; before, each is but drawn.
        let reward = match pairs.judge_sees {
            JudgeSees::One => RewardConfig::Judge(judge.clone()),
            JudgeSees::All => RewardConfig::Format(Format::default()),
        };
        let judged = names.filter_map(|name| {
            let scoring = TaskScoring {
                rubric: RubricConfig {
                    rewards: vec![reward.clone()],
                    ..RubricConfig::default()
                },
                metrics: Vec::new(),
                ..self.tasks.get(name)?.scoring()
            };
            Some((pairs.scored_by(stage.name()).task(name), scoring))
        });
        judged.collect()
    }
}

fn own_file(task: TaskType, format: &str) -> &'static str {
    macro_rules! own {
        ($name:literal) => {
            include_str!(concat!("../../configs/templates/", $name, ".yaml"))
        };
    }
    match (task, format) {
        (TaskType::TextToSvg, "ctrl_s") => own!("text_to_svg.ctrl_s"),
        (TaskType::TextToSvg, "sgp") => own!("text_to_svg.sgp"),
        (TaskType::TextToSvg, _) => own!("text_to_svg"),
        (TaskType::ImageToSvg, "ctrl_s") => own!("image_to_svg.ctrl_s"),
        (TaskType::ImageToSvg, _) => own!("image_to_svg"),
        (TaskType::SketchToSvg, _) => own!("sketch_to_svg"),
        (TaskType::Edit, _) => own!("edit"),
        (TaskType::Refinement, "ctrl_s") => own!("refinement.ctrl_s"),
        (TaskType::Refinement, _) => own!("refinement"),
        (TaskType::Caption, _) => own!("caption"),
        (TaskType::Understanding, _) => own!("understanding"),
    }
}

fn own_rubric(task: TaskType) -> RubricConfig {
    let rewards = match task {
        TaskType::Understanding => vec![RewardConfig::Choice(Default::default())],
        TaskType::Caption => vec![RewardConfig::RougeL(Default::default())],
        _ => vec![
            RewardConfig::Ssim(Ssim {
                weight: Weight::Constant(0.4),
                ..Default::default()
            }),
            RewardConfig::MseForeground(MseForeground {
                weight: Weight::Constant(0.5),
                ..Default::default()
            }),
            RewardConfig::CodeEfficiency(CodeEfficiency {
                weight: Weight::Constant(0.1),
                clip: Some([0.0, 1.0]),
                ..Default::default()
            }),
        ],
    };
    RubricConfig {
        rewards,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_replaces_the_type_s_templates_and_a_bad_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("words.yaml");
        let settled = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let mut task = TaskConfig {
                templates_file: Some(path.clone()),
                ..Default::default()
            };
            task.settle().map(|()| task.prompt_config())
        };
        let prompts = settled("templates: [\"Draw {prompt}!\", \"{prompt}, please\"]").unwrap();
        assert_eq!(prompts.templates, ["Draw {prompt}!", "{prompt}, please"]);
        for (text, part) in [
            ("templates: []", "the list `templates` is empty"),
            ("", "words.yaml"),
            ("templates: {a: b}", "words.yaml"),
            ("template: [a]", "template"),
            ("templates: [\"a\"", "words.yaml"),
        ] {
            let said = settled(text).unwrap_err();
            assert!(
                said.starts_with("templates_file: ") && said.contains(part),
                "{text}: {said}"
            );
        }
        let open = settled("templates: [\"a {prompt\"]").unwrap();
        let said = rollout::prompt::Prompter::new(&open, None, 0).unwrap_err();
        assert!(said.to_string().starts_with("templates.0: "), "{said}");
        let mut lost = TaskConfig {
            templates_file: Some(folder.path().join("none.yaml")),
            ..Default::default()
        };
        assert!(lost.settle().unwrap_err().contains("none.yaml"));
    }

    #[test]
    fn a_task_s_variant_is_taken_where_nothing_else_is_said() {
        let settled = |text: &str| {
            let mut task: TaskConfig = serde_saphyr::from_str(text).unwrap();
            task.settle().unwrap();
            serde_json::to_value(task).unwrap()
        };
        let rewards = "rubric: {rewards: [{type: code_efficiency}, {type: image_text, encoder: e, variant: strict}, {type: mse}]}";
        let released = "variant: as_released\ncompletion: {format: ctrl_s}\n";
        let task = settled(&format!("{released}{rewards}"));
        let of =
            |task: &serde_json::Value, at: usize| task["rubric"]["rewards"][at]["variant"].clone();
        assert_eq!(task["completion"]["extraction"], "as_released");
        assert_eq!(
            (of(&task, 0), of(&task, 1)),
            ("as_released".into(), "strict".into())
        );
        assert!(of(&task, 2).is_null());
        let own = settled("variant: as_released\ncompletion: {format: sgp, extraction: strict}");
        assert_eq!(own["completion"]["extraction"], "strict");
        // An SVG alone need not be found.
        let alone = settled("variant: as_released\ncompletion: {format: svg}");
        assert!(alone["completion"]["extraction"].is_null());
        let none = settled(rewards);
        assert!(of(&none, 0).is_null());
    }

    #[test]
    fn every_type_and_format_brings_templates_that_parse() {
        let types = [
            TaskType::TextToSvg,
            TaskType::ImageToSvg,
            TaskType::SketchToSvg,
            TaskType::Edit,
            TaskType::Refinement,
            TaskType::Caption,
            TaskType::Understanding,
        ];
        for task_type in types {
            for format in [
                CompletionConfig::default(),
                CompletionConfig::CtrlS(Default::default()),
                CompletionConfig::Sgp(Default::default()),
            ] {
                let mut task = TaskConfig {
                    task_type,
                    completion: Some(format),
                    ..Default::default()
                };
                task.settle().unwrap();
                let prompts = task.prompt_config();
                assert!(!prompts.templates.is_empty());
                rollout::prompt::Prompter::new(&prompts, None, 0).unwrap();
                assert!(task.rubric.is_some());
            }
        }
    }
}
