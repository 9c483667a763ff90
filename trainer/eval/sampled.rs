//! A suite's questions, answered by a model and judged while others are still asked. Answers are kept in the published
//! layout as they come, so that an evaluation that was interrupted goes on where it was.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};

use serde_json::{Value, json};
use tch::Device;

use super::choice::ChoiceTask;
use super::config::{PredictedPictures, SuiteConfig};
use super::picture_scores::EvalProgress;
use super::picture_task::PictureCase;
use super::prediction::{Prediction, PredictionFolder};
use super::result::SuiteResult;
use super::suite::SuiteTasks;
use crate::TrainError;
use crate::files::{make_folder, open_log, write_whole};

/// What a model is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalQuestion {
    /// The user's words; `<image>` is the picture's place.
    pub text: String,
    /// The picture that is shown.
    pub picture: Option<PathBuf>,
    /// The question's place in the suite, which keys what is drawn for it.
    pub draw: u64,
}

/// What is done with an answer: the question's place among those asked, and the answer, or why there is none.
pub type TakeAnswer<'a> = dyn FnMut(usize, Result<String, String>) -> Result<(), TrainError> + 'a;

/// A model that answers questions.
pub trait Answerer {
    /// Answers every question, in any order.
    ///
    /// # Errors
    /// What ends the evaluation; a question that alone cannot be answered is told to `take`.
    fn answer(
        &mut self,
        questions: &[EvalQuestion],
        take: &mut TakeAnswer,
    ) -> Result<(), TrainError>;
}

/// Where a question is from: its task (pictures first, then choices) and its row.
type QuestionPlace = (usize, usize);

/// Answers that are kept: a file a task.
struct AnswerFiles {
    files: Vec<(File, PathBuf, &'static str)>,
}

impl AnswerFiles {
    fn keep(&mut self, task: usize, id: &str, answer: &str) -> Result<(), TrainError> {
        let (file, path, key) = &mut self.files[task];
        let line = format!("{}\n", json!({"id": id, *key: answer}));
        file.write_all(line.as_bytes())
            .map_err(TrainError::io(&*path))
    }
}

impl SuiteTasks {
    /// Has `answerer` answer what `folder` holds no answer to yet, and judges all answers. `asked` says who is asked and
    /// how: answers of others are refused.
    ///
    /// # Errors
    /// A folder with answers to something else; the answerer's; those of judging.
    pub fn sample(
        mut self,
        (config, device): (&SuiteConfig, Device),
        (folder, asked): (&Path, &Value),
        answerer: &mut dyn Answerer,
        progress: &mut dyn FnMut(EvalProgress),
    ) -> Result<SuiteResult, TrainError> {
        check_asked(folder, asked)?;
        let names = self
            .pictures
            .iter()
            .map(|task| (task.folder.clone(), "answer"));
        let choices = self
            .choices
            .iter()
            .map(|task| (PathBuf::from(&task.name), "result"));
        let mut files = AnswerFiles { files: Vec::new() };
        let mut known = Vec::new();
        for (name, key) in names.chain(choices) {
            let own = folder.join(name);
            make_folder(&own)?;
            let path = own.join("output.jsonl");
            let file = open_log(&path)?;
            // A torn line belongs to a question that is asked again.
            let read = PredictionFolder::of_file(&path, key, &mut Vec::new());
            known.push(read.map_err(TrainError::Input)?);
            files.files.push((file, path, key));
        }
        let template = config.template.as_deref();
        let (questions, places) = self.questions(&known, template);
        let total: usize = self
            .pictures
            .iter()
            .map(|task| task.rows.len())
            .sum::<usize>()
            + self
                .choices
                .iter()
                .map(|task| task.rows.len())
                .sum::<usize>();
        progress(EvalProgress::Begin(total));
        progress(EvalProgress::Judged(total - questions.len()));
        let judge = self.open_judge(config, device)?;
        let tasks = &self.pictures;
        let mut failed: HashMap<QuestionPlace, String> = HashMap::new();
        let scores = std::thread::scope(|scope| {
            let (sender, cases) = channel::<PictureCase>();
            let judged = scope.spawn(move || judge.judge(tasks, cases.into_iter(), &mut |_| ()));
            send_known(&self, &known, &places, &sender);
            let mut take = |at: usize, answer: Result<String, String>| {
                let (task, row) = places[at];
                match &answer {
                    Ok(answer) => files.keep(task, self.id((task, row)), answer)?,
                    Err(why) => drop(failed.insert((task, row), why.clone())),
                }
                if task < self.pictures.len() {
                    let prediction = match answer {
                        Ok(answer) => Prediction::of_answer(&answer),
                        Err(why) => Prediction::Missing(format!("no_answer: {why}")),
                    };
                    // Judging has ended in an error, which is told below.
                    let _ = sender.send(PictureCase {
                        task,
                        row,
                        prediction,
                    });
                }
                progress(EvalProgress::Judged(1));
                Ok(())
            };
            let answered = answerer.answer(&questions, &mut take);
            drop(sender);
            let judged = judged.join().unwrap_or_else(|_| {
                Err(TrainError::Other("the thread that judges has ended".into()))
            });
            answered?;
            judged
        })?;
        let mut items = Vec::new();
        for (at, task) in self.choices.iter().enumerate() {
            let at = at + self.pictures.len();
            let (_, path, key) = &files.files[at];
            let answers = PredictionFolder::of_file(path, key, &mut Vec::new());
            let mut own = task.judge(&answers.map_err(TrainError::Input)?);
            for (row, item) in own.iter_mut().enumerate() {
                if let Some(why) = failed.get(&(at, row)) {
                    item.reason = Some(format!("no_answer: {why}"));
                }
            }
            items.extend(own);
        }
        if !failed.is_empty() {
            self.notes.push(format!(
                "{} questions have no answer (`reason` in items.jsonl); the same command asks them again",
                failed.len()
            ));
        }
        Ok(self.result(config, scores, items))
    }

