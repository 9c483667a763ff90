//! When a completion ends: stop tokens, and stop strings found in the text as it grows.

use std::sync::Arc;

use models::Tokenizer;

use super::sampling::Sampling;
use crate::RolloutError;

/// Tokens whose text is decoded anew at each step: a stop string may start in an earlier token,
/// and a character may need the bytes of several.
const WINDOW: usize = 4;

/// What ends a completion.
pub(super) struct Stops {
    tokenizer: Option<Arc<Tokenizer>>,
    ids: Vec<i64>,
    strings: Vec<String>,
    include: bool,
    window: usize,
}

impl Stops {
    pub(super) fn new(
        tokenizer: Option<Arc<Tokenizer>>,
        sampling: &Sampling,
    ) -> Result<Self, RolloutError> {
        if tokenizer.is_none() && !sampling.stop.is_empty() {
            return Err(RolloutError::Input(
                "stop: stop strings need a tokenizer in the model folder".into(),
            ));
        }
        let mut ids = sampling.stop_token_ids.clone();
        ids.extend(tokenizer.iter().flat_map(|tokenizer| tokenizer.eos()));
        // A special token has no text: asked for as a string, it is looked for as a token.
        let special = |tokenizer: &Tokenizer| -> Vec<i64> {
            let ids = sampling.stop.iter().filter_map(|stop| tokenizer.id(stop));
            ids.filter(|id| tokenizer.decode(&[*id]).is_empty())
                .collect()
        };
        ids.extend(tokenizer.as_deref().map(special).unwrap_or_default());
        let longest = sampling.stop.iter().map(String::len).max().unwrap_or(0);
        Ok(Self {
            tokenizer,
            ids,
            strings: sampling.stop.clone(),
            include: sampling.include_stop,
            window: longest + WINDOW,
        })
    }

    /// The token ids that end a completion.
    pub(super) fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// Whether `id` ends a completion.
    pub(super) fn ends(&self, id: i64) -> bool {
        self.ids.contains(&id)
    }

    /// Rewrites `tail` as the text of the last tokens of `ids`, enough to hold a stop string.
    pub(super) fn extend(&self, tail: &mut Vec<u8>, ids: &[i64]) {
        let (Some(tokenizer), false) = (&self.tokenizer, self.strings.is_empty()) else {
            return;
        };
        let from = ids.len().saturating_sub(self.window);
        *tail = tokenizer.decode(&ids[from..]).into_bytes();
    }

    /// The first stop string in `tail`, as its start and length.
    pub(super) fn find(&self, tail: &[u8]) -> Option<(usize, usize)> {
        let places = self.strings.iter().filter_map(|stop| {
            let at = tail
                .windows(stop.len())
                .position(|window| window == stop.as_bytes())?;
            Some((at, stop.len()))
        });
        places.min()
    }

    /// The completion's text: without the stop token, and cut at the stop string unless it is kept.
    pub(super) fn text(&self, ids: &[i64]) -> Option<String> {
        let body = match ids.split_last() {
            Some((last, body)) if self.ends(*last) => body,
            _ => ids,
        };
        let mut text = self.tokenizer.as_ref()?.decode(body);
        if let Some((at, len)) = self.find(text.as_bytes()) {
            text.truncate(if self.include { at + len } else { at });
        }
        Some(text)
    }
}
