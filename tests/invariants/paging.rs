//! A bounded cache: what has no room waits or gives way, and every bound gives the same completions bit for bit.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use models::{Decoder, KV_PAGE, kv_pages};
use rollout::engine::{self, EngineConfig, EngineOptions, EngineStats, ServersOptions};
use rollout::{Engine, Request, Sampling, Submission};
use tch::Kind;

use crate::support::network;

const LONGEST: usize = 120;

/// Ids, and both log-probabilities bit for bit.
type Drawn = BTreeMap<(usize, usize), (Vec<i64>, Vec<u32>, Vec<u32>)>;

/// Prompts of 1 to 40 tokens, each to be completed `samples` times.
fn requests(count: usize, samples: usize) -> Vec<Request> {
    let ids = |group: usize| -> Arc<[i64]> {
        (0..1 + group * 17 % 40)
            .map(|n| ((n * 13 + group * 29) % 64) as i64)
            .collect()
    };
    let request = |group: usize| Request {
        group,
        ids: ids(group),
        images: None,
        samples,
        draw: 300 + group as u64,
        lengths: None,
    };
    (0..count).map(request).collect()
}

fn engine(model: &Rc<Decoder>, slots: usize, cache_tokens: usize) -> Box<dyn Engine> {
    let options = EngineOptions {
        policy: model.clone(),
        images: None,
        tokenizer: None,
        slots,
        cache_tokens,
        servers: ServersOptions::default(),
    };
    engine::open(EngineConfig::Local, options).unwrap()
}

fn sample(
    model: &Rc<Decoder>,
    asked: &[Request],
    (slots, cache_tokens): (usize, usize),
) -> (Drawn, EngineStats) {
    let mut engine = engine(model, slots, cache_tokens);
    let sampling = Sampling {
        max_new_tokens: LONGEST,
        stop_token_ids: vec![3],
        ..Sampling::default()
    };
    let submission = Submission {
        requests: asked.to_vec(),
        sampling,
        seed: 11,
    };
    engine.submit(submission).unwrap();
    let mut drawn = Drawn::new();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    while let Some(finished) = engine.next().unwrap() {
        let completion = finished.completion;
        let values = (bits(&completion.logprobs), bits(&completion.drawn_logprobs));
        let before = drawn.insert(
            (finished.group, finished.index),
            (completion.ids, values.0, values.1),
        );
        assert!(before.is_none(), "handed out twice");
    }
    (drawn, engine.stats())
}

#[test]
fn any_number_of_pages_gives_the_same_completions_bit_for_bit() {
    let asked = requests(12, 4);
    let most = asked.iter().map(|request| request.ids.len()).max().unwrap();
    // What the longest prompt needs with its completion, and no page more.
    let least = ((kv_pages(most as i64) + kv_pages(LONGEST as i64)) * KV_PAGE) as usize;
    for (name, kind) in [
        ("qwen3_tied", Kind::Float),
        ("qwen2_untied", Kind::Float),
        ("qwen3_tied", Kind::Double),
    ] {
        let model = Rc::new(network(name, kind));
        let (whole, stats) = sample(&model, &asked, (0, 1 << 20));
        assert_eq!((whole.len(), stats.put_back), (48, 0));
        let written: usize = whole.values().map(|drawn| drawn.0.len()).sum();
        let lengths: std::collections::BTreeSet<usize> =
            whole.values().map(|drawn| drawn.0.len()).collect();
        assert!(lengths.len() > 10, "{lengths:?}");
        let mut gave_way = 0;
        for tokens in [least, least + 16, 256, 400, 1000, 2400, 5000] {
            for slots in [0, 5, 17] {
                let (drawn, stats) = sample(&model, &asked, (slots, tokens));
                assert!(
                    drawn == whole,
                    "{name} {kind:?}, {tokens} tokens, {slots} slots"
                );
                let pages = (tokens as i64 / KV_PAGE + 1) as u64;
                assert!(stats.peak_pages <= pages, "{} of {pages}", stats.peak_pages);
                // Drawn are those drawn again as well; of what grows and is moved together, no more than twice as much is copied.
                assert!(stats.tokens >= written as u64);
                let moved = stats.moved_rows;
                assert!(moved <= 2 * stats.tokens, "{moved} of {}", stats.tokens);
                gave_way += stats.put_back;
            }
        }
        assert!(gave_way > 20, "{gave_way}");
    }
}

#[test]
fn without_a_bound_all_are_decoded_together() {
    let model = Rc::new(network("qwen3_tied", Kind::Float));
    let asked = requests(3, 4);
    let prompts = asked
        .iter()
        .map(|request| kv_pages(request.ids.len() as i64));
    let whole = prompts.sum::<i64>() + 12 * kv_pages(LONGEST as i64);
    // One page more is that of rows without a sequence, which a bound asks for.
    for (tokens, spare) in [(0, 0), (1 << 20, 1)] {
        let (_, stats) = sample(&model, &asked, (0, tokens));
        assert_eq!(stats.peak_pages as i64, whole + spare, "{tokens}");
    }
}

#[test]
fn a_completion_takes_what_it_has_written_not_what_it_may_write() {
    let model = Rc::new(network("qwen3_tied", Kind::Float));
    let mut asked = requests(1, 40);
    asked[0].lengths = Some((0..40).map(|n| 1 + n % 8).collect());
    // At their full length they would need 40 times 8 pages.
    let (drawn, stats) = sample(&model, &asked, (0, 150 * KV_PAGE as usize));
    assert_eq!(drawn.len(), 40);
    assert!(stats.peak_pages <= 42, "{}", stats.peak_pages);
    assert_eq!((stats.put_back, stats.moved_rows), (0, 0));
    // While they grow, no more than two rows are copied for each that is written.
    asked[0].lengths = Some((0..40).map(|n| 60 + n % 8).collect());
    let (drawn, stats) = sample(&model, &asked, (0, 300 * KV_PAGE as usize));
    let written: usize = drawn.values().map(|drawn| drawn.0.len()).sum();
    assert!(stats.moved_rows > 0 && stats.put_back == 0);
    assert!(
        stats.moved_rows <= 2 * written as u64,
        "{}",
        stats.moved_rows
    );
}

#[test]
fn a_cache_that_holds_no_completion_is_refused() {
    let model = Rc::new(network("qwen3_tied", Kind::Float));
    let mut engine = engine(&model, 0, 100);
    let refused = engine.submit(Submission {
        requests: requests(2, 2),
        sampling: Sampling {
            max_new_tokens: LONGEST,
            ..Sampling::default()
        },
        seed: 0,
    });
    let told = refused.unwrap_err().to_string();
    assert!(
        told.contains("cache_tokens: must hold") && told.contains("got 100"),
        "{told}"
    );
}
