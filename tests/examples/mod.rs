//! The examples run, and show what they are for.

#[path = "../../examples/score.rs"]
mod score;

#[test]
fn a_drawing_is_worth_more_than_one_beside_it_and_that_more_than_none() {
    let rewards = score::scored(&score::texts()).unwrap();
    let totals: Vec<f64> = rewards.iter().map(|reward| reward.total).collect();
    // Equal pictures, and three quarters for code as long as the reference's.
    assert!((totals[0] - 0.925).abs() < 1e-9, "{totals:?}");
    assert!(totals[0] > totals[1] && totals[1] > totals[2], "{totals:?}");
    assert!(rewards[1].valid && !rewards[2].valid);
}
