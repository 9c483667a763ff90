//! What is found out before the first completion: who the servers are, and whether they can serve this policy.

use std::rc::Rc;

use models::load_folder;
use rollout::engine::{EngineConfig, ServersConfig, WeightUpdate};
use rollout::{Sampling, Submission};
use tch::{Device, Kind};

use super::stand_in::StandIn;
use super::words::{Fault, Speech};
use super::{quick, said, sample, scale, short, small, submission};
use crate::support::network_folder;

#[test]
fn servers_that_do_not_fit_are_refused_by_name() {
    let policy = small("engines_refused");
    let vllm = policy.server(Speech::Vllm);
    let sglang = policy.server(Speech::Sglang);
    let plain = policy.server(Speech::VllmPlain);
    let named = ServersConfig {
        model: Some("another".into()),
        ..quick()
    };
    let way = |update| ServersConfig { update, ..quick() };
    let other = StandIn::start(Speech::Vllm, &network_folder("qwen3_tied"));
    let cases = [
        (
            policy.open_as(EngineConfig::Vllm, &[&sglang], quick()),
            "rollout.engine: sglang",
        ),
        (
            policy.open_as(EngineConfig::Sglang, &[&vllm], quick()),
            "rollout.engine: vllm",
        ),
        (policy.open(&[&vllm], named), "serves no model `another`"),
        (policy.open(&[&plain], quick()), "svgrl_vllm.Worker"),
        (policy.open(&[&vllm], way(WeightUpdate::Reload)), "tied"),
        (
            policy.open(&[&vllm], way(WeightUpdate::Disk)),
            "do not know this way",
        ),
        (policy.open(&[&vllm], way(WeightUpdate::Adapter)), "lora"),
        (policy.open(&[&other], quick()), "token ids"),
    ];
    for (result, part) in cases {
        let told = said(result);
        assert!(told.contains(part), "`{part}` is not in: {told}");
    }
    let nobody = StandIn::start(Speech::Vllm, &policy.folder);
    nobody.go();
    let config = ServersConfig {
        deadline_s: 2.0,
        ..quick()
    };
    let told = said(policy.open(&[&nobody], config));
    assert!(told.contains(&nobody.address), "{told}");
}

#[test]
fn weights_that_do_not_arrive_are_seen_by_the_probe() {
    let policy = small("engines_probe");
    let server = policy.server(Speech::Vllm);
    let mut engine = policy.open(&[&server], quick()).unwrap();
    // It says that it took them, and did not.
    server.pretend();
    let told = said(engine.sync(policy.model.as_ref(), 1));
    for part in [server.address.as_str(), "probe", "probe_gap"] {
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn an_untied_head_is_updated_by_the_server_s_own_reload() {
    let folder = network_folder("qwen2_untied");
    let model = Rc::new(load_folder(&folder, Kind::Float, Device::Cpu).unwrap());
    scale(&model, 0.7);
    let policy = super::Policy {
        model,
        tokenizer: None,
        folder,
    };
    let server = policy.server(Speech::VllmPlain);
    let mut engine = policy.synced(&[&server], quick());
    assert!(
        server
            .told()
            .iter()
            .any(|(path, _)| path == "/collective_rpc")
    );
    let prompt: Vec<i64> = vec![3, 8, 5];
    let request = rollout::Request {
        group: 0,
        ids: prompt.into(),
        images: None,
        samples: 3,
        draw: 1,
        lengths: None,
    };
    let drawn = sample(engine.as_mut(), submission(vec![request.clone()], short())).unwrap();
    policy.check(&[request], &drawn, 1.0);
}

#[test]
fn a_prompt_that_does_not_fit_the_servers_context_is_refused() {
    let policy = small("engines_context");
    let server = policy.server(Speech::Vllm);
    let mut engine = policy.synced(&[&server], quick());
    let long = Submission {
        sampling: Sampling {
            max_new_tokens: server.inside.context,
            ..short()
        },
        ..submission(policy.requests(1), short())
    };
    let told = said(engine.submit(long));
    assert!(
        told.contains("does not fit") && told.contains("--max-model-len"),
        "{told}"
    );
    // What was refused left nothing behind.
    sample(engine.as_mut(), submission(policy.requests(1), short())).unwrap();
}

#[test]
fn a_token_that_is_never_drawn_here_is_drawn_anew_where_it_cannot_be_suppressed() {
    let policy = small("engines_suppressed");
    // Rows of the head beyond the tokenizer.
    let rows = policy.model.config.vocab_size;
    let unused = policy.tokenizer.as_ref().unwrap().unused_ids(rows);
    let asked = policy.requests(2);
    for speech in [Speech::VllmProcessed, Speech::Sglang] {
        let server = policy.server(speech);
        let mut engine = policy.synced(&[&server], quick());
        server.will([Fault::Token(unused[0])]);
        let drawn = sample(engine.as_mut(), submission(asked.clone(), short())).unwrap();
        policy.check(&asked, &drawn, 1.0);
        assert_eq!(engine.stats().servers.unwrap().redrawn, 1);
    }
    // One whose log-probabilities are raw is told not to draw them.
    let server = policy.server(Speech::Vllm);
    let mut engine = policy.synced(&[&server], quick());
    sample(engine.as_mut(), submission(asked, short())).unwrap();
    let body = server.bodies().pop().unwrap();
    let banned = body["sampling_params"]["logit_bias"].as_object().unwrap();
    assert_eq!(banned.len(), unused.len());
}
