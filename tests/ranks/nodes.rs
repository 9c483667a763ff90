//! Two network namespaces, joined by one cable, are two nodes: nothing of the one's loopback is seen by the other.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::lost::end;
use super::samples;
use crate::cli::program::{program, rows, scratch, told};
use crate::cli::tiny::config;
use crate::support::skip::skip;

/// Namespaces, by name; they are gone with it.
struct Nodes([String; 2]);

fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split_whitespace()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

impl Nodes {
    const FIRST: &str = "10.213.7.1";

    fn new() -> Result<Self, String> {
        let process = std::process::id();
        let made = Self(["a", "b"].map(|letter| format!("svgrl-{letter}{process}")));
        let [a, b] = &made.0;
        ip(&format!("netns add {a}"))?;
        ip(&format!("netns add {b}"))?;
        ip(&format!(
            "link add to-b netns {a} type veth peer name to-a netns {b}"
        ))?;
        for (name, end, address) in [(a, "to-b", Self::FIRST), (b, "to-a", "10.213.7.2")] {
            ip(&format!("-n {name} address add {address}/24 dev {end}"))?;
            ip(&format!("-n {name} link set {end} up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(made)
    }

    /// `svgrl launch` with these flags on a node, training `config` into `run`.
    fn launch(&self, node: usize, flags: &str, config: &Path, run: &Path) -> Child {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0[node], env!("CARGO_BIN_EXE_svgrl")]);
        command.arg("launch").args(flags.split_whitespace());
        command.args(["--rdzv", &format!("{}:29511", Self::FIRST), "--"]);
        command.args(["train", "--set", "threads=1"]);
        command.arg(config).arg("--run-dir").arg(run);
        command.args(["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=2"]);
        if flags.contains("samplers") {
            command.args(["--set", "stages.rl.rollout.placement=dedicated"]);
        }
        command.env("SVGRL_COLLECTIVE_TIMEOUT_S", "60");
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

#[test]
fn two_nodes_train_what_two_ranks_of_one_do_and_samplers_may_have_a_node_of_their_own() {
    let nodes = match Nodes::new() {
        Ok(nodes) => nodes,
        Err(why) => skip!("no network namespaces here: {why}"),
    };
    let folder = scratch("ranks_nodes");
    let config = config(&folder);
    let here = folder.join("here");
    let mut alone = program();
    alone.args(["launch", "--nproc-per-node", "2", "--", "train"]);
    alone.args(["--set", "threads=1"]);
    alone.arg(&config).arg("--run-dir").arg(&here);
    alone.args(["--set", "stages.sft.steps=3", "--set", "stages.rl.steps=2"]);
    told(&mut alone).fine();
    let apart = folder.join("apart");
    let ranks = [0, 1].map(|node| {
        let flags = format!("--nnodes 2 --node-rank {node} --nproc-per-node 1");
        nodes.launch(node, &flags, &config, &apart)
    });
    for (code, said) in ranks.map(end) {
        assert_eq!(code, Some(0), "{said}");
    }
    let drawn = |run: &Path| -> Vec<_> {
        let found = rows(&samples(run, 2)).into_iter();
        found
            .map(|row| (row["token_ids"].clone(), row["total"].clone()))
            .collect()
    };
    assert!(!drawn(&here).is_empty());
    assert_eq!(drawn(&apart), drawn(&here));

    let split = folder.join("split");
    let both = [
        (0, "--learners 1 --samplers 0"),
        (1, "--learners 0 --samplers 2"),
    ]
    .map(|(node, flags)| nodes.launch(node, flags, &config, &split));
    for (code, said) in both.map(end) {
        assert_eq!(code, Some(0), "{said}");
    }
    assert_eq!(drawn(&split).len(), drawn(&here).len());
}
