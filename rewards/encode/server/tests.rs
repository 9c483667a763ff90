//! Passes of tiny networks: who shares one, and when weights move.

use super::*;
use crate::encode::EncoderCount;
use models::encoder::Pooling;
use models::image::Rgb8;
use std::path::Path;
use tch::{Device, Kind};

fn picture(network: &Encoder, shade: u8) -> Rgb8 {
    let own = Rgb8 {
        width: 50,
        height: 60,
        data: vec![shade; 9000],
    };
    network.fit(&own).unwrap()
}

/// Answers all of `asks`, which are there before the thread begins; and what was counted.
fn run(rows: PassRows, encoder: &str, asks: Vec<EncodeCommand>) -> (Vec<Arc<[f32]>>, EncoderCount) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/encoders");
    let network = Encoder::load(&path.join(encoder), (Kind::Float, Device::Cpu)).unwrap();
    let (jobs, inbox) = crossbeam_channel::unbounded();
    let promises: Vec<Promise> = asks.iter().map(|_| Promise::default()).collect();
    for (command, promise) in asks.into_iter().zip(&promises) {
        let promise = promise.clone();
        jobs.send(EncodeJob { command, promise }).unwrap();
    }
    drop(jobs);
    let server = Server {
        name: encoder.into(),
        rows,
        on_cpu: true,
        ended: Arc::default(),
        counter: Arc::default(),
    };
    server.run(&mut Worker::features(network), None, &inbox);
    let answers = promises.iter().map(|promise| promise.wait().unwrap());
    (answers.collect(), server.counter.read())
}

#[test]
fn pictures_of_all_groups_share_passes_and_texts_go_one_by_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/encoders/clip");
    let clip = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
    let looks = |shades: &[u8]| -> Vec<EncodeCommand> {
        let look = |shade: &u8| EncodeCommand::Picture(picture(&clip, *shade), Pooling::Cls);
        shades.iter().map(look).collect()
    };
    // Two groups of three and their texts, in the order they come.
    let mut asks = looks(&[0, 40, 80]);
    asks.push(EncodeCommand::Text("a dot".into()));
    asks.extend(looks(&[120, 160, 200]));
    asks.push(EncodeCommand::Text("a bar".into()));
    let (answers, count) = run(PassRows::new(0, true), "clip", asks);
    assert_eq!((count.items, count.passes), (8, 2 + 2));
    // Who shared the pass does not show, not in one bit.
    for (place, shade) in [(0, 0), (5, 160)] {
        let (alone, _) = run(PassRows::new(0, true), "clip", looks(&[shade]));
        assert_eq!(alone[0], answers[place]);
    }
}

#[test]
fn a_text_that_would_be_cut_has_no_feature_where_it_must_be_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/encoders/clip");
    let clip = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
    let long = "a dot ".repeat(clip.longest().unwrap());
    let asks = vec![
        EncodeCommand::WholeText("a dot".into()),
        EncodeCommand::Text("a dot".into()),
        EncodeCommand::WholeText(long.clone()),
        EncodeCommand::Text(long),
    ];
    let (answers, count) = run(PassRows::new(0, true), "clip", asks);
    assert_eq!(answers[0], answers[1]);
    assert!(answers[2].is_empty() && !answers[3].is_empty());
    assert_eq!(count.items, 3, "nothing is computed for it");
}

#[test]
fn the_config_says_how_many_share_a_pass() {
    let rows = |batch, on_cpu| {
        let rows = PassRows::new(batch, on_cpu);
        (rows.pictures, rows.texts)
    };
    assert_eq!((rows(0, true), rows(0, false)), ((4, 1), (32, 32)));
    assert_eq!((rows(3, true), rows(3, false)), ((3, 3), (3, 3)));
    let texts = || {
        ["a", "b", "c", "d"]
            .map(|text| EncodeCommand::Text(text.into()))
            .into()
    };
    let (_, count) = run(PassRows::new(2, true), "clip", texts());
    assert_eq!((count.items, count.passes), (4, 2));
}

/// Both places are host memory here: what is tested is when the weights move.
#[test]
fn weights_leave_when_told_and_come_back_when_something_is_asked() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/encoders/dinov2");
    let network = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
    let picture = network.fit(&Rgb8 {
        width: 50,
        height: 60,
        data: (0..9000).map(|byte| byte as u8).collect(),
    });
    let picture = picture.unwrap();
    let offloader = Offloader::new(Device::Cpu);
    let moves = offloader.moves();
    let mut worker = Worker::features(network);
    let server = Server {
        name: "dino".into(),
        rows: PassRows::new(2, true),
        on_cpu: true,
        ended: Arc::default(),
        counter: Arc::default(),
    };
    let (jobs, inbox) = crossbeam_channel::unbounded();
    let thread = std::thread::spawn(move || server.run(&mut worker, Some(offloader), &inbox));
    let ask = |command: EncodeCommand| {
        let promise = Promise::default();
        let job = EncodeJob {
            command,
            promise: promise.clone(),
        };
        jobs.send(job).unwrap();
        promise
    };
    let look = || ask(EncodeCommand::Picture(picture.clone(), Pooling::Cls));
    let moved = || moves.load(Ordering::SeqCst);
    // They lie in host memory at first, and a rest of what rests moves nothing.
    ask(EncodeCommand::Offload).wait().unwrap();
    assert_eq!(moved(), 0);
    let first = look().wait().unwrap();
    assert_eq!(moved(), 1);
    // A rest waits for what was asked before it, and what is asked again gives the same.
    let (before, rest) = (look(), ask(EncodeCommand::Offload));
    rest.wait().unwrap();
    assert_eq!((moved(), before.wait().unwrap()), (2, first.clone()));
    assert_eq!((look().wait().unwrap(), moved()), (first, 3));
    ask(EncodeCommand::Offload).wait().unwrap();
    ask(EncodeCommand::Reload);
    ask(EncodeCommand::Reload);
    ask(EncodeCommand::Offload).wait().unwrap();
    assert_eq!(moved(), 6);
    drop(jobs);
    thread.join().unwrap();
}
