//! `svgrl bench`: what it prints; the figures themselves belong to machines.

use serde_json::{Value, json};

use super::program::{scratch, svgrl, write};

fn figures(args: &str) -> Value {
    let out = svgrl(&format!("bench {args} --json --repeat 1 --device cpu"), &[])
        .fine()
        .out;
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["setup"]["device"], "Cpu");
    told["figures"].clone()
}

#[test]
fn decoding_and_steps_are_measured_with_and_without_pictures() {
    let lengths = write(&scratch("bench"), "lengths.json", "[2, 3]");
    for model in ["small", "small-vl"] {
        let decoding = figures(&format!("generate --model {model} --batch 2 --tokens 2"));
        assert!(decoding["median_tokens_per_s"].as_f64() > Some(0.0));
        let step = figures(&format!(
            "step --model {model} --lengths {}",
            lengths.display()
        ));
        let [whole, learning] =
            ["median_step_s", "median_learn_s"].map(|key| step[key].as_f64().unwrap());
        assert!(whole > learning && learning > 0.0, "{step}");
    }
}

#[test]
fn pictures_and_drawings_are_measured() {
    let cut = figures("preprocess");
    for family in ["qwen2_5_vl", "qwen3_vl", "internvl"] {
        assert!(
            cut[format!("{family}_per_cpu_s")].as_f64() > Some(0.0),
            "{cut}"
        );
    }
    let drawn = figures("render");
    assert_eq!(
        (&drawn["rendered_frac"], &drawn["worker_frac"]),
        (&json!(1.0), &json!(0.0))
    );
    assert!(
        drawn["all_in_workers_per_s"].as_f64() > Some(0.0),
        "{drawn}"
    );
    assert!(figures("reward")["completions_per_s"].as_f64() > Some(0.0));
}
