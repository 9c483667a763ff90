//! Stop strings, with the tokenizer of the quickstart and a fresh network.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, InitConfig, ModelConfig, Tokenizer};
use rollout::{Completion, FinishReason, Request, Sampling, Submission};
use tch::{Device, Kind};

use crate::support::policy;

fn tokenizer() -> Tokenizer {
    Tokenizer::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/quickstart_tokenizer"))
        .unwrap()
}

fn network(tokenizer: &Tokenizer) -> Rc<Decoder> {
    tch::set_num_threads(1);
    let init = InitConfig {
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        ..InitConfig::default()
    };
    let config = ModelConfig {
        init: Some(init),
        ..ModelConfig::default()
    };
    let model = config.load(3, tokenizer, (Kind::Float, Device::Cpu));
    Rc::new(model.unwrap())
}

/// Sixteen completions of one prompt.
fn sample(model: &Rc<Decoder>, tokenizer: &Arc<Tokenizer>, sampling: Sampling) -> Vec<Completion> {
    let mut engine = policy::engine(model, Some(tokenizer), 0);
    let ids = Arc::from(tokenizer.encode("a red circle"));
    engine
        .submit(Submission {
            requests: vec![Request {
                group: 0,
                ids,
                images: None,
                samples: 16,
                draw: 0,
                lengths: None,
            }],
            sampling,
            seed: 1,
        })
        .unwrap();
    let mut out: Vec<Option<Completion>> = vec![None; 16];
    while let Some(finished) = engine.next().unwrap() {
        out[finished.index] = Some(finished.completion);
    }
    out.into_iter().map(Option::unwrap).collect()
}

/// A string whose first occurrence in the text of `ids` begins in one token and ends in the next:
/// the string, where it begins, and the number of tokens up to its end.
fn spanning(tokenizer: &Tokenizer, ids: &[i64]) -> Option<(String, usize, usize)> {
    (4..ids.len()).find_map(|count| {
        let (before, after) = (
            tokenizer.decode(&ids[..count]),
            tokenizer.decode(&ids[..=count]),
        );
        let added = after.strip_prefix(before.as_str())?.chars().next()?;
        let stop = format!("{}{added}", before.chars().next_back()?);
        let at = before.len() - (stop.len() - added.len_utf8());
        (!after.contains('\u{fffd}') && after.find(&stop) == Some(at)).then_some((
            stop,
            at,
            count + 1,
        ))
    })
}

#[test]
fn a_stop_string_that_spans_tokens_ends_the_completion_and_is_cut_or_kept() {
    let tokenizer = Arc::new(tokenizer());
    let model = network(&tokenizer);
    let free = Sampling {
        max_new_tokens: 48,
        ..Sampling::default()
    };
    let mut seen = 0;
    for (index, whole) in sample(&model, &tokenizer, free.clone()).iter().enumerate() {
        let Some((stop, at, tokens)) = spanning(&tokenizer, &whole.ids) else {
            continue;
        };
        let text = tokenizer.decode(&whole.ids);
        for include_stop in [false, true] {
            let sampling = Sampling {
                stop: vec!["never seen".into(), stop.clone()],
                include_stop,
                ..free.clone()
            };
            let stopped = &sample(&model, &tokenizer, sampling)[index];
            let end = if include_stop { at + stop.len() } else { at };
            assert_eq!(stopped.finish, FinishReason::Stop);
            assert_eq!(stopped.ids, whole.ids[..tokens]);
            assert_eq!(stopped.text.as_deref(), Some(&text[..end]));
            assert_eq!(stopped.logprobs.len(), tokens);
        }
        seen += 1;
    }
    assert!(seen >= 3, "{seen} of sixteen completions had such a string");
}

#[test]
fn a_stop_token_stands_in_the_ids_and_not_in_the_text() {
    let tokenizer = Arc::new(tokenizer());
    let model = network(&tokenizer);
    let free = Sampling {
        max_new_tokens: 12,
        ..Sampling::default()
    };
    let whole = sample(&model, &tokenizer, free.clone()).remove(0);
    let stop = whole.ids[5];
    let first = whole.ids.iter().position(|id| *id == stop).unwrap();
    let stopped = sample(
        &model,
        &tokenizer,
        Sampling {
            stop_token_ids: vec![stop],
            ..free
        },
    )
    .remove(0);
    assert_eq!(stopped.finish, FinishReason::Stop);
    assert_eq!(stopped.ids, whole.ids[..=first]);
    assert_eq!(stopped.text, Some(tokenizer.decode(&whole.ids[..first])));
}
