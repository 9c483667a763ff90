//! The same rows at every step, for measurements.

use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;
use models::Decoder;
use rewards::Reference;
use rollout::Prompt;
use rollout::data::{CursorState, Spread};

use super::shape::Shape;
use crate::TrainError;
use crate::draw_stats::DrawStats;
use crate::loader::{LoadedPrompts, Loader, PromptRequest};

/// A loader of given rows.
pub(super) struct FixedLoader<'a> {
    shape: Shape,
    model: Rc<Decoder>,
    rows: FixedRows<'a>,
    draws: u64,
}

/// What the rows are.
pub(super) enum FixedRows<'a> {
    /// Prompts with these references.
    Prompts(&'a [String]),
    /// Pairs whose answers have these lengths, chosen and rejected in turn, cyclically.
    Pairs(&'a [usize]),
}

impl<'a> FixedLoader<'a> {
    /// Of prompts as `shape` makes them for `model`.
    pub(super) fn new(shape: Shape, model: Rc<Decoder>, rows: FixedRows<'a>) -> Self {
        Self {
            shape,
            model,
            rows,
            draws: 0,
        }
    }

    fn prompt(&self, index: usize) -> Result<Prompt, TrainError> {
        let asked = self.shape.prompt(&self.model, index)?;
        let svg = match self.rows {
            FixedRows::Prompts(texts) => texts.get(index).cloned(),
            FixedRows::Pairs(_) => None,
        };
        Ok(Prompt {
            id: index.to_string(),
            task: "draw".into(),
            text: Some("".into()),
            asked: "".into(),
            ids: asked.ids,
            shown: asked.shown,
            images: Arc::default(),
            reference: Arc::new(Reference {
                svg,
                ..Reference::default()
            }),
            draw: self.draws + index as u64,
        })
    }

    /// The answers on one side of `count` pairs; none where there are no pairs.
    fn answers(&self, side: usize, count: usize) -> Vec<Option<Vec<i64>>> {
        let FixedRows::Pairs(lengths) = self.rows else {
            return Vec::new();
        };
        let answer = |pair: usize| {
            let at = 2 * pair + side;
            let ids = 0..lengths[at % lengths.len()];
            Some(
                ids.map(|n| ((at * 59 + n * n * 7 + 3) % 1000) as i64)
                    .collect(),
            )
        };
        (0..count).map(answer).collect()
    }
}

impl Loader for FixedLoader<'_> {
    fn prompts(&mut self, request: PromptRequest) -> Result<LoadedPrompts, TrainError> {
        let count = request.count;
        let prompts: Result<Vec<Prompt>, TrainError> =
            (0..count).map(|index| self.prompt(index)).collect();
        let [targets, rejected] = [0, 1].map(|side| self.answers(side, count));
        self.draws += count as u64;
        Ok(LoadedPrompts {
            prompts: prompts?,
            weights: vec![1.0; targets.len()],
            targets,
            rejected,
            too_long: 0,
            stats: DrawStats::default(),
        })
    }

    fn state(&self) -> CursorState {
        CursorState {
            draws: self.draws,
            streams: IndexMap::new(),
            pending: Vec::new(),
        }
    }

    fn restore(&mut self, state: &CursorState) -> Result<(), TrainError> {
        self.draws = state.draws;
        Ok(())
    }

    fn observe(&mut self, _totals: &[(u64, &[f64])], _end: u64) {}

    fn spreads(&self) -> Vec<Spread> {
        Vec::new()
    }

    fn answer_text(&self, _ids: &[i64]) -> String {
        String::new()
    }
}
