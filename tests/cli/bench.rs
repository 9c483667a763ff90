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
        let rate = decoding["median_tokens_per_s"].as_f64();
        assert!(rate > Some(0.0), "{decoding}");
        assert_eq!(
            decoding["tokens_per_s"],
            json!([rate]),
            "one counted repetition"
        );
        assert_eq!(
            (&decoding["batch"], &decoding["tokens"]),
            (&json!(2), &json!(2))
        );
        let step = figures(&format!(
            "step --model {model} --lengths {}",
            lengths.display()
        ));
        let parts = ["generate", "score_exposed", "learn", "step"];
        let [generate, scoring, learning, whole] =
            parts.map(|part| step[format!("median_{part}_s")].as_f64().unwrap());
        assert!(generate > 0.0 && learning > 0.0 && scoring >= 0.0, "{step}");
        assert!(generate + scoring + learning <= whole, "{step}");
        assert_eq!(step["step_s"], json!([whole]), "one counted repetition");
    }
}

#[test]
fn steps_over_pairs_are_measured_with_both_references() {
    let lengths = write(&scratch("bench_dpo"), "lengths.json", "[2, 3, 4, 2]");
    for reference in ["cached", "policy"] {
        let step = figures(&format!(
            "dpo --reference {reference} --lengths {}",
            lengths.display()
        ));
        let whole = step["median_step_s"].as_f64().unwrap();
        assert!(whole > 0.0, "{step}");
        assert_eq!(step["step_s"], json!([whole]), "one counted repetition");
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
    let number = |key: &str| drawn[key].as_f64().unwrap();
    for (ratio, guarded, bare) in [
        ("ratio", "guarded_per_s", "bare_resvg_per_s"),
        ("cpu_ratio", "guarded_per_cpu_s", "bare_resvg_per_cpu_s"),
    ] {
        assert!(number(guarded) > 0.0 && number(bare) > 0.0, "{drawn}");
        let gap = number(ratio) - number(guarded) / number(bare);
        assert!(gap.abs() < 1e-9, "{drawn}");
    }
    assert!(number("all_in_workers_per_s") > 0.0, "{drawn}");
    assert!(figures("reward")["completions_per_s"].as_f64() > Some(0.0));
}
