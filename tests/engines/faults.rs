//! What servers do wrong, and how a submission bears it: nothing hangs, no completion is lost or comes twice, and what ends
//! the run names the server and the cause.

use std::time::{Duration, Instant};

use rollout::engine::{ServersConfig, WeightUpdate};
use rollout::{RolloutError, Sampling};

use super::stand_in::StandIn;
use super::words::{Fault, Speech};
use super::{SPEECHES, quick, said, sample, short, small, submission};

/// Impatient: what is late is asked for again.
fn impatient() -> ServersConfig {
    ServersConfig {
        timeout_s: 1.0,
        deadline_s: 20.0,
        ..quick()
    }
}

#[test]
fn what_fails_once_is_asked_for_again() {
    let policy = small("engines_faults");
    for speech in [Speech::Vllm, Speech::Sglang] {
        let server = policy.server(speech);
        let mut engine = policy.synced(&[&server], impatient());
        for fault in [
            Fault::Slow(Duration::from_millis(1500)),
            Fault::Status(429),
            Fault::Status(500),
            Fault::Status(503),
            Fault::HalfBody,
            Fault::HangUp,
            Fault::NoLogprobs,
            Fault::WrongCount,
            Fault::Two,
            Fault::Token(1 << 30),
            Fault::Aborted,
        ] {
            let before = engine.stats().servers.unwrap().retried;
            server.will([fault]);
            let asked = policy.requests(3);
            let drawn = sample(engine.as_mut(), submission(asked.clone(), short()));
            let drawn = drawn.unwrap_or_else(|error| panic!("{speech:?} {fault:?}: {error}"));
            policy.check(&asked, &drawn, 1.0);
            let after = engine.stats().servers.unwrap().retried;
            assert!(after > before, "{speech:?} {fault:?}");
        }
    }
}

#[test]
fn what_fails_time_and_again_ends_the_run_by_name() {
    let policy = small("engines_lasting");
    for speech in SPEECHES {
        let server = policy.server(speech);
        for (fault, parts) in [
            (
                Fault::OtherPrompt,
                &["other prompt ids", "here ", "there "][..],
            ),
            (Fault::NoLogprobs, &["log", "asked 3 times"]),
            (Fault::WrongCount, &["token", "asked 3 times"]),
            (
                Fault::Token(1 << 30),
                &[
                    "token id 1073741824 is none of the policy's 540",
                    "asked 3 times",
                ],
            ),
            (Fault::Status(400), &["status 400"]),
        ] {
            // One after another, so that the first is asked for until it is given up.
            let config = ServersConfig {
                in_flight: 1,
                ..impatient()
            };
            let mut engine = policy.synced(&[&server], config);
            server.will(vec![fault; 60]);
            let begun = Instant::now();
            let told = said(sample(
                engine.as_mut(),
                submission(policy.requests(2), short()),
            ));
            assert!(begun.elapsed() < Duration::from_secs(60), "{fault:?}");
            assert!(told.contains(&server.address), "{told}");
            for part in parts {
                assert!(told.contains(part), "{fault:?}: `{part}` is not in: {told}");
            }
            // What was under way is forgotten, and the next submission is answered whole.
            server.forget_faults();
            let asked = policy.requests(2);
            let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
            policy.check(&asked, &drawn, 1.0);
        }
    }
}

#[test]
fn what_never_comes_ends_the_run_within_the_deadline() {
    let policy = small("engines_never");
    for speech in [Speech::Vllm, Speech::Sglang] {
        for (fault, part) in [
            (Fault::Slow(Duration::from_millis(1500)), "timeout"),
            (Fault::Status(429), "status 429"),
            (Fault::Status(500), "status 500"),
            (Fault::HalfBody, "disconnected"),
            (Fault::Aborted, "it aborted a completion"),
        ] {
            let server = policy.server(speech);
            let config = ServersConfig {
                deadline_s: 3.0,
                ..impatient()
            };
            let mut engine = policy.synced(&[&server], config);
            server.will(vec![fault; 10_000]);
            let begun = Instant::now();
            let result = sample(engine.as_mut(), submission(policy.requests(2), short()));
            assert!(begun.elapsed() < Duration::from_secs(60), "{fault:?}");
            let Err(RolloutError::Server(told)) = result else {
                panic!("{speech:?} {fault:?}: {result:?}");
            };
            for part in [part, server.address.as_str(), "rollout.servers.deadline_s"] {
                assert!(told.contains(part), "{fault:?}: `{part}` is not in: {told}");
            }
        }
    }
}

#[test]
fn two_servers_of_three_may_go_while_completions_are_under_way() {
    for (speech, update) in [
        (Speech::Vllm, WeightUpdate::Auto),
        (Speech::Sglang, WeightUpdate::Auto),
        (Speech::Sglang, WeightUpdate::Group),
    ] {
        two_of_three_go(speech, update);
    }
}

fn two_of_three_go(speech: Speech, update: WeightUpdate) {
    let policy = small(&format!("engines_two_lost_{speech:?}_{update:?}"));
    let servers = [(); 3].map(|()| policy.server(speech));
    let config = ServersConfig {
        update,
        // Nobody waits long for the answer of one that is gone.
        deadline_s: 10.0,
        ..impatient()
    };
    let mut engine = policy.synced(&servers.each_ref(), config);
    servers
        .iter()
        .for_each(|server| server.slow_down(Duration::from_millis(50)));
    let asked = policy.requests(12);
    engine.submit(submission(asked.clone(), short())).unwrap();
    let mut drawn = super::Completions::new();
    while let Some(finished) = engine.next().unwrap() {
        if drawn.len() == 4 {
            servers[0].go();
            servers[2].go();
        }
        assert!(
            drawn
                .insert((finished.group, finished.index), finished.completion)
                .is_none()
        );
    }
    policy.check(&asked, &drawn, 1.0);
    // New weights go to the one that is there, and the run goes on.
    engine.sync(policy.model.as_ref(), 2).unwrap();
    let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
    policy.check(&asked, &drawn, 1.0);
}

