//! `trainer::grpo::advantage` against NumPy for every combination of its options.

use serde::Deserialize;
use trainer::config::{AdvantageConfig, MeanOver, StdOf, StdOver};
use trainer::grpo::advantage::advantages;

use crate::support::{fixture, larger};

#[derive(Deserialize)]
struct Fixture {
    groups: Vec<Vec<f64>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    mean: MeanOver,
    std: String,
    unbiased: bool,
    epsilon: f64,
    advantages: Vec<Vec<f64>>,
}

#[test]
fn advantages_equal_numpy_under_every_option() {
    let text = std::fs::read_to_string(fixture("parity/losses/advantages.json")).unwrap();
    let fixture: Fixture = serde_json::from_str(&text).unwrap();
    let mut worst: f64 = 0.0;
    for case in &fixture.cases {
        let (std, std_of) = match case.std.as_str() {
            "group" => (StdOver::Group, StdOf::Raw),
            "batch_raw" => (StdOver::Batch, StdOf::Raw),
            "batch_centred" => (StdOver::Batch, StdOf::Centred),
            "none" => (StdOver::None, StdOf::Raw),
            other => panic!("{other}"),
        };
        let config = AdvantageConfig {
            mean: case.mean,
            std,
            std_of,
            unbiased: case.unbiased,
            epsilon: case.epsilon,
            ..AdvantageConfig::default()
        };
        let groups = fixture.groups.iter();
        let scored = groups.map(|group| group.iter().copied().map(Some).collect());
        let got = advantages(&scored.collect::<Vec<_>>(), &config).concat();
        let want = case.advantages.concat();
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            worst = larger(worst, (got - want).abs() / want.abs().max(1.0));
        }
    }
    println!("advantages: {} cases, {worst:e}", fixture.cases.len());
    assert!(fixture.cases.len() == 48 && worst < 1e-12, "{worst:e}");
}
