//! VectorGym's table: one row is a sketch, an edit, a text and a caption sample; a source takes one of
//! these views. Rows that lack what the view needs (a null `original_svg`, say) are not samples of
//! it, which the scan tells apart from bad rows by [`ABSENT`].

use indexmap::IndexMap;
use rewards::Reference;

use super::super::container::Record;
use super::builder::{ExampleBuilder, RowContext, text};
use super::pictures::pictures;
use crate::data::config::VectorGymView;
use crate::data::example::{Example, Talk};
use crate::data::source::ABSENT;

/// Columns that are read, by one view or another: none of them is told as unused.
pub(super) const KEYS: [&str; 7] = [
    "svg_id",
    "original_svg",
    "sketch_image",
    "text_caption",
    "editing_prompt",
    "editing_target_svg",
    "editing_annotation_index",
];

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
            const KEY: &str = "sketch_image";
            if let Some(value) = row.get(KEY) {
                images = pictures(&record, value, (KEY, context.media))?;
            }
            if images.is_empty() && !record.without_bytes {
                return Err(format!("{ABSENT}column `{KEY}` is missing"));
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
        talk: Talk::default(),
        id,
        fields,
        images,
        reference,
        target: Some(target),
    };
    Ok(built.finish())
}
