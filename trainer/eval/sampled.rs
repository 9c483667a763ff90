//! A suite's questions, answered by a model and judged while others are still asked. Answers are kept in the published
//! layout as they come, so that an evaluation that was interrupted goes on where it was; inside training nothing is kept
//! but what the result says.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use rewards::ImageSource;
use serde_json::{Value, json};
use tch::Device;

use super::config::{PredictedPictures, SuiteConfig};
use super::picture_scores::EvalProgress;
use super::picture_task::PictureCase;
use super::prediction::{Prediction, PredictionFolder};
use super::result::SuiteResult;
use super::score_journal::ScoreJournal;
use super::suite::SuiteTasks;
use crate::TrainError;
use crate::files::{make_folder, open_log, write_whole};

/// What a model is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct EvalQuestion {
    /// The item, as `<task>/<id>`.
    pub item: String,
    /// The user's words; `<image>` is the picture's place.
    pub text: String,
    /// The picture that is shown.
    pub picture: Option<ImageSource>,
    /// Whether the words are the whole prompt, without a chat template, for models whose prompts are ids.
    pub raw: bool,
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

/// Where a question is from: its task (pictures first, then choices, then captions) and its row.
type QuestionPlace = (usize, usize);

/// A task's questions: its name, whether they are of drawings, and of each row id, words and picture.
type TaskQuestions<'a> = (
    &'a str,
    bool,
    Vec<(&'a str, &'a str, Option<&'a ImageSource>)>,
);

/// Answers that are kept: a file a task.
struct AnswerFiles {
    files: Vec<(File, PathBuf, &'static str)>,
}

/// What an evaluation begins with and where its answers go.
struct AnswerSink<'a> {
    /// Answers from before, by task.
    known: Vec<PredictionFolder>,
    /// Hears of each answer: task, id, words.
    keep: &'a mut dyn FnMut(usize, &str, &str) -> Result<(), TrainError>,
    /// The result's folder, where there is one.
    out: Option<&'a Path>,
    progress: &'a mut dyn FnMut(EvalProgress),
}

impl AnswerFiles {
    /// Those of `tasks` in `folder`, with what they hold.
    fn open(
        tasks: &SuiteTasks,
        folder: &Path,
    ) -> Result<(Self, Vec<PredictionFolder>), TrainError> {
        let pictures = tasks.pictures.iter();
        let pictures = pictures.map(|task| (task.folder.clone(), "answer"));
        let choices = tasks.choices.iter();
        let choices = choices.map(|task| (PathBuf::from(&task.name), "result"));
        let captions = tasks.captions.iter();
        let captions = captions.map(|task| (PathBuf::from(&task.name), "answer"));
        let mut own = Self { files: Vec::new() };
        let mut known = Vec::new();
        for (at, (name, key)) in pictures.chain(choices).chain(captions).enumerate() {
            let folder = folder.join(name);
            make_folder(&folder)?;
            let path = folder.join("output.jsonl");
            let file = open_log(&path)?;
            // A torn line belongs to a question that is asked again.
            let read = PredictionFolder::of_file(&path, key, &mut Vec::new());
            let read = read.map_err(TrainError::Input)?;
            known.push(match tasks.pictures.get(at) {
                Some(task) => read.shaped(task.canvas),
                None => read,
            });
            own.files.push((file, path, key));
        }
        Ok((own, known))
    }

    fn keep(&mut self, row: Value, task: usize, answer: &str) -> Result<(), TrainError> {
        let (file, path, key) = &mut self.files[task];
        let mut row = row;
        row[*key] = json!(answer);
        file.write_all(format!("{row}\n").as_bytes())
            .map_err(TrainError::io(&*path))
    }
}

