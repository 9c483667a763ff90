//! Samplers whose hearts beat and that do not go on: a door stands before them that passes on what they say until they fall
//! mute, and from then on their signs of life alone.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use models::Decoder;
use rollout::engine::{self, EngineConfig, SamplersConfig};
use rollout::{Engine, Request, RolloutError};
use tch::Kind;
use torch_ext::Store;

use super::engine::{Drawn, options, pool, request, sampler, submission, take, unversioned};
use crate::support::network;

/// How many more words of a kind a door lets through; then none at all.
#[derive(Clone)]
struct Patience(Arc<AtomicUsize>);

impl Patience {
    fn without_end() -> Self {
        Self(Arc::new(AtomicUsize::new(usize::MAX)))
    }

    /// It falls mute after so many completions.
    fn ends_after(&self, completions: usize) {
        self.0.store(completions, Ordering::SeqCst);
    }

    /// Whether `word` may pass.
    fn lets(&self, word: &[u8]) -> bool {
        let left = self.0.load(Ordering::SeqCst);
        let counts = left != usize::MAX && word.starts_with(b"{\"Done\"");
        if counts && left > 0 {
            self.0.store(left - 1, Ordering::SeqCst);
        }
        left > 0
    }
}

/// A door before the sampler at `inside`.
fn door(inside: SocketAddr, patience: Patience) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for outside in listener.incoming() {
            let (outside, inside) = (outside.unwrap(), TcpStream::connect(inside).unwrap());
            let (mut asks, mut hears) = (outside.try_clone().unwrap(), inside.try_clone().unwrap());
            std::thread::spawn(move || {
                // Whoever has gone asks for nothing more.
                let _ = std::io::copy(&mut asks, &mut hears);
                let _ = hears.shutdown(Shutdown::Both);
            });
            let patience = patience.clone();
            std::thread::spawn(move || {
                let _ = pass_on(inside, outside, &patience);
            });
        }
    });
    address
}

/// Passes on frames: two lengths, a word in JSON, bytes; a frame of nothing is a sign of life.
fn pass_on(mut from: TcpStream, mut to: TcpStream, patience: &Patience) -> std::io::Result<()> {
    loop {
        let mut lengths = [0; 12];
        from.read_exact(&mut lengths)?;
        let word = u32::from_le_bytes(lengths[..4].try_into().unwrap()) as usize;
        let bytes = u64::from_le_bytes(lengths[4..].try_into().unwrap()) as usize;
        let mut rest = vec![0; word + bytes];
        from.read_exact(&mut rest)?;
        if rest.is_empty() || patience.lets(&rest[..word]) {
            to.write_all(&[&lengths[..], &rest].concat())?;
        }
    }
}

fn load() -> Decoder {
    network("qwen3_tied", Kind::Float)
}

/// An engine of so many samplers, all behind doors; the first of them may fall mute.
fn engine_of(count: usize, config: SamplersConfig) -> (Box<dyn Engine>, Rc<Decoder>, Patience) {
    tch::set_num_threads(1);
    let store = Store::tcp("127.0.0.1", 0, true, Duration::from_secs(60)).unwrap();
    let port = store.port().unwrap();
    let first = Patience::without_end();
    for number in 0..count {
        let patience = match number {
            0 => first.clone(),
            _ => Patience::without_end(),
        };
        // It ends with the store, or when it is given up.
        drop(sampler(
            port,
            number,
            (load, move |own| door(own, patience)),
        ));
    }
    let policy = Rc::new(load());
    let pool = pool(store, count);
    // They come as slowly as the machine lets them.
    let begins = SamplersConfig::default();
    let mut engine = engine::dedicated(options(&policy), begins, pool.clone());
    engine.sync(policy.as_ref(), 1).unwrap();
    let mut engine = engine::dedicated(options(&policy), config, pool);
    engine.sync(policy.as_ref(), 1).unwrap();
    (engine, policy, first)
}

fn all() -> Vec<Request> {
    (0..6).map(request).collect()
}

/// What the engine of this process draws.
fn here(policy: &Rc<Decoder>) -> Drawn {
    let mut here = engine::open(EngineConfig::Local, options(policy)).unwrap();
    here.submit(submission(all(), 5)).unwrap();
    let mut drawn = Drawn::new();
    take(here.as_mut(), &mut drawn);
    unversioned(drawn).0
}

fn drawn(engine: &mut dyn Engine) -> Drawn {
    engine.submit(submission(all(), 5)).unwrap();
    let mut drawn = Drawn::new();
    take(engine, &mut drawn);
    unversioned(drawn).0
}

#[test]
fn a_sampler_that_lives_and_brings_nothing_is_given_up_and_others_draw_its_prompts() {
    let config = SamplersConfig {
        in_flight: 5,
        silence_s: 60.0,
        deadline_s: 2.0,
    };
    for completions in [0, 2] {
        let (mut engine, policy, first) = engine_of(2, config.clone());
        let expected = here(&policy);
        first.ends_after(completions);
        let begun = Instant::now();
        assert!(drawn(engine.as_mut()) == expected);
        assert!(
            begun.elapsed() < Duration::from_secs(50),
            "it was silence that gave it up"
        );
        let again = engine.stats().servers.unwrap().retried;
        assert!((1..=5).contains(&again), "{again}");
        // The run goes on with the other one.
        engine.sync(policy.as_ref(), 2).unwrap();
        assert!(drawn(engine.as_mut()) == expected);
        assert_eq!(engine.stats().servers.unwrap().retried, again);
    }
}

#[test]
fn the_only_sampler_that_lives_and_brings_nothing_ends_the_run_by_name() {
    let config = SamplersConfig {
        deadline_s: 1.0,
        ..SamplersConfig::default()
    };
    let (mut engine, _, first) = engine_of(1, config);
    first.ends_after(1);
    engine.submit(submission(all(), 5)).unwrap();
    let told = loop {
        match engine.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("all has come"),
            Err(error) => break error,
        }
    };
    let RolloutError::Samplers(told) = told else {
        panic!("{told:?}");
    };
    for part in [
        "no sampler within 1 s (rollout.samplers.deadline_s)",
        "sampler 0 (on here",
        "it lives and does not go on",
    ] {
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
}

#[test]
fn a_sampler_that_does_not_say_that_it_has_the_weights_is_left_out() {
    let config = SamplersConfig {
        silence_s: 4.0,
        deadline_s: 20.0,
        ..SamplersConfig::default()
    };
    let (mut engine, policy, first) = engine_of(2, config);
    let expected = here(&policy);
    first.ends_after(0);
    engine.sync(policy.as_ref(), 2).unwrap();
    assert!(drawn(engine.as_mut()) == expected);
    assert_eq!(engine.stats().policy_version, 2);
}
