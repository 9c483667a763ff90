//! Alpaca rows as SVG-Sophia publishes them: `instruction` (with `<image>` where a picture stands),
//! `input`, `output` with thoughts and a fenced SVG, `images`. The reference is the SVG in the output.

use indexmap::IndexMap;

use super::super::container::Record;
use super::{Around, Draft, check_placeholders, id, images, reference_of, stem, text};
use crate::data::example::Example;
use rewards::ImageSource;

pub(super) fn example(record: &Record, around: &Around) -> Result<Example, String> {
    let row = &record.value;
    let mut question = text(row, "instruction")?.to_owned();
    if let Ok(input) = text(row, "input") {
        question = format!("{question}\n{input}");
    }
    let answer = text(row, "output")?;
    let images = images(row, around.media)?;
    check_placeholders(&question, images.len())?;
    // The published rows have no id; their pictures' names are what evaluations refer to.
    let pictured = images.first().and_then(|image| match image {
        ImageSource::Path(path) => Some(stem(path)),
        ImageSource::Png(_) => None,
    });
    let draft = Draft {
        whole_question: true,
        id: id(row)
            .or(pictured)
            .unwrap_or_else(|| around.default_id.clone()),
        reference: reference_of(answer, &question),
        fields: IndexMap::from([("prompt".to_owned(), question)]),
        images,
        target: Some(answer.to_owned()),
    };
    Ok(draft.finish())
}
