//! VectorGym's table: one row is a sketch, an edit, a text and a caption sample; a source takes one of
//! these views. Rows that lack what the view needs (a null `original_svg`, say) are not samples of
//! it, which the scan tells apart from bad rows by [`ABSENT`].

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};

use super::super::container::Record;
use super::builder::{ExampleBuilder, RowContext, picture, text};
use crate::data::config::VectorGymView;
use crate::data::example::Example;
use crate::data::source::ABSENT;

pub(super) fn example(
    record: Record,
    view: VectorGymView,
    context: &RowContext,
) -> Result<Example, String> {
    let row = &record.value;
    let need = |key: &str| {
        text(row, key)
            .map(str::to_owned)
            .map_err(|problem| format!("{ABSENT}{problem}"))
    };
    let mut fields = IndexMap::new();
    let mut images = Vec::new();
    let drawing = |svg: String| Reference {
        svg: Some(svg),
        text: text(row, "text_caption").ok().map(str::to_owned),
        ..Default::default()
    };
    let (reference, target) = match view {
        VectorGymView::Sketch => {
            let svg = need("original_svg")?;
            match picture(&record, "sketch_image") {
                Some(bytes) => images.push(ImageSource::Png(bytes)),
                None if record.without_pictures => {}
                None => return Err(format!("{ABSENT}column `sketch_image` is missing")),
            }
            (drawing(svg.clone()), svg)
        }
        VectorGymView::Edit => {
            fields.insert("draft".to_owned(), need("original_svg")?);
            fields.insert("prompt".to_owned(), need("editing_prompt")?);
            let svg = need("editing_target_svg")?;
            let reference = Reference {
                text: fields.get("prompt").cloned(),
                ..drawing(svg.clone())
            };
            (reference, svg)
        }
        VectorGymView::Text => {
            fields.insert("prompt".to_owned(), need("text_caption")?);
            let svg = need("original_svg")?;
            (drawing(svg.clone()), svg)
        }
        VectorGymView::Caption => {
            fields.insert("draft".to_owned(), need("original_svg")?);
            let caption = need("text_caption")?;
            let reference = Reference {
                text: Some(caption.clone()),
                ..Default::default()
            };
            (reference, caption)
        }
    };
    let own = text(row, "svg_id").map(str::to_owned).ok();
    // Several edits of one drawing are several rows.
    let annotation = row
        .get("editing_annotation_index")
        .and_then(serde_json::Value::as_i64);
    let id = match (own, view, annotation) {
        (Some(id), VectorGymView::Edit, Some(annotation)) => format!("{id}#{annotation}"),
        (Some(id), ..) => id,
        (None, ..) => context.default_id.clone(),
    };
    let built = ExampleBuilder {
        whole_question: false,
        history: Vec::new(),
        id,
        fields,
        images,
        reference,
        target: Some(target),
    };
    Ok(built.finish())
}
