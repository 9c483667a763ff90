//! Ranks as threads of one process, each with a connection of its own.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Ranks of one run are those whose words are equal up to the first blank; the rest must be equal too.
fn compare(leader: &str, (rank, other): (usize, &str)) -> Likeness {
    let run = |about: &str| about.split(' ').next().unwrap_or_default().to_owned();
    if run(leader) != run(other) {
        Likeness::Stranger(format!("this store is that of {}", run(leader)))
    } else if leader != other {
        Likeness::Unlike(format!("rank {rank} has {other}"))
    } else {
        Likeness::Same
    }
}

fn join(
    port: u16,
    rank: usize,
    about: &'static str,
    timeout: Duration,
) -> std::thread::JoinHandle<Result<Met, TorchError>> {
    std::thread::spawn(move || {
        let store = Store::tcp("127.0.0.1", port, false, 5 * SECOND).unwrap();
        let meeting = Meeting {
            rank,
            size: 2,
            timeout,
            about,
            compare: &compare,
            address: format!("10.0.0.{rank}").parse().ok(),
        };
        meeting.meet(&store)
    })
}

fn server() -> (Store, u16) {
    let store = Store::tcp("127.0.0.1", 0, true, 5 * SECOND).unwrap();
    let port = store.port().unwrap();
    (store, port)
}

#[test]
fn every_attempt_has_a_prefix_of_its_own_in_a_store_that_stays() {
    let (_store, port) = server();
    let mut prefixes = Vec::new();
    for _ in 0..4 {
        // Whoever comes first waits for the other.
        let second = join(port, 1, "a", 10 * SECOND);
        std::thread::sleep(Duration::from_millis(50));
        let first = join(port, 0, "a", 10 * SECOND).join().unwrap().unwrap();
        assert_eq!(second.join().unwrap().unwrap(), first);
        let addresses: Vec<String> = first
            .addresses
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        assert_eq!(addresses, ["10.0.0.0", "10.0.0.1"]);
        prefixes.push(first.prefix);
    }
    prefixes.sort();
    prefixes.dedup();
    assert_eq!(prefixes.len(), 4);
}

#[test]
fn what_a_dead_process_left_is_not_met() {
    let (store, port) = server();
    // Hellos of an attempt that ended before anybody was called, and its call.
    let dead = Hello {
        rank: 1,
        nonce: "dead".into(),
        address: None,
        about: "a".into(),
    };
    let number = store.add("hellos", 1).unwrap();
    store
        .set(&format!("hello/{number}"), dead.encode().as_bytes())
        .unwrap();
    store.add("hellos", 1).unwrap();
    let first = join(port, 0, "a", 10 * SECOND);
    std::thread::sleep(Duration::from_millis(200));
    assert!(store.is_set("call").unwrap() && !store.is_set("word").unwrap());
    let second = join(port, 1, "a", 10 * SECOND).join().unwrap().unwrap();
    assert_eq!(first.join().unwrap().unwrap(), second);
}

#[test]
fn a_rank_of_another_run_is_turned_away_and_the_others_go_on() {
    let (_store, port) = server();
    let first = join(port, 0, "a", 10 * SECOND);
    let told = join(port, 1, "b", 10 * SECOND)
        .join()
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(told.contains("this store is that of a"), "{told}");
    let second = join(port, 1, "a", 10 * SECOND).join().unwrap();
    assert_eq!(second.unwrap(), first.join().unwrap().unwrap());
}

#[test]
fn ranks_that_are_not_alike_end_the_start_of_all() {
    let (_store, port) = server();
    let ranks = [(0, "a 1"), (1, "a 2")].map(|(rank, about)| join(port, rank, about, 10 * SECOND));
    for rank in ranks {
        let told = rank.join().unwrap().unwrap_err().to_string();
        assert!(told.contains("rank 1 has a 2"), "{told}");
    }
}

#[test]
fn two_processes_of_one_rank_do_not_both_stay() {
    let (_store, port) = server();
    let early = join(port, 1, "a", 10 * SECOND);
    std::thread::sleep(Duration::from_millis(200));
    let late = join(port, 1, "a", 10 * SECOND);
    std::thread::sleep(Duration::from_millis(200));
    let first = join(port, 0, "a", 10 * SECOND).join().unwrap().unwrap();
    assert_eq!(late.join().unwrap().unwrap(), first);
    let told = early.join().unwrap().unwrap_err().to_string();
    assert!(told.contains("rank 1 came again"), "{told}");
}

#[test]
fn who_does_not_come_is_named() {
    let (_store, port) = server();
    let alone = join(port, 0, "a", SECOND / 2).join().unwrap().unwrap_err();
    assert!(
        alone.to_string().contains("have not joined within 0 s: 1"),
        "{alone}"
    );
    let alone = join(port, 1, "a", SECOND / 2)
        .join()
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(
        alone.contains("rank 0 has not called") && alone.contains("gave up waiting for 1"),
        "{alone}"
    );
}
