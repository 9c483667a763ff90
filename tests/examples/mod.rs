//! The examples run, and show what they are for.

#[path = "../../examples/rollout.rs"]
mod rollout;
#[path = "../../examples/score.rs"]
mod score;

use crate::cli::tiny::tiny;

#[test]
fn completions_of_a_model_folder_come_one_by_one_and_with_their_text() {
    let done = rollout::completions(&tiny().model(), "a red circle").unwrap();
    let mut places: Vec<usize> = done.iter().map(|finished| finished.index).collect();
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2, 3]);
    for finished in done {
        let completion = finished.completion;
        assert!(completion.text.is_some() && completion.ids.len() <= 64);
        assert_eq!(completion.ids.len(), completion.logprobs.len());
    }
}

#[test]
fn a_drawing_is_worth_more_than_one_beside_it_and_that_more_than_none() {
    let rewards = score::scored(&score::texts()).unwrap();
    let totals: Vec<f64> = rewards.iter().map(|reward| reward.total.unwrap()).collect();
    // Equal pictures, and three quarters for code as long as the reference's.
    assert!((totals[0] - 0.925).abs() < 1e-9, "{totals:?}");
    assert!(totals[0] > totals[1] && totals[1] > totals[2], "{totals:?}");
    assert!(rewards[1].valid && !rewards[2].valid);
}