    /// The questions without an answer, and where they are from.
    fn questions(
        &self,
        known: &[PredictionFolder],
        template: Option<&str>,
    ) -> (Vec<EvalQuestion>, Vec<QuestionPlace>) {
        let pictures = self.pictures.iter().map(|task| {
            let rows = task.rows.iter();
            rows.map(|row| (row.id.as_str(), row.question.as_str(), row.shown.clone()))
                .collect::<Vec<_>>()
        });
        let choices = self.choices.iter().map(|task: &ChoiceTask| {
            let rows = task.rows.iter();
            rows.map(|row| (row.id.as_str(), row.question.as_str(), None))
                .collect()
        });
        let (mut questions, mut places) = (Vec::new(), Vec::new());
        let mut draw = 0;
        for (task, rows) in pictures.chain(choices).enumerate() {
            // A template is for drawings.
            let template = template.filter(|_| task < self.pictures.len());
            for (row, (id, text, picture)) in rows.into_iter().enumerate() {
                if known[task].answer(id).is_none() {
                    questions.push(EvalQuestion {
                        text: worded(text, template),
                        picture,
                        draw,
                    });
                    places.push((task, row));
                }
                draw += 1;
            }
        }
        (questions, places)
    }

    fn id(&self, (task, row): QuestionPlace) -> &str {
        match self.pictures.get(task) {
            Some(own) => &own.rows[row].id,
            None => &self.choices[task - self.pictures.len()].rows[row].id,
        }
    }
}

/// Hands over the answers that were there before.
fn send_known(
    tasks: &SuiteTasks,
    known: &[PredictionFolder],
    asked: &[QuestionPlace],
    sender: &Sender<PictureCase>,
) {
    let open: std::collections::HashSet<&QuestionPlace> = asked.iter().collect();
    for (task, own) in tasks.pictures.iter().enumerate() {
        for (row, item) in own.rows.iter().enumerate() {
            if !open.contains(&(task, row)) {
                let prediction = known[task].prediction(&item.id, PredictedPictures::Drawn);
                let _ = sender.send(PictureCase {
                    task,
                    row,
                    prediction,
                });
            }
        }
    }
}

/// A question in a template's words: `{question}` is the suite's own, `{instruction}` what follows its first
/// "Instruction: " (all of it where there is none), as CTRL-S asks SArena's questions.
fn worded(question: &str, template: Option<&str>) -> String {
    let Some(template) = template else {
        return question.to_owned();
    };
    let instruction = question.split_once("Instruction: ");
    let instruction = instruction.map_or(question, |(_, instruction)| instruction);
    template
        .replace("{question}", question)
        .replace("{instruction}", instruction)
}

/// Refuses a folder whose answers are to something else, and notes what these are to.
fn check_asked(folder: &Path, asked: &Value) -> Result<(), TrainError> {
    let path = folder.join("asked.json");
    if path.exists() {
        let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
        let before: Value = serde_json::from_str(&text)
            .map_err(|error| TrainError::Input(format!("{}: {error}", path.display())))?;
        if let (Value::Object(before), Value::Object(asked)) = (&before, asked) {
            let keys = asked.keys().chain(before.keys());
            let differs = |key: &&String| before.get(*key) != asked.get(*key);
            if let Some(key) = keys.into_iter().find(differs) {
                let value = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default().to_string()
                };
                return Err(TrainError::Input(format!(
                    "{}: holds answers with {key} {}, not {} (name another --out, or remove that folder)",
                    folder.display(),
                    value(before),
                    value(asked)
                )));
            }
        }
        return Ok(());
    }
    make_folder(folder)?;
    write_whole(&path, format!("{asked:#}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_take_the_instruction_or_the_whole_question() {
        let template = Some("Think. {instruction} ({question})");
        assert_eq!(
            worded("Draw. Instruction: a star", template),
            "Think. a star (Draw. Instruction: a star)"
        );
        assert_eq!(worded("a star", Some("{instruction}!")), "a star!");
        assert_eq!(worded("a {x}", None), "a {x}");
    }

    #[test]
    fn answers_to_something_else_are_refused_by_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("predictions");
        let asked = json!({"model": "a", "temperature": 0.0});
        check_asked(&own, &asked).unwrap();
        check_asked(&own, &asked).unwrap();
        let other = json!({"model": "a", "temperature": 0.5});
        let told = check_asked(&own, &other).unwrap_err().to_string();
        assert!(told.contains("temperature 0.0, not 0.5"), "{told}");
    }
}
