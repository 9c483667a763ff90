//! Questions with choices, as SArena judges them: the first letter of an answer against the first letter of the
//! right one, whatever follows; what was not answered is wrong.

use std::path::{Path, PathBuf};

use super::item::EvalItem;
use super::prediction::PredictionFolder;

/// A task of questions with choices.
#[derive(Debug, Clone, Default)]
pub struct ChoiceTask {
    /// Its name in results.
    pub name: String,
    /// Its questions.
    pub rows: Vec<ChoiceRow>,
}

/// One question.
#[derive(Debug, Clone)]
pub struct ChoiceRow {
    /// Its id.
    pub id: String,
    /// What a model is asked.
    pub question: String,
    /// The right letter.
    pub answer: char,
    /// What it is about.
    pub subject: String,
}

impl ChoiceTask {
    /// Names of its metrics: of all questions, then of each subject, by name.
    pub fn metrics(&self) -> Vec<String> {
        let mut subjects: Vec<&str> = self.rows.iter().map(|row| row.subject.as_str()).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let own = subjects.iter().map(|subject| of_subject(subject));
        std::iter::once("accuracy".to_owned()).chain(own).collect()
    }

    /// Judges the answers, 100 for a right one.
    pub fn judge(&self, answers: &PredictionFolder) -> Vec<EvalItem> {
        let judged = |row: &ChoiceRow| {
            let answer = answers.answer(&row.id);
            let letter = answer.and_then(|answer| answer.chars().next());
            let reason = match (answer, letter) {
                (None, _) => Some(answers.why_none(&row.id)),
                (Some(_), None) => Some("no_answer".into()),
                _ => None,
            };
            let mut item = EvalItem::new(&self.name, &row.id, reason);
            let right = if letter == Some(row.answer) {
                100.0
            } else {
                0.0
            };
            item.put("accuracy", right);
            item.put(&of_subject(&row.subject), right);
            item
        };
        self.rows.iter().map(judged).collect()
    }
}

fn of_subject(subject: &str) -> String {
    format!("accuracy/{subject}")
}

/// The file of answers in `folder`, which the released script names after the model: `output.jsonl`, or the only
/// one.
///
/// # Errors
/// None, or several.
pub fn answers_file(folder: &Path) -> Result<PathBuf, String> {
    let usual = folder.join("output.jsonl");
    if usual.exists() {
        return Ok(usual);
    }
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    match (files.pop(), files.len()) {
        (Some(file), 0) => Ok(file),
        (None, _) => Err(format!(
            "{}: holds no file .jsonl of answers",
            folder.display()
        )),
        _ => Err(format!(
            "{}: holds several files .jsonl; call the answers output.jsonl",
            folder.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_letter_decides_and_silence_is_wrong() {
        let row = |id: &str, answer, subject: &str| ChoiceRow {
            id: id.into(),
            question: String::new(),
            answer,
            subject: subject.into(),
        };
        let task = ChoiceTask {
            name: "understanding".into(),
            rows: vec![
                row("1", 'A', "Shape"),
                row("2", 'B', "Color"),
                row("3", 'C', "Color"),
                row("4", 'D', "Color"),
            ],
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model_un_result.jsonl");
        std::fs::write(
            &path,
            "{\"id\":1,\"result\":\"A. a star\"}\n{\"id\":2,\"result\":\"b\"}\n{\"id\":3,\"result\":\"\"}\n",
        )
        .unwrap();
        let mut notes = Vec::new();
        let file = answers_file(folder.path()).unwrap();
        let answers = PredictionFolder::of_file(&file, "result", &mut notes).unwrap();
        let items = task.judge(&answers);
        let right: Vec<f64> = items.iter().map(|item| item.values["accuracy"]).collect();
        assert_eq!(right, [100.0, 0.0, 0.0, 0.0]);
        let reasons: Vec<_> = items.iter().map(|item| item.reason.as_deref()).collect();
        assert_eq!(
            reasons,
            [None, None, Some("no_answer"), Some("no_prediction")]
        );
        assert_eq!(items[1].values["accuracy/Color"], 0.0);
        assert_eq!(
            task.metrics(),
            ["accuracy", "accuracy/Color", "accuracy/Shape"]
        );
        std::fs::write(folder.path().join("other.jsonl"), "").unwrap();
        assert!(answers_file(folder.path()).unwrap_err().contains("several"));
    }
}
