//! From a server's answer to a completion as the local engine would have ended it.

use crate::engine::Sampling;
use crate::engine::stop::Stops;
use crate::{Completion, FinishReason, VersionSpan};

use super::answer::{ServerAnswer, ServerEnd, WrittenBy};
use super::current::numbered;

/// What becomes of an answer.
pub(super) enum Judgement {
    /// It is a completion.
    Completion(Completion),
    /// The server ended it where nothing ends one here.
    EndedEarly,
}

/// Ends an answer where the local engine would: at the first token with which it holds what ends a completion. `version`
/// is what it was asked of.
pub(super) fn judged(
    answer: ServerAnswer,
    stops: &Stops,
    sampling: &Sampling,
    version: u64,
) -> Judgement {
    let ServerAnswer {
        mut ids,
        mut logprobs,
        end,
        versions,
        ..
    } = answer;
    let mut tail = Vec::new();
    let ends = (1..=ids.len()).find(|count| {
        stops.extend(&mut tail, &ids[..*count]);
        stops.ends(ids[count - 1]) || stops.find(&tail).is_some()
    });
    let finish = match ends {
        Some(count) => {
            // What came behind it was not asked for.
            ids.truncate(count);
            logprobs.truncate(count);
            FinishReason::Stop
        }
        None if end == ServerEnd::Length || ids.len() >= sampling.max_new_tokens => {
            FinishReason::Length
        }
        None => return Judgement::EndedEarly,
    };
    Judgement::Completion(Completion {
        text: stops.text(&ids),
        drawn_logprobs: logprobs.clone(),
        spans: spans(&versions, ids.len(), version),
        ids,
        logprobs,
        finish,
    })
}

/// Which weights wrote the first `len` tokens; those of `version` where the server does not say.
fn spans(versions: &[WrittenBy], len: usize, version: u64) -> Vec<VersionSpan> {
    let mut spans: Vec<VersionSpan> = Vec::new();
    for by in versions {
        let own = VersionSpan {
            version: numbered(&by.version).map_or(version, |(_, number)| number),
            end: by.end.map_or(len, |end| end.min(len)),
        };
        let covered = spans.last().map_or(0, |span| span.end);
        if own.end <= covered {
            continue;
        }
        match spans.last_mut().filter(|last| last.version == own.version) {
            Some(last) => last.end = own.end,
            None => spans.push(own),
        }
    }
    match spans.last_mut() {
        Some(last) => last.end = len,
        None => spans.push(VersionSpan { version, end: len }),
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_end_where_the_completion_does() {
        let by = |version: u64, end| WrittenBy {
            version: format!("svgrl-a-v{version}"),
            end,
        };
        let span = |version, end| VersionSpan { version, end };
        let of = |versions: &[WrittenBy], len| spans(versions, len, 9);
        assert_eq!(of(&[], 4), [span(9, 4)]);
        assert_eq!(of(&[by(1, Some(3))], 4), [span(1, 4)]);
        let crossed = [by(1, Some(3)), by(2, Some(8)), by(2, None)];
        assert_eq!(of(&crossed, 8), [span(1, 3), span(2, 8)]);
        assert_eq!(of(&crossed, 2), [span(1, 2)], "cut off before the update");
    }
}
