//! Every command has a help text with an example; wrong flags are the user's mistake.

use super::program::svgrl;

const COMMANDS: [&str; 17] = [
    "train",
    "check",
    "reference",
    "schema",
    "generate",
    "logprobs",
    "embed",
    "render",
    "reward",
    "report",
    "launch",
    "bench",
    "extend-tokens",
    "serve-rewards",
    "data",
    "data prepare",
    "data inspect",
];

/// A command's first word, which the help of all lists.
fn named(command: &str) -> &str {
    command.split(' ').next().unwrap_or(command)
}

#[test]
fn help_lists_every_command_and_each_has_an_example() {
    let help = svgrl("--help", &[]).fine().out;
    for command in COMMANDS {
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(named(command))),
            "{command} is not in:\n{help}"
        );
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
