//! Predictions in the layout of the released inference scripts: `output.jsonl` with `{"id", "answer"}`, `svg/{id}.svg`,
//! `images/{id}.png`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::PredictedPictures;
use super::eval_canvas::{AnswerShape, EvalCanvas, PredictionLayout};
use super::jsonl::{id_text, read_rows};

/// What was predicted for an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Prediction {
    /// A picture's file, and the SVG that it was drawn from, where that is known.
    Given(PathBuf, Option<String>),
    /// A picture's file that stands for an SVG that cannot be drawn, and why it cannot.
    StandIn(PathBuf, String),
    /// An SVG that is drawn here.
    Svg(String),
    /// Nothing that can be judged, and why.
    Missing(String),
}

impl Prediction {
    /// Of an answer of this shape.
    pub fn of_answer(answer: &str, shape: AnswerShape) -> Self {
        match shape.find(answer) {
            Ok(svg) => Self::Svg(svg),
            Err(why) => Self::Missing(why),
        }
    }
}

/// A task's predictions.
#[derive(Debug, Default)]
pub struct PredictionFolder {
    folder: PathBuf,
    shape: AnswerShape,
    answers: HashMap<String, String>,
    /// Rows of `output.jsonl` that cannot be used, by their id.
    broken: HashMap<String, String>,
    has_images: bool,
    /// Whether each item has a folder of its own.
    folder_each: bool,
}

impl PredictionFolder {
    /// Reads `folder/output.jsonl` where there is one; of rows with one id the last counts, as the released scripts
    /// append what they ask again. What cannot be used is said in `notes`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn open(
        folder: &Path,
        canvas: EvalCanvas,
        notes: &mut Vec<String>,
    ) -> Result<Self, String> {
        let folder_each = canvas.layout == PredictionLayout::FolderEach;
        let mut own = Self {
            folder: folder.to_owned(),
            shape: canvas.answers,
            has_images: folder_each || folder.join("images").is_dir(),
            folder_each,
            ..Self::default()
        };
        let list = folder.join("output.jsonl");
        if list.exists() {
            own.read_answers(&list, "answer", notes)?;
        }
        Ok(own)
    }

    /// Answers in the shape of `canvas` that lie in no folder.
    pub fn shaped(mut self, canvas: EvalCanvas) -> Self {
        self.shape = canvas.answers;
        self
    }

    /// Keeps an answer, in the place of one that was there.
    pub fn put(&mut self, id: &str, answer: String) {
        self.broken.remove(id);
        self.answers.insert(id.to_owned(), answer);
    }

    /// Reads the answers of one file, which stand under `key`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of_file(path: &Path, key: &str, notes: &mut Vec<String>) -> Result<Self, String> {
        let mut own = Self::default();
        own.read_answers(path, key, notes)?;
        Ok(own)
    }

    fn read_answers(
        &mut self,
        path: &Path,
        key: &str,
        notes: &mut Vec<String>,
    ) -> Result<(), String> {
        for row in read_rows(path, notes)? {
            let Some(id) = id_text(&row.value["id"]) else {
                notes.push(format!(
                    "{}: id: must be a number or text, got {} (the row belongs to no item)",
                    row.place, row.value["id"]
                ));
                continue;
            };
            match &row.value[key] {
                Value::String(answer) => {
                    self.broken.remove(&id);
                    self.answers.insert(id, answer.clone());
                }
                other => {
                    let problem = match other {
                        Value::Null => format!("{}: {key}: is missing", row.place),
                        other => format!("{}: {key}: must be text, got {other}", row.place),
                    };
                    notes.push(problem.clone());
                    self.broken.insert(id, problem);
                }
            }
        }
        Ok(())
    }

    /// The answer to an item, if there is one.
    pub fn answer(&self, id: &str) -> Option<&str> {
        self.answers.get(id).map(String::as_str)
    }

    /// Why an item has no answer.
    pub fn why_none(&self, id: &str) -> String {
        match self.broken.get(id) {
            Some(problem) => format!("no_prediction: {problem}"),
            None => "no_prediction".into(),
        }
    }

    /// Ids of answers that belong to none of `known`.
    pub fn strangers<'a>(&'a self, known: &dyn Fn(&str) -> bool) -> Vec<&'a str> {
        let ids = self.answers.keys().map(String::as_str);
        let mut ids: Vec<&str> = ids.filter(|id| !known(id)).collect();
        ids.sort_unstable();
        ids
    }

    /// What is judged for an item.
    pub fn prediction(&self, id: &str, pictures: PredictedPictures) -> Prediction {
        let given = match pictures {
            PredictedPictures::Auto => self.has_images,
            PredictedPictures::Given => true,
            PredictedPictures::Drawn => false,
        };
        let own = self.folder.join(id);
        let (file, picture) = match self.folder_each {
            true => (
                own.join(format!("{id}.svg")),
                own.join(format!("{id}_generated.png")),
            ),
            false => (
                self.folder.join("svg").join(format!("{id}.svg")),
                self.folder.join("images").join(format!("{id}.png")),
            ),
        };
        let svg = match std::fs::read_to_string(&file) {
            Ok(svg) => Ok(svg),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("unreadable: {}: {error}", file.display()))
            }
            Err(_) => match self.answer(id) {
                None => Err(self.why_none(id)),
                Some(answer) => self.shape.find(answer),
            },
        };
        if !given {
            return match svg {
                Ok(svg) => Prediction::Svg(svg),
                Err(why) => Prediction::Missing(why),
            };
        }
        match (picture.exists(), svg) {
            (true, _) if self.folder_each && !compiles(&own) => {
                Prediction::StandIn(picture, "no_compile".into())
            }
            (true, svg) => Prediction::Given(picture, svg.ok()),
            // Pictures of folders of their own may be left out one by one.
            (false, Ok(svg)) if self.folder_each => Prediction::Svg(svg),
            (false, Ok(_)) => {
                Prediction::Missing(format!("not_drawn: {} is missing", picture.display()))
            }
            (false, Err(why)) => Prediction::Missing(why),
        }
    }
}

