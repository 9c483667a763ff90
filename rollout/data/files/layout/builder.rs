//! What the layouts have in common: the example under construction, what a record finds around it, and
//! the ways to read texts, ids and pictures out of a row.

use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};
use serde_json::{Map, Value};

use super::pictures::pictures;
use crate::data::example::{Example, Talk, Turn};
use crate::data::files::container::{Record, kind};
use crate::data::source::VIDEO;
use crate::message::{PICTURE, picture_places};

/// What surrounds a record.
pub(crate) struct RowContext<'a> {
    /// Folder that picture paths are relative to.
    pub(crate) media: &'a Path,
    /// The record's name if it has none of its own.
    pub(crate) default_id: String,
}

/// An example whose length is yet to be measured.
pub(super) struct ExampleBuilder {
    pub(super) id: String,
    pub(super) fields: IndexMap<String, String>,
    pub(super) talk: Talk,
    pub(super) images: Vec<ImageSource>,
    pub(super) reference: Reference,
    pub(super) target: Option<String>,
}

impl ExampleBuilder {
    pub(super) fn finish(mut self) -> Example {
        self.reference.draft = self.shown_draft().map(str::to_owned);
        let measured = self.reference.svg.as_ref().or(self.reference.text.as_ref());
        let length = measured
            .or(self.target.as_ref())
            .map_or(0, |text| text.chars().count());
        Example {
            id: self.id,
            task: String::new(),
            fields: self.fields,
            talk: self.talk,
            images: self.images,
            reference: self.reference,
            target: self.target,
            rejected: Map::new(),
            length,
        }
    }

    /// The SVG that a row asks to be worked on: its field, or the last one within a whole question; none
    /// where the answer is words.
    fn shown_draft(&self) -> Option<&str> {
        if self.reference.svg.is_none() && self.reference.image.is_none() {
            return None;
        }
        let within = || {
            let question = self
                .fields
                .get("prompt")
                .filter(|_| self.talk.whole_question)?;
            svg::extract::last_svg(question)
        };
        self.fields.get("draft").map(String::as_str).or_else(within)
    }
}

/// The text at `key`, which must be there and not blank.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, String> {
    match value.get(key) {
        None | Some(Value::Null) => Err(format!("key `{key}` is missing")),
        Some(Value::String(text)) if text.trim().is_empty() => Err(format!("key `{key}` is empty")),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("key `{key}` must be a string, is {}", kind(other))),
    }
}

/// The text at `key` if one is there: neither missing, null nor blank.
pub(super) fn optional_text<'a>(value: &'a Value, key: &str) -> Result<Option<&'a str>, String> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(blank)) if blank.trim().is_empty() => Ok(None),
        Some(_) => text(value, key).map(Some),
    }
}

/// A row's own id: text or a number.
pub(super) fn id(value: &Value) -> Option<String> {
    match value.get("id")? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Keys that [`images`] reads.
pub(super) const IMAGES: [&str; 4] = ["images", "image", "video", "videos"];

/// Pictures that a row shows: those under `images`, else under `image`, in any form.
/// A row with a video is refused: what it asks cannot be seen without it.
pub(super) fn images(record: &Record, media: &Path) -> Result<Vec<ImageSource>, String> {
    let row = &record.value;
    for key in ["video", "videos"] {
        let empty = match row.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::String(path)) => path.is_empty(),
            Some(Value::Array(paths)) => paths.is_empty(),
            Some(_) => false,
        };
        if !empty {
            return Err(format!(
                "key `{key}`: {VIDEO} (the source's `videos: skip` leaves such rows out)"
            ));
        }
    }
    let found = |key: &str| match row.get(key).filter(|value| !value.is_null()) {
        Some(value) => pictures(record, value, (key, media)),
        None => Ok(Vec::new()),
    };
    let (many, one) = (found("images")?, found("image")?);
    match (many.is_empty(), one.is_empty()) {
        (false, false) if many != one => {
            Err("both keys `images` and `image` hold pictures: which of them are shown?".into())
        }
        (true, _) => Ok(one),
        _ => Ok(many),
    }
}

/// What an answer is compared with: the SVG in it, else its text.
pub(super) fn reference_of(answer: &str, question: &str) -> Reference {
    let fenced = svg::extract::fences(answer)
        .into_iter()
        .rfind(|fence| fence.language == "svg" || fence.content.contains("<svg"))
        .map(|fence| fence.content);
    let found = fenced
        .and_then(svg::extract::first_svg)
        .or_else(|| svg::extract::first_svg(answer));
    match found {
        Some(found) => Reference {
            svg: Some(found.to_owned()),
            text: Some(instruction(question).to_owned()),
            ..Default::default()
        },
        None => Reference {
            text: Some(answer.trim().to_owned()),
            ..Default::default()
        },
    }
}

/// What stands before a caption in wrapped questions.
pub(super) const INSTRUCTION: &str = "Instruction:";

/// The caption within a wrapped question, as CTRL-S' released code takes it: what stands between "Instruction:" and "Draft
/// Code:", else what follows the first "Instruction: ", without picture placeholders; the whole question when it is not
/// marked.
pub(super) fn instruction(question: &str) -> &str {
    const DRAFT: &str = "Draft Code:";
    let refined = question.split_once(INSTRUCTION);
    let refined = refined.and_then(|(_, behind)| Some(behind.split_once(DRAFT)?.0));
    let mark = question.find(&*format!("{INSTRUCTION} "));
    let behind = mark.map(|at| &question[at + INSTRUCTION.len() + 1..]);
    let caption = refined.or(behind).unwrap_or(question);
    caption.trim().trim_start_matches("<image>").trim()
}

/// Checks that a conversation has a placeholder `<image>` in its questions for each of its pictures.
/// Where it has none at all, the pictures belong to the first question: a question with others before
/// it gets their placeholders, a single one is left to the prompt.
pub(super) fn place_pictures(talk: &mut Talk, question: &str, images: usize) -> Result<(), String> {
    let around = talk.history.iter().chain(&talk.since);
    let placeholders = around.map(Turn::pictures).sum::<usize>() + picture_places(question).len();
    let first = talk.history.iter_mut().find(|turn| turn.role == "user");
    match (placeholders, first) {
        (0, Some(first)) => {
            let words = first.words.get_or_insert_default();
            words.insert_str(0, &PICTURE.repeat(images));
        }
        (0, None) => {}
        (some, _) if some == images => {}
        _ => {
            return Err(format!(
                "the text has {placeholders} `{PICTURE}` placeholder(s), the row {images} picture(s)"
            ));
        }
    }
    Ok(())
}

/// The stem of a path, as ids are made from picture names.
pub(super) fn stem(path: &Path) -> String {
    let stem: PathBuf = path.file_stem().unwrap_or_default().into();
    stem.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_is_cut_out_of_its_wrapping() {
        assert_eq!(instruction("Think.\nInstruction: a red dot"), "a red dot");
        assert_eq!(
            instruction("Instruction: draw the word Instruction: here"),
            "draw the word Instruction: here"
        );
        let refined =
            "Image: <image>\nInstruction:a star \nDraft Code:\n<svg>Instruction: no</svg>";
        assert_eq!(instruction(refined), "a star");
        assert_eq!(instruction("Instruction: <image>\nit"), "it");
        assert_eq!(instruction("a plain wish"), "a plain wish");
    }
}