impl SuiteTasks {
    /// Has `answerer` answer what `out/predictions` holds no answer to yet, and judges all answers. `asked` says who is asked
    /// and how: answers of others are refused.
    ///
    /// # Errors
    /// A folder with answers to something else; the answerer's; those of judging.
    pub fn sample(
        self,
        place: (&SuiteConfig, Device),
        (out, asked): (&Path, &Value),
        answerer: &mut dyn Answerer,
        progress: &mut dyn FnMut(EvalProgress),
    ) -> Result<SuiteResult, TrainError> {
        let folder = out.join("predictions");
        check_asked(&folder, asked)?;
        let (mut files, known) = AnswerFiles::open(&self, &folder)?;
        // What captions are compared with stands beside them, so that the folder can be judged alone.
        let references: HashMap<(usize, String), String> = self.caption_references();
        let mut keep = |task: usize, id: &str, answer: &str| {
            let mut row = json!({"id": id});
            if let Some(reference) = references.get(&(task, id.to_owned())) {
                row["reference"] = json!(reference);
            }
            files.keep(row, task, answer)
        };
        let sink = AnswerSink {
            known,
            keep: &mut keep,
            out: Some(out),
            progress,
        };
        self.answered(place, sink, answerer)
    }

    /// Has `answerer` answer everything, and judges it; nothing is written.
    ///
    /// # Errors
    /// The answerer's; those of judging.
    pub fn sample_afresh(
        self,
        place: (&SuiteConfig, Device),
        answerer: &mut dyn Answerer,
    ) -> Result<SuiteResult, TrainError> {
        let shapes = self.pictures.iter();
        let shapes = shapes.map(|task| PredictionFolder::default().shaped(task.canvas));
        let others = self.choices.len() + self.captions.len();
        let others = (0..others).map(|_| PredictionFolder::default());
        let sink = AnswerSink {
            known: shapes.chain(others).collect(),
            keep: &mut |_, _, _| Ok(()),
            out: None,
            progress: &mut |_| (),
        };
        self.answered(place, sink, answerer)
    }

    /// Every question of the suite, in order, in a template's words.
    pub fn all_questions(&self, template: Option<&str>) -> Vec<EvalQuestion> {
        self.questions(None, template).0
    }

