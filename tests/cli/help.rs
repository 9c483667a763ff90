//! Every command has a help text with an example; wrong flags are the user's mistake.

use super::program::svgrl;

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("Commands:\n").unwrap_or_default();
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Every command, those below others included, with its words.
fn commands() -> Vec<String> {
    let mut all = listed(&svgrl("--help", &[]).fine().out);
    let mut at = 0;
    while let Some(command) = all.get(at).cloned() {
        let own = svgrl(&format!("{command} --help"), &[]).fine().out;
        all.extend(listed(&own).iter().map(|name| format!("{command} {name}")));
        at += 1;
    }
    all
}

#[test]
fn every_command_has_an_example_and_the_shared_flags() {
    let commands = commands();
    for known in ["train", "bench", "data", "data prepare", "data inspect"] {
        assert!(commands.iter().any(|name| name == known), "{commands:?}");
    }
    for command in commands {
        let own = svgrl(&format!("{command} --help"), &[]).fine().out;
        assert!(
            own.contains("Example") && own.contains(&format!("svgrl {command}")),
            "{command} has no example:\n{own}"
        );
        assert!(
            own.contains("--device") && own.contains("--seed"),
            "{command} lacks a shared flag:\n{own}"
        );
    }
}

#[test]
fn wrong_flags_end_with_status_2() {
    svgrl("trian x.yaml", &[]).refused(2, &["train"]);
    svgrl("train", &[]).refused(2, &["CONFIG"]);
    svgrl("generate --temprature 2", &[]).refused(2, &["--temperature"]);
    svgrl("check --dtype float8 x.yaml", &[]).refused(2, &["float32 or bfloat16"]);
    svgrl("launch --nproc-per-node 0 -- train x.yaml", &[]).refused(2, &["--nproc-per-node"]);
}