#[test]
fn servers_that_are_gone_end_the_run_within_the_deadline() {
    let policy = small("engines_gone");
    for (speech, gone_before_weights) in [
        (Speech::Vllm, false),
        (Speech::Vllm, true),
        (Speech::Sglang, false),
        (Speech::Sglang, true),
    ] {
        let servers = [(); 2].map(|()| policy.server(speech));
        let config = ServersConfig {
            deadline_s: 3.0,
            ..impatient()
        };
        let mut engine = policy.synced(&servers.each_ref(), config);
        servers.iter().for_each(StandIn::go);
        let begun = Instant::now();
        let result = match gone_before_weights {
            true => engine
                .sync(policy.model.as_ref(), 2)
                .map(|()| Default::default()),
            false => sample(engine.as_mut(), submission(policy.requests(2), short())),
        };
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        let Err(RolloutError::Server(told)) = result else {
            panic!("{result:?}");
        };
        assert!(
            servers.iter().any(|server| told.contains(&server.address)),
            "{told}"
        );
    }
}

#[test]
fn a_server_that_was_restarted_is_given_its_weights_again() {
    let policy = small("engines_restarted");
    for speech in SPEECHES {
        let server = policy.server(speech);
        let mut engine = policy.synced(&[&server], quick());
        let version = server.version();
        assert!(version.ends_with("-v1"), "{version}");
        server.restart();
        assert_eq!(server.version(), "default");
        let asked = policy.requests(4);
        let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
        policy.check(&asked, &drawn, 1.0);
        assert_eq!(server.version(), version);
    }
}

#[test]
fn a_server_of_a_weight_group_that_was_restarted_joins_another_one_at_the_next_update() {
    let policy = small("engines_group_restarted");
    let servers = [(); 2].map(|()| policy.server(Speech::Sglang));
    let config = ServersConfig {
        update: WeightUpdate::Group,
        ..quick()
    };
    let asked = policy.requests(4);
    // Whether its old weights are noticed by a completion before the update or not.
    for noticed in [true, false] {
        let mut engine = policy.synced(&servers.each_ref(), config.clone());
        servers[0].restart();
        if noticed {
            let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
            policy.check(&asked, &drawn, 1.0);
            assert_eq!(
                servers[0].version(),
                "default",
                "no folder holds its weights"
            );
        }
        engine.sync(policy.model.as_ref(), 2).unwrap();
        let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
        policy.check(&asked, &drawn, 1.0);
        for server in &servers {
            assert!(server.version().ends_with("-v2"), "{}", server.version());
        }
    }
    // The only one has nobody beside it until then.
    let mut engine = policy.synced(&[&servers[1]], config);
    servers[1].restart();
    let told = sample(engine.as_mut(), submission(asked, short()));
    let Err(RolloutError::Server(told)) = told else {
        panic!("{told:?}");
    };
    assert!(told.contains("these lie in no folder"), "{told}");
}

#[test]
fn who_gives_up_is_not_kept_and_may_ask_again() {
    let policy = small("engines_stopped");
    for (speech, path, names) in [
        (Speech::Vllm, "/inference/v1/abort_requests", "request_ids"),
        (Speech::Sglang, "/abort_request", "rid"),
    ] {
        gives_up(&policy, speech, (path, names));
    }
}

fn gives_up(policy: &super::Policy, speech: Speech, (path, names): (&str, &str)) {
    let server = policy.server(speech);
    let mut engine = policy.synced(&[&server], quick());
    server.slow_down(Duration::from_secs(60));
    engine
        .submit(submission(policy.requests(8), short()))
        .unwrap();
    let begun = Instant::now();
    let stopped = engine.next_unless(&|| begun.elapsed() > Duration::from_millis(100));
    assert!(matches!(stopped, Err(RolloutError::Stopped)));
    assert!(begun.elapsed() < Duration::from_secs(45));
    let told = server.told();
    let aborted: Vec<_> = told.iter().filter(|(own, _)| own == path).collect();
    let named = match &aborted[0].1[names] {
        serde_json::Value::Array(all) => all.len(),
        _ => aborted.len(),
    };
    assert_eq!(named, 4, "as many as were under way");
    server.slow_down(Duration::ZERO);
    let asked = policy.requests(2);
    let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
    policy.check(&asked, &drawn, 1.0);
}

#[test]
fn a_server_s_own_ends_are_not_taken_for_ours() {
    let policy = small("engines_early");
    for speech in [Speech::Vllm, Speech::Sglang] {
        ends_early(&policy, speech);
    }
}

fn ends_early(policy: &super::Policy, speech: Speech) {
    let server = policy.server(speech);
    let mut engine = policy.synced(&[&server], quick());
    // It saw a stop string in text that is not the completion's: asked again without.
    server.will([Fault::EndsEarly]);
    let with_stop = Sampling {
        stop: vec!["\u{2603}".into()],
        ..short()
    };
    let asked = policy.requests(1);
    let drawn = sample(engine.as_mut(), submission(asked.clone(), with_stop)).unwrap();
    policy.check(&asked, &drawn, 1.0);
    let plain = server
        .bodies()
        .into_iter()
        .filter(|body| body["sampling_params"]["stop"].is_null());
    assert!(plain.count() > 0);
    // It ended at a token that ends nothing here.
    server.will(vec![Fault::EndsEarly; 20]);
    let told = said(sample(
        engine.as_mut(),
        submission(policy.requests(1), short()),
    ));
    assert!(told.contains("ends none here"), "{told}");
}
