//! Tasks whose answers are words: captions, beside their references.

use std::path::Path;

use indexmap::IndexMap;
use models::encoder::{Encoder, Pooling};
use rewards::rules::rouge_l::rouge_l;
use tch::{Device, Kind, Tensor};

use super::item::EvalItem;
use super::jsonl::{id_text, read_rows};
use super::networks::cosine;
use crate::TrainError;

/// A task of captions.
#[derive(Debug, Clone, Default)]
pub struct CaptionTask {
    /// Its name in results.
    pub name: String,
    /// Its items.
    pub rows: Vec<CaptionRow>,
}

/// One caption.
#[derive(Debug, Clone)]
pub struct CaptionRow {
    /// Its id.
    pub id: String,
    /// What a model is asked.
    pub question: String,
    /// What was answered, or why nothing was.
    pub answer: Result<String, String>,
    /// What should have been.
    pub reference: String,
}

impl CaptionTask {
    /// Takes the answers of `folder/output.jsonl`, rows of `id`, `answer` and, where the task has no items of its own,
    /// `reference`; the last row of an id counts. What cannot be used is said in `notes`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn take_answers(&mut self, folder: &Path, notes: &mut Vec<String>) -> Result<(), String> {
        let read = read_rows(&folder.join("output.jsonl"), notes)?;
        let own = std::mem::take(&mut self.rows).into_iter();
        let mut rows: IndexMap<String, CaptionRow> = own.map(|row| (row.id.clone(), row)).collect();
        let (known, mut strangers) = (!rows.is_empty(), Vec::new());
        for row in read {
            let id = id_text(&row.value["id"]);
            let Some(id) = id else {
                notes.push(format!("{}: id is needed (the row is left out)", row.place));
                continue;
            };
            let answer = row.value["answer"].as_str().map(str::to_owned);
            let answer = answer.ok_or_else(|| {
                let got = &row.value["answer"];
                format!(
                    "no_prediction: {}: answer: must be text, got {got}",
                    row.place
                )
            });
            match (rows.get_mut(&id), row.value["reference"].as_str()) {
                (Some(own), _) if known => own.answer = answer,
                (None, _) if known => strangers.push(id),
                (_, Some(reference)) => {
                    let own = CaptionRow {
                        id: id.clone(),
                        question: String::new(),
                        answer,
                        reference: reference.to_owned(),
                    };
                    rows.insert(id, own);
                }
                (_, None) => notes.push(format!(
                    "{}: id and reference are needed (the row is left out)",
                    row.place
                )),
            }
        }
        if let Some(first) = strangers.first() {
            notes.push(format!(
                "{}: {} answers belong to no item of the suite (the first: id {first})",
                self.name,
                strangers.len()
            ));
        }
        self.rows = rows.into_values().collect();
        Ok(())
    }

    /// Each item with ROUGE-L's F1 and, where there is a network, the cosine of BGE-M3's features. One without an answer
    /// has 0 in both.
    ///
    /// # Errors
    /// A network of pictures; libtorch's.
    pub fn judge(&self, bge: Option<&Encoder>) -> Result<Vec<EvalItem>, TrainError> {
        let judged = |row: &CaptionRow| {
            let reason = row.answer.as_ref().err().cloned();
            let mut item = EvalItem::new(&self.name, &row.id, reason);
            let answer = row.answer.as_deref().unwrap_or("");
            item.put("rouge_l", rouge_l(answer, &row.reference));
            if let Some(bge) = bge {
                let near = match answer.trim().is_empty() {
                    true => 0.0,
                    false => cosine(&feature(bge, answer)?, &feature(bge, &row.reference)?),
                };
                item.put("bge_m3", near);
            }
            Ok(item)
        };
        self.rows.iter().map(judged).collect()
    }
}

/// Opens BGE-M3.
///
/// # Errors
/// What is no network of texts, by its key.
pub fn open_bge(path: &Path, device: Device) -> Result<Encoder, TrainError> {
    let refused = |what: String| TrainError::Input(format!("encoders.bge_m3: {what}"));
    let encoder = Encoder::load(path, (Kind::Float, device));
    let encoder = encoder.map_err(|error| refused(error.to_string()))?;
    match encoder.reads() && encoder.default_pool().is_some() {
        true => Ok(encoder),
        false => Err(refused(format!("{}: is no BGE-M3", path.display()))),
    }
}

fn feature(encoder: &Encoder, text: &str) -> Result<Vec<f32>, TrainError> {
    let ids = encoder.tokenize(text)?;
    let row: Tensor = encoder.embed_ids(&[&ids], ids.len(), Pooling::Cls)?;
    let row = row
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .reshape([-1]);
    Vec::<f32>::try_from(row).map_err(|error| TrainError::Other(error.to_string()))
}
