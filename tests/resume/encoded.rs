//! Encoders keep nothing between steps: a run scored by one continues as any other.

use super::killed::kill;
use super::tiny::{Outcome, Tiny};

fn whole() -> Outcome {
    let tiny = Tiny::encoded();
    tiny.finish();
    tiny.outcome()
}

#[test]
fn two_steps_and_two_more_are_four_with_an_encoder() {
    let whole = whole();
    let tiny = Tiny::encoded();
    let set = ["--set", "stages.rl.steps=2"];
    assert!(tiny.command().args(set).status().unwrap().success());
    tiny.finish();
    // The evaluation at the end of two steps is not made within four.
    let mut parts = tiny.outcome();
    parts.forget_evaluation("rl", 2);
    parts.assert_same(&whole, "2 + 2 steps");
}

#[test]
fn a_run_with_an_encoder_killed_and_continued_is_the_whole_run() {
    let whole = whole();
    for rows in [9, 12] {
        let tiny = Tiny::encoded();
        assert!(kill(&tiny, || tiny.lines() >= rows));
        tiny.finish();
        tiny.outcome()
            .assert_same(&whole, &format!("killed after {rows} rows"));
    }
}
