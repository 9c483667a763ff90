//! From a request's bytes to jobs. What is wrong is told with the field's name; nothing here reads a
//! file: a picture is base64 or one of those registered in the config.

use crate::reference::{ImageSource, Reference, check_picture};
use crate::types::ScoreJob;
use crate::wire::{ScoreRow, user_words};
use axum::http::StatusCode;
use indexmap::IndexMap;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Why a request is not served: a status and a sentence that begins with the field.
#[derive(Debug)]
pub(crate) struct RequestProblem {
    pub status: StatusCode,
    pub message: String,
    /// Seconds until another try is worth it.
    pub retry_after: Option<u64>,
    /// The methods that a path takes, where another was used.
    pub allow: Option<&'static str>,
}

impl RequestProblem {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        RequestProblem {
            status,
            message: message.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// A field that cannot be used.
    pub fn field(message: impl Into<String>) -> Self {
        RequestProblem::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// Too much at once.
    pub fn busy(message: impl Into<String>, seconds: u64) -> Self {
        RequestProblem {
            retry_after: Some(seconds),
            ..RequestProblem::new(StatusCode::TOO_MANY_REQUESTS, message)
        }
    }
}

/// A request in slime's form.
#[derive(Deserialize)]
#[serde(expecting = "an object {prompt, response, label}")]
pub(crate) struct Score {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    prompt: Value,
    response: String,
    /// The reference's keys and `task`; a string holds the same as JSON, or is the reference itself.
    #[serde(default)]
    label: Value,
    #[serde(default)]
    truncated: bool,
    #[serde(default)]
    step: u64,
}

/// Rows in one request.
#[derive(Deserialize)]
#[serde(expecting = "an object {items, ..}")]
pub(crate) struct RowBatch<T> {
    pub items: Vec<T>,
    /// Digests of the tasks as the caller knows them; those left out are not compared.
    #[serde(default)]
    pub tasks: IndexMap<String, String>,
    /// Milliseconds that the caller waits for the answer, where that is less than the service's own deadline.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// Whether the caller will not ask again for what is late: a judge that has not answered shortly before has
    /// failed, as one has that does not answer at all.
    #[serde(default)]
    pub last_try: bool,
}

/// A reference alone.
#[derive(Deserialize)]
#[serde(expecting = "an object {task, reference}")]
pub(crate) struct ReferenceRow {
    #[serde(default)]
    pub task: Option<String>,
    #[serde(default)]
    pub reference: Reference,
}

/// Pictures by the names that requests may use.
pub(crate) type Images = HashMap<String, Arc<[u8]>>;

/// Reads JSON. Text that is no JSON is 400, JSON of another shape 422 with the field's path.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RequestProblem> {
    // A list would be taken for an object's values in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(RequestProblem::field("body: must be an object, got a list"));
    }
    // What Python writes beyond the grammar is no fault of the caller.
    read(bytes).or_else(|problem| match crate::surrogates::mended_json(bytes) {
        Some(mended) if problem.status == StatusCode::BAD_REQUEST => read(&mended),
        _ => Err(problem),
    })
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, RequestProblem> {
    let mut source = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut source).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            serde_json::error::Category::Data => {
                // A question mark stands for a place the parser could not name.
                let path = path.replace('[', ".").replace(']', "");
                let at = if path == "." || path == "?" {
                    String::new()
                } else {
                    format!("{path}: ")
                };
                RequestProblem::field(format!("{at}{inner}"))
            }
            _ => RequestProblem::new(StatusCode::BAD_REQUEST, format!("body: not JSON: {inner}")),
        }
    })?;
    source.end().map_err(|error| {
        RequestProblem::new(StatusCode::BAD_REQUEST, format!("body: not JSON: {error}"))
    })?;
    Ok(value)
}

impl Score {
    /// The same as a row.
    pub fn into_row(self) -> Result<ScoreRow, RequestProblem> {
        let (reference, task) = label(self.label)?;
        Ok(ScoreRow {
            id: self.id,
            task,
            prompt: Some(user_words(&self.prompt)),
            completion: self.response,
            reference,
            truncated: self.truncated,
            step: self.step,
            measure: false,
        })
    }
}

/// Replaces a registered name by its picture; `place` names the reference in what is said.
pub(crate) fn resolve(
    reference: &mut Reference,
    images: &Images,
    place: &str,
) -> Result<(), RequestProblem> {
    let bytes = match &mut reference.image {
        None => return Ok(()),
        Some(ImageSource::Png(bytes)) => bytes.clone(),
        Some(image @ ImageSource::Path(_)) => {
            let ImageSource::Path(name) = &*image else {
                return Ok(());
            };
            let Some(bytes) = name.to_str().and_then(|name| images.get(name)) else {
                return Err(RequestProblem::field(format!(
                    "{place}.image: must be a PNG in base64, a JPEG in base64 behind `data:image/jpeg;base64,`, or the name of a picture in the service's rewards.service.images"
                )));
            };
            let bytes = bytes.clone();
            *image = ImageSource::Png(bytes.clone());
            bytes
        }
    };
    check_picture(&bytes)
        .map_err(|problem| RequestProblem::field(format!("{place}.image: {problem}")))
}

