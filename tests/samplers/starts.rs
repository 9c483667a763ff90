//! Starts that do not fit the config, and processes that were not given the same.

use std::process::Stdio;

use super::{Training, ended};
use crate::cli::program::{program, told};
use crate::ranks::lost::port;

#[test]
fn a_start_that_does_not_fit_the_config_is_refused_with_the_command_that_does() {
    let there = Training::dedicated("samplers_refused");
    let way = "svgrl launch --learners 1 --samplers 1 -- train CONFIG";
    told(&mut there.alone()).refused(2, &["stages.rl.rollout.placement", way]);
    told(&mut there.launch("--learners 1")).refused(2, &[way]);
    assert!(!there.run().exists(), "nothing was begun");
    let here = Training::new("samplers_refused_here");
    let mut launched = here.launch("--learners 1 --samplers 1");
    told(&mut launched).refused(
        2,
        &["no stage of this config has `rollout.placement: dedicated`"],
    );
    let check = |sets: &[&str]| {
        let mut command = program();
        command.arg("check").arg(there.config());
        for set in sets {
            command.args(["--set", set]);
        }
        told(&mut command)
    };
    check(&["stages.rl.rollout.placement=dedicated"]).fine();
    for (set, part) in [
        (
            "stages.rl.rollout={placement: dedicated, engine: vllm, endpoints: [http://a:1]}",
            "rollout.placement",
        ),
        ("stages.rl.rollout.samplers.in_flight=1", "rollout.samplers"),
        (
            "stages.rl.rollout={placement: dedicated, samplers: {in_flight: 0}}",
            "samplers.in_flight",
        ),
        (
            "stages.rl.rollout={placement: dedicated, samplers: {silence_s: 0}}",
            "samplers.silence_s",
        ),
    ] {
        check(&[set]).refused(2, &[part]);
    }
}

#[test]
fn a_sampler_of_another_config_is_named_with_the_key() {
    let there = Training::dedicated("samplers_unlike");
    let port = port().to_string();
    let mut learner = there.alone();
    learner.envs([("SVGRL_SAMPLERS", "1"), ("MASTER_ADDR", "127.0.0.1")]);
    learner.env("MASTER_PORT", &port);
    learner.stdout(Stdio::null()).stderr(Stdio::piped());
    let learner = learner.spawn().unwrap();
    let mut sampler = there.alone();
    sampler.args(["--set", "seed=9"]);
    sampler.envs([("SVGRL_SAMPLER", "0"), ("MASTER_ADDR", "127.0.0.1")]);
    sampler.env("MASTER_PORT", &port);
    sampler.stdout(Stdio::null()).stderr(Stdio::piped());
    let sampler = sampler.spawn().unwrap();
    ended(learner).refused(2, &["sampler 0 (on ", "seed: rank 0 has 3", "has 9"]);
    let told = ended(sampler);
    assert!(told.code == 0 || told.code == 1, "it ends too: {told:#?}");
}