    fn answered(
        mut self,
        (config, device): (&SuiteConfig, Device),
        sink: AnswerSink,
        answerer: &mut dyn Answerer,
    ) -> Result<SuiteResult, TrainError> {
        let AnswerSink {
            mut known,
            keep,
            out,
            progress,
        } = sink;
        let template = config.template.as_deref();
        let (questions, places) = self.questions(Some(&known), template);
        let total: usize = self.tasks().map(|(_, _, rows)| rows.len()).sum();
        if total == 0 {
            let why = format!("{}: nothing there to ask", self.suite);
            return Err(TrainError::Input(format!(
                "{}\n{why}",
                self.notes.join("\n")
            )));
        }
        progress(EvalProgress::Begin(total));
        progress(EvalProgress::Judged(total - questions.len()));
        let judge = self.open_judge(config, device)?;
        let mut journal = out.map(|out| ScoreJournal::open(out, config)).transpose()?;
        let asks = self.asks(config);
        let tasks = &self.pictures;
        let mut failed: HashMap<QuestionPlace, String> = HashMap::new();
        let mut asked: Vec<PictureCase> = Vec::new();
        let own_journal = journal.as_mut();
        let (judge, scores) = std::thread::scope(|scope| {
            let (sender, cases) = channel::<PictureCase>();
            let judged = scope.spawn(move || {
                let scores = judge.judge(tasks, cases.into_iter(), own_journal, &mut |_| ());
                (judge, scores)
            });
            let mut send = |case: PictureCase| {
                if asks {
                    asked.push(case.clone());
                }
                // Judging has ended in an error, which is told below.
                let _ = sender.send(case);
            };
            self.send_known(&known, &places, &mut send);
            let mut take = |at: usize, answer: Result<String, String>| {
                let (task, row) = places[at];
                match &answer {
                    Ok(answer) => {
                        let id = self.id((task, row));
                        keep(task, id, answer)?;
                        known[task].put(id, answer.clone());
                    }
                    Err(why) => drop(failed.insert((task, row), why.clone())),
                }
                if let Some(own) = self.pictures.get(task) {
                    let prediction = match answer {
                        Ok(answer) => Prediction::of_answer(&answer, own.canvas.answers),
                        Err(why) => Prediction::Missing(format!("no_answer: {why}")),
                    };
                    send(PictureCase {
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
            let ended = || TrainError::Other("the thread that judges has ended".into());
            let (judge, judged) = judged.join().map_err(|_| ended())?;
            answered?;
            Ok::<_, TrainError>((judge, judged?))
        })?;
        let mut items = Vec::new();
        let pictures = self.pictures.len();
        for (at, task) in self.choices.iter().enumerate() {
            let at = at + pictures;
            let mut own = task.judge(&known[at]);
            for (row, item) in own.iter_mut().enumerate() {
                if let Some(why) = failed.get(&(at, row)) {
                    item.reason = Some(format!("no_answer: {why}"));
                }
            }
            items.extend(own);
        }
        let first = pictures + self.choices.len();
        for (at, task) in self.captions.iter_mut().enumerate() {
            for (row, caption) in task.rows.iter_mut().enumerate() {
                let known = known[first + at].answer(&caption.id).map(str::to_owned);
                let why = failed.get(&(first + at, row));
                let why = why.map_or("no_prediction".into(), |why| format!("no_answer: {why}"));
                caption.answer = known.ok_or(why);
            }
        }
        items.extend(self.judged_captions(config, device)?);
        self.notes
            .extend(journal.as_ref().and_then(ScoreJournal::told));
        if !failed.is_empty() {
            self.notes.push(format!(
                "{} questions have no answer (`reason` in items.jsonl); the same command asks them again",
                failed.len()
            ));
        }
        self.finished((config, out), (&judge, asked), (scores, items))
    }

    /// The tasks' questions, in order.
    fn tasks(&self) -> impl Iterator<Item = TaskQuestions<'_>> {
        let pictures = self.pictures.iter().map(|task| {
            let rows = task.rows.iter();
            let rows = rows.map(|row| (row.id.as_str(), row.question.as_str(), row.shown.as_ref()));
            (task.name.as_str(), true, rows.collect())
        });
        let choices = self.choices.iter().map(|task| {
            let rows = task.rows.iter();
            let rows = rows.map(|row| (row.id.as_str(), row.question.as_str(), None));
            (task.name.as_str(), false, rows.collect())
        });
        let captions = self.captions.iter().map(|task| {
            let rows = task.rows.iter();
            let rows = rows.map(|row| (row.id.as_str(), row.question.as_str(), None));
            (task.name.as_str(), false, rows.collect())
        });
        pictures.chain(choices).chain(captions)
    }

    /// The questions without an answer among those that are `known`, and where they are from.
    fn questions(
        &self,
        known: Option<&[PredictionFolder]>,
        template: Option<&str>,
    ) -> (Vec<EvalQuestion>, Vec<QuestionPlace>) {
        let (mut questions, mut places) = (Vec::new(), Vec::new());
        let mut draw = 0;
        for (task, (name, draws, rows)) in self.tasks().enumerate() {
            // A template is for drawings.
            let template = template.filter(|_| draws);
            for (row, (id, text, picture)) in rows.into_iter().enumerate() {
                if known.is_none_or(|known| known[task].answer(id).is_none()) {
                    questions.push(EvalQuestion {
                        item: format!("{name}/{id}"),
                        text: worded(text, template),
                        picture: picture.cloned(),
                        raw: self.raw_prompts,
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
        let pictures = self.pictures.len();
        let words = pictures + self.choices.len();
        match task {
            task if task < pictures => &self.pictures[task].rows[row].id,
            task if task < words => &self.choices[task - pictures].rows[row].id,
            task => &self.captions[task - words].rows[row].id,
        }
    }

    /// What each caption is compared with, by task and id.
    fn caption_references(&self) -> HashMap<(usize, String), String> {
        let first = self.pictures.len() + self.choices.len();
        let all = self.captions.iter().enumerate().flat_map(|(at, task)| {
            let rows = task.rows.iter();
            rows.map(move |row| ((first + at, row.id.clone()), row.reference.clone()))
        });
        all.collect()
    }

    /// Hands over the answers that were there before.
    fn send_known(
        &self,
        known: &[PredictionFolder],
        asked: &[QuestionPlace],
        send: &mut dyn FnMut(PictureCase),
    ) {
        let open: std::collections::HashSet<&QuestionPlace> = asked.iter().collect();
        for (task, own) in self.pictures.iter().enumerate() {
            for (row, item) in own.rows.iter().enumerate() {
                if !open.contains(&(task, row)) {
                    let prediction = known[task].prediction(&item.id, PredictedPictures::Drawn);
                    send(PictureCase {
                        task,
                        row,
                        prediction,
                    });
                }
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
