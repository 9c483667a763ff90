//! Groups of real processes: the test binary starts itself as the ranks.

use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use super::*;

const RANK: &str = "SVGRL_TEST_RANK";
const SIZE: &str = "SVGRL_TEST_SIZE";
const PORT: &str = "SVGRL_TEST_PORT";
const F32: (Kind, Device) = (Kind::Float, Device::Cpu);

/// Starts `size` processes that run the ignored test `body`, and the store they use.
fn start(body: &str, size: usize) -> (Store, Vec<Child>) {
    let store = Store::tcp("127.0.0.1", 0, true, Duration::from_secs(20)).unwrap();
    let name = format!("group::tests::{body}");
    let ranks = (0..size)
        .map(|rank| {
            Command::new(env::current_exe().unwrap())
                .args(["--exact", &name, "--ignored", "--nocapture"])
                .env(RANK, rank.to_string())
                .env(SIZE, size.to_string())
                .env(PORT, store.port().unwrap().to_string())
                .env("OMP_NUM_THREADS", "1")
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    (store, ranks)
}

fn number(name: &str) -> usize {
    env::var(name).unwrap().parse().unwrap()
}

fn store() -> Store {
    let port = u16::try_from(number(PORT)).unwrap();
    Store::tcp("127.0.0.1", port, false, Duration::from_secs(20)).unwrap()
}

fn join(timeout: Duration) -> Result<ProcessGroup, TorchError> {
    ProcessGroup::connect(
        &store(),
        "test",
        GroupOptions {
            rank: number(RANK),
            size: number(SIZE),
            timeout,
            backend: Backend::Gloo,
            heartbeat: Duration::from_millis(100),
            address: None,
        },
    )
}

/// The output of a rank and whether it succeeded.
fn end(child: Child) -> (bool, String) {
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn two_processes_sum_scatter_gather_and_broadcast() {
    let (_store, ranks) = start("collectives_body", 2);
    for child in ranks {
        let (ok, text) = end(child);
        assert!(ok && text.contains("1 passed"), "{text}");
    }
}

#[test]
#[ignore = "run as a rank by two_processes_sum_scatter_gather_and_broadcast"]
fn collectives_body() {
    let group = join(Duration::from_secs(20)).unwrap();
    let rank = group.rank() as i64;
    let own = Tensor::from_slice(&[1f32, 2., 3., 4.]) * (rank + 1);

    let sum = own.copy();
    group.all_reduce(&sum).unwrap();
    assert_eq!(Vec::<f32>::try_from(&sum).unwrap(), [3., 6., 9., 12.]);

    let half = own.to_kind(Kind::BFloat16);
    group.all_reduce(&half).unwrap();
    assert_eq!(half.kind(), Kind::BFloat16);
    assert_eq!(half.to_kind(Kind::Float), sum);

    let part = Tensor::zeros([2], F32);
    group.reduce_scatter(&part, &own).unwrap();
    assert_eq!(part, sum.narrow(0, 2 * rank, 2));

    let all = Tensor::zeros([2, 2], F32);
    group.all_gather(&all, &part).unwrap();
    assert_eq!(all.view([4]), sum);

    let places = if rank == 1 { 4 } else { 0 };
    let at_root = Tensor::zeros([places], F32);
    group.gather(&at_root, &part, 1).unwrap();
    let expected = if rank == 1 {
        sum.copy()
    } else {
        at_root.copy()
    };
    assert_eq!(at_root, expected);

    let shared = own.copy();
    group.broadcast(&shared, 1).unwrap();
    assert_eq!(Vec::<f32>::try_from(&shared).unwrap(), [2., 4., 6., 8.]);

    let odd = Tensor::zeros([3], F32);
    assert!(group.reduce_scatter(&part, &odd).is_err());
    assert!(group.broadcast(&shared, 2).is_err());
    group.barrier().unwrap();
}

#[test]
fn survivors_name_the_rank_that_died() {
    let (_store, mut ranks) = start("death_body", 3);
    let dead = ranks.remove(1);
    assert!(!end(dead).0);
    for child in ranks {
        let (ok, text) = end(child);
        assert!(!ok);
        let named = text.contains("rank 1 of 3 has not been heard from for");
        assert!(named && text.contains("in phase `reduce`"), "{text}");
        assert!(
            !text.contains("rank 0 of 3 has") && !text.contains("rank 2 of 3 has"),
            "{text}"
        );
    }
}

#[test]
#[ignore = "run as a rank by survivors_name_the_rank_that_died"]
fn death_body() {
    let group = join(Duration::from_secs(20)).unwrap();
    group.barrier().unwrap();
    group.enter_phase("reduce");
    if group.rank() == 1 {
        std::process::abort();
    }
    let error = group.all_reduce(&Tensor::ones([4], F32)).unwrap_err();
    panic!("{error}");
}

#[test]
fn a_rank_that_lags_is_named_at_the_deadline() {
    let (_store, ranks) = start("lag_body", 2);
    let texts: Vec<_> = ranks.into_iter().map(end).collect();
    let text = &texts[0].1;
    assert!(
        text.contains("rank 1 of 2 is alive but still in phase `score`"),
        "{text}"
    );
    assert!(texts[1].0, "{}", texts[1].1);
}

#[test]
#[ignore = "run as a rank by a_rank_that_lags_is_named_at_the_deadline"]
fn lag_body() {
    let group = join(Duration::from_secs(5)).unwrap();
    group.barrier().unwrap();
    let store = store();
    if group.rank() == 1 {
        group.enter_phase("score");
        // It lags until the other rank has given up: were there no deadline, both would wait here.
        let given_up = ["given_up".to_owned()];
        assert!(
            store
                .wait(&given_up, Duration::from_secs(60))
                .unwrap()
                .is_empty()
        );
        return;
    }
    let error = group.barrier().unwrap_err();
    store.set("given_up", b"1").unwrap();
    panic!("{error}");
}

#[test]
fn a_rank_that_never_joins_is_named() {
    let store = Store::tcp("127.0.0.1", 0, true, Duration::from_secs(5)).unwrap();
    let options = GroupOptions {
        rank: 0,
        size: 3,
        timeout: Duration::from_millis(300),
        backend: Backend::Gloo,
        heartbeat: Duration::from_millis(50),
        address: None,
    };
    let error = ProcessGroup::connect(&store, "test", options).unwrap_err();
    assert!(error.to_string().contains("1, 2"), "{error}");
}

#[test]
fn a_world_of_one_copies_and_sends_nothing() {
    let group = ProcessGroup::Solo;
    let input = Tensor::from_slice(&[1f32, 2.]);
    let output = Tensor::zeros([2], F32);
    group.reduce_scatter(&output, &input).unwrap();
    assert_eq!(output, input);
    group.all_reduce(&output).unwrap();
    assert_eq!((group.rank(), group.size()), (0, 1));
    assert!(group.all_gather(&Tensor::zeros([3], F32), &input).is_err());
}