fn label(value: Value) -> Result<(Reference, Option<String>), RequestProblem> {
    let value = match value {
        Value::String(text) if text.trim_start().starts_with('{') => serde_json::from_str(&text)
            .map_err(|error| RequestProblem::field(format!("label: {error}")))?,
        other => other,
    };
    let mut fields = match value {
        Value::Null => return Ok((Reference::default(), None)),
        Value::String(text) => {
            let is_svg = text.contains("<svg");
            let (svg, text) = if is_svg {
                (Some(text), None)
            } else {
                (None, Some(text))
            };
            let reference = Reference {
                svg,
                text,
                ..Reference::default()
            };
            return Ok((reference, None));
        }
        Value::Object(fields) => fields,
        _ => {
            return Err(RequestProblem::field(
                "label: must be an object or a string",
            ));
        }
    };
    let task = match fields.shift_remove("task") {
        None | Some(Value::Null) => None,
        Some(Value::String(task)) => Some(task),
        Some(_) => return Err(RequestProblem::field("label.task: must be a string")),
    };
    let inner = fields.shift_remove("reference");
    let reference = serde_path_to_error::deserialize(inner.unwrap_or(Value::Object(fields)));
    let reference = reference.map_err(|error| {
        let path = error.path().to_string();
        let at = if path == "." {
            String::new()
        } else {
            format!(".{path}")
        };
        RequestProblem::field(format!("label{at}: {}", error.into_inner()))
    })?;
    Ok((reference, task))
}

/// The place of a row in what is said about it.
pub(crate) fn place(index: usize, of_batch: bool) -> String {
    match of_batch {
        true => format!("items.{index}.reference"),
        false => "label".into(),
    }
}

/// Rows as jobs, their pictures in place.
pub(crate) fn jobs(
    rows: Vec<ScoreRow>,
    images: &Images,
    default: &str,
    of_batch: bool,
) -> Result<Vec<(Value, ScoreJob)>, RequestProblem> {
    let mut jobs = Vec::with_capacity(rows.len());
    for (index, mut row) in rows.into_iter().enumerate() {
        resolve(&mut row.reference, images, &place(index, of_batch))?;
        jobs.push(row.into_job(default));
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused<T>(result: Result<T, RequestProblem>) -> (u16, String) {
        let problem = result.err().expect("refused");
        (problem.status.as_u16(), problem.message)
    }

    #[test]
    fn what_is_wrong_is_named_by_field() {
        let batch = |text: &str| refused(json::<RowBatch<ScoreRow>>(text.as_bytes()));
        assert_eq!(batch("{\"items\": [").0, 400);
        assert_eq!(batch("{\"items\": []} x").0, 400);
        let (status, said) = batch(r#"{"items": [{"completion": "a"}, {"completion": 5}]}"#);
        assert_eq!(status, 422);
        assert!(said.starts_with("items.1.completion: "), "{said}");
        let (status, said) = batch(r#"{"items": [{"prompt": "a"}]}"#);
        assert!(
            status == 422 && said.contains("items.0: missing field `completion`"),
            "{said}"
        );
        let (_, said) = batch(r#"{"items": [{"completion": "", "reference": {"sgv": ""}}]}"#);
        assert!(
            said.starts_with("items.0.reference.sgv: ") || said.contains("sgv"),
            "{said}"
        );
    }

    #[test]
    fn half_a_character_is_replaced_and_nothing_else() {
        for (written, meant) in [
            (r"\ud83d\ude00", "\u{1f600}"),
            (r"a\ud83d", "a\u{fffd}"),
            (r"\udE00b\ud83d\n", "\u{fffd}b\u{fffd}\n"),
            (r"\ud83d\ud83d\ude00\ud800", "\u{fffd}\u{1f600}\u{fffd}"),
            (r"\\ud83d \u00e9 \ud83dx", "\\ud83d \u{e9} \u{fffd}x"),
        ] {
            let body = format!("{{\"response\": \"{written}\"}}");
            let row = json::<Score>(body.as_bytes()).unwrap().into_row().unwrap();
            assert_eq!(row.completion, meant, "{written}");
        }
        assert_eq!(refused(json::<Score>(br#"{"response": "\ud83d""#)).0, 400);
    }

    #[test]
    fn labels_come_in_every_form_slime_can_carry() {
        let read = |value| label(value).unwrap();
        let svg = |text: &str| Reference {
            svg: Some(text.into()),
            ..Reference::default()
        };
        let object = json!({"svg": "<svg/>", "task": "t"});
        assert_eq!(read(object.clone()), (svg("<svg/>"), Some("t".into())));
        assert_eq!(
            read(json!(object.to_string())),
            (svg("<svg/>"), Some("t".into()))
        );
        assert_eq!(
            read(json!({"reference": {"svg": "<svg/>"}})),
            (svg("<svg/>"), None)
        );
        assert_eq!(read(json!("<svg/>")), (svg("<svg/>"), None));
        assert_eq!(read(json!("a cat")).0.text.as_deref(), Some("a cat"));
        assert_eq!(read(Value::Null), (Reference::default(), None));
        assert!(
            refused(label(json!({"svg": 5})))
                .1
                .starts_with("label.svg: ")
        );
        assert!(refused(label(json!(5))).1.starts_with("label: "));
    }

    #[test]
    fn a_path_of_this_machine_is_no_picture() {
        let place = "items.0.reference";
        let path = |text: &str| serde_json::from_value(json!({"image": text})).unwrap();
        let mut reference: Reference = path("/etc/hostname");
        let said = refused(resolve(&mut reference, &Images::new(), place)).1;
        assert!(said.starts_with("items.0.reference.image: "), "{said}");
        let dot = svg::Raster::filled(1, 1, [0; 4]).to_png().unwrap();
        let images = Images::from([("logo".to_owned(), dot.clone().into())]);
        let mut reference = path("logo");
        resolve(&mut reference, &images, place).unwrap();
        assert_eq!(reference.image, Some(ImageSource::Png(dot.into())));
    }
}