/// Whether VectorGym's code says of an item's folder that its SVG could be read.
fn compiles(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("metadata.json")).unwrap_or_default();
    let metadata: Value = serde_json::from_str(&text).unwrap_or_default();
    metadata["no_compile"] != Value::Bool(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_cannot_be_used_are_said_and_the_last_answer_counts() {
        let folder = tempfile::tempdir().unwrap();
        let rows = "{\"id\": 1, \"answer\": \"<svg>a</svg>\"}\n{\"answer\": \"x\"}\nnot json\n{\"id\": \"1\", \"answer\": \"say <svg>b</svg>\"}\n\n{\"id\": 2, \"answer\": 5}\n{\"id\": 3, \"answer\": \"none\"}\n";
        std::fs::write(folder.path().join("output.jsonl"), rows).unwrap();
        let mut notes = Vec::new();
        let own = PredictionFolder::open(folder.path(), EvalCanvas::SARENA, &mut notes).unwrap();
        let of = |id| own.prediction(id, PredictedPictures::Auto);
        assert_eq!(of("1"), Prediction::Svg("<svg>b</svg>".into()));
        let missing = |id| match of(id) {
            Prediction::Missing(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(missing("2").contains("output.jsonl:6: answer: must be text, got 5"));
        assert!(missing("3").starts_with("no_svg: "));
        assert_eq!(missing("4"), "no_prediction");
        assert_eq!(notes.len(), 3, "{notes:?}");
        for part in [
            "output.jsonl:2: id: must be a number or text",
            "output.jsonl:3: is not JSON",
        ] {
            assert!(notes.iter().any(|note| note.contains(part)), "{notes:?}");
        }
        assert_eq!(own.strangers(&|id| id == "1"), ["3"]);
    }

    #[test]
    fn given_pictures_go_before_drawings_and_their_absence_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("svg/1.svg", "<svg/>"),
            ("svg/2.svg", "<svg/>"),
            ("images/1.png", "png"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let own =
            PredictionFolder::open(folder.path(), EvalCanvas::SARENA, &mut Vec::new()).unwrap();
        let picture = folder.path().join("images/1.png");
        let auto = PredictedPictures::Auto;
        assert_eq!(
            own.prediction("1", auto),
            Prediction::Given(picture, Some("<svg/>".into()))
        );
        assert!(
            matches!(own.prediction("2", auto), Prediction::Missing(why) if why.starts_with("not_drawn: "))
        );
        let drawn = own.prediction("2", PredictedPictures::Drawn);
        assert_eq!(drawn, Prediction::Svg("<svg/>".into()));
    }
}
