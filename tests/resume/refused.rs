use std::fs;

use super::tiny::{Tiny, told};

/// What the run says of its config with `from` replaced by `to`; it must end with status 2.
fn refused(from: &str, to: &str) -> String {
    let tiny = Tiny::new();
    let text = fs::read_to_string(tiny.config()).unwrap();
    assert!(text.contains(from));
    fs::write(tiny.config(), text.replacen(from, to, 1)).unwrap();
    let output = tiny.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(!tiny.run_folder().exists());
    told(&output)
}

#[test]
fn an_unknown_key_names_the_nearest_one_and_the_line() {
    let said = refused("    steps: 6\n", "    stepz: 6\n");
    assert!(said.contains("stepz") && said.contains("steps") && said.contains("tiny.yaml:20"), "{said}");
}

#[test]
fn an_unknown_key_of_a_flag_names_the_nearest_one() {
    let tiny = Tiny::new();
    let output = tiny.command().args(["--set", "stages.rl.rollout.group_sise=4"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("group_size"), "{}", told(&output));
}

#[test]
fn a_value_out_of_bounds_names_key_bound_and_value() {
    let said = refused("group_size: 4", "group_size: 1");
    assert!(said.contains("group_size") && said.contains(">= 2") && said.contains("got 1"), "{said}");
}

#[test]
fn a_run_is_not_continued_under_another_seed() {
    let tiny = Tiny::new();
    let mut short = tiny.command();
    let done = short.args(["--set", "stages.sft.steps=1", "--set", "stages.rl.steps=1"]).output().unwrap();
    assert!(done.status.success(), "{}", told(&done));
    let output = tiny.command().args(["--seed", "5"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("seed: was 0, is 5"), "{}", told(&output));
}

#[test]
fn a_damaged_checkpoint_is_named_and_the_previous_one_offered() {
    let tiny = Tiny::new();
    tiny.finish();
    let last = tiny.run_folder().join("checkpoints/rl/final/model.safetensors");
    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&last, bytes).unwrap();
    let output = tiny.command().output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = told(&output);
    assert!(said.contains("rl/final") && said.contains("model.safetensors") && said.contains("rl/step_000002"), "{said}");
}
