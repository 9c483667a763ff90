//! The engine over samplers, against the one in this process: pictures, several submissions, and what is asked for while
//! others decode.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use models::image::Rgb8;
use models::{Decoder, load_folder};
use rollout::engine::{
    self, EngineConfig, EngineOptions, LearnerPlace, SamplerCard, SamplerDesk, SamplerEnd,
    SamplerPool, SamplerPost, SamplersConfig, ServersOptions, serve,
};
use rollout::{Completion, Engine, Request, Sampling, Submission};
use tch::{Device, Kind};
use torch_ext::Store;

use crate::support::{fixture, network};

pub(super) type Drawn = BTreeMap<(usize, usize), Completion>;

pub(super) fn options(policy: &Rc<Decoder>) -> EngineOptions {
    EngineOptions {
        policy: policy.clone(),
        images: None,
        tokenizer: None,
        slots: 0,
        cache_tokens: 1 << 20,
        servers: ServersOptions::default(),
    }
}

/// A sampler in a thread of this process, whose policy begins with other weights; `door` says where it is reached.
pub(super) fn sampler(
    port: u16,
    number: usize,
    (load, door): (
        fn() -> Decoder,
        impl FnOnce(SocketAddr) -> SocketAddr + Send + 'static,
    ),
) -> std::thread::JoinHandle<SamplerEnd> {
    std::thread::spawn(move || {
        tch::set_num_threads(1);
        let store = Store::tcp("127.0.0.1", port, false, Duration::from_secs(60)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let card = SamplerCard {
            number,
            host: "here".into(),
            process: 0,
            address: door(listener.local_addr().unwrap()),
            about: String::new(),
        };
        let build = |_: Option<&str>| {
            let policy = load();
            policy.randomise(7);
            Ok((Rc::new(policy), None))
        };
        serve(SamplerPost {
            desk: SamplerDesk::new(store),
            card,
            listener,
            build: &build,
            patience: Duration::from_secs(60),
        })
        .unwrap()
    })
}

pub(super) fn submission(requests: Vec<Request>, seed: u64) -> Submission {
    Submission {
        requests,
        sampling: Sampling {
            max_new_tokens: 24,
            ..Sampling::default()
        },
        seed,
    }
}

pub(super) fn take(engine: &mut dyn Engine, drawn: &mut Drawn) {
    while let Some(done) = engine.next().unwrap() {
        let before = drawn.insert((done.group, done.index), done.completion);
        assert!(before.is_none(), "twice");
    }
}

/// The same without the versions that wrote them: each completion is of one.
pub(super) fn unversioned(mut drawn: Drawn) -> (Drawn, Vec<u64>) {
    let mut versions = Vec::new();
    for completion in drawn.values_mut() {
        let spans = std::mem::take(&mut completion.spans);
        assert!(matches!(&spans[..], [span] if span.end == completion.ids.len()));
        versions.push(spans[0].version);
    }
    (drawn, versions)
}

/// The samplers of `store` as the only learner sees them, which waits for `expected`.
pub(super) fn pool(store: Store, expected: usize) -> Rc<RefCell<SamplerPool>> {
    let place = LearnerPlace {
        rank: 0,
        ranks: 1,
        expected,
        judge: Box::new(|_, _| None),
        policy: None,
    };
    let pool = SamplerPool::new(SamplerDesk::new(store), place).unwrap();
    Rc::new(RefCell::new(pool))
}

/// Samples `first`, and `second` while that is under way, here and by two samplers.
fn alike(load: fn() -> Decoder, first: Vec<Request>, second: Vec<Request>) {
    tch::set_num_threads(1);
    let policy = Rc::new(load());
    let mut here = engine::open(EngineConfig::Local, options(&policy)).unwrap();
    here.sync(policy.as_ref(), 1).unwrap();
    let mut expected = Drawn::new();
    for requests in [&first, &second] {
        here.submit(submission(requests.clone(), 5)).unwrap();
        take(here.as_mut(), &mut expected);
    }

    let store = Store::tcp("127.0.0.1", 0, true, Duration::from_secs(60)).unwrap();
    let port = store.port().unwrap();
    let threads = [0, 1].map(|number| sampler(port, number, (load, |own| own)));
    let pool = pool(store, 2);
    let config = SamplersConfig {
        in_flight: 5,
        ..SamplersConfig::default()
    };
    let mut there = engine::dedicated(options(&policy), config, pool.clone());
    assert!(
        there.submit(submission(first.clone(), 5)).is_err(),
        "no weights yet"
    );
    there.sync(policy.as_ref(), 1).unwrap();
    assert_eq!(there.stats().policy_version, 1);
    let mut drawn = Drawn::new();
    assert!(there.poll().unwrap().is_none(), "nothing was asked for");
    there.submit(submission(first, 5)).unwrap();
    let one = there.next().unwrap().unwrap();
    drawn.insert((one.group, one.index), one.completion);
    there.submit(submission(second, 5)).unwrap();
    // New weights that are the old ones, while completions are under way.
    there.sync(policy.as_ref(), 2).unwrap();
    take(there.as_mut(), &mut drawn);
    let (drawn, versions) = unversioned(drawn);
    // What was being written is finished before; what had to wait is of the new weights.
    let of = |version| versions.iter().filter(|own| **own == version).count();
    assert!(of(1) > 0 && of(1) + of(2) == versions.len(), "{versions:?}");
    let (expected, _) = unversioned(expected);
    assert!(drawn == expected, "{drawn:?}\n{expected:?}");

    // What is stopped is forgotten, and others may be asked for.
    let some = |draw: u64| Request {
        group: 0,
        ids: [3, 4, 5].into(),
        images: None,
        samples: 9,
        draw,
        lengths: None,
    };
    there.submit(submission(vec![some(70)], 6)).unwrap();
    assert!(there.next_unless(&|| true).is_err());
    there.submit(submission(vec![some(71)], 6)).unwrap();
    let mut drawn = Drawn::new();
    take(there.as_mut(), &mut drawn);
    here.submit(submission(vec![some(71)], 6)).unwrap();
    let mut expected = Drawn::new();
    take(here.as_mut(), &mut expected);
    assert!(unversioned(drawn).0 == unversioned(expected).0);
    drop(there);
    drop(pool);
    for thread in threads {
        assert_eq!(thread.join().unwrap(), SamplerEnd::RunEnded);
    }
}

/// A prompt of words, and how many completions are asked for.
pub(super) fn request(group: usize) -> Request {
    Request {
        group,
        ids: (0..3 + 5 * group as i64)
            .map(|at| (at * 7 + group as i64) % 50)
            .collect(),
        images: None,
        samples: 1 + group % 4,
        draw: 100 + group as u64,
        lengths: None,
    }
}

#[test]
fn samplers_draw_what_this_process_draws_however_it_is_asked() {
    let load = || network("qwen3_tied", Kind::Float);
    alike(
        load,
        (0..6).map(request).collect(),
        (6..12).map(request).collect(),
    );
}

fn seeing(name: &str) -> Decoder {
    let folder = fixture("parity/vlm").join(name);
    load_folder(&folder, Kind::Float, Device::Cpu).unwrap()
}

#[test]
fn pictures_travel_to_samplers() {
    pictures_travel(|| seeing("qwen3_vl"));
    // Whose pictures are cut into tiles, and which no server samples.
    pictures_travel(|| seeing("internvl"));
}

fn pictures_travel(load: fn() -> Decoder) {
    let model = load();
    let vision = model.vision().unwrap();
    let config = model.config.vision.as_ref().unwrap();
    let pad = config.tower.tokens.image;
    let request = |group: usize| {
        let (width, height) = (37 + 11 * group, 52);
        let level = |at: usize| (at * (group + 3) % 256) as u8;
        let data = (0..3 * width * height).map(level).collect();
        let rgb = Rgb8 {
            width,
            height,
            data,
        };
        let picture = vision.processor.picture(&rgb).unwrap();
        let mut ids = vec![5, 9, 2, 38];
        ids.extend(std::iter::repeat_n(pad, picture.tokens as usize));
        ids.extend([39, 7]);
        let images = vision.processor.prompt_images(&ids, vec![picture]).unwrap();
        Request {
            group,
            ids: ids.into(),
            images,
            samples: 3,
            draw: group as u64,
            lengths: None,
        }
    };
    alike(load, vec![request(0), request(1)], vec![request(2)]);
}
