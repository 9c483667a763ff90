//! A stage's length in epochs.

use std::path::Path;

use serde_json::Value;

use crate::cli::program::{Told, program, rows, scratch, svgrl, told};
use crate::cli::tiny;

/// The tiny config (six rows to train on) with `epochs` where its stages have steps.
fn config(name: &str) -> std::path::PathBuf {
    let path = tiny::config(&scratch(name));
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace(
            "steps: 60\n    batch: {size: 6}",
            "epochs: 2.5\n    batch: {size: 5}",
        )
        .replace(
            "optimizer: {learning_rate: 1.0e-2}",
            "optimizer: {learning_rate: 1.0e-2, schedule: {type: cosine}, warmup: 0.34}",
        )
        .replace("steps: 2\n", "epochs: 1\n");
    assert_eq!(text.matches("epochs").count(), 2);
    std::fs::write(&path, text).unwrap();
    path
}

fn train(config: &Path, flags: &[&str]) -> Told {
    let run = config.with_file_name("run");
    let mut train = program();
    train.arg("train").arg(config).arg("--run-dir").arg(&run);
    told(train.args(flags))
}

fn resolved(text: &str) -> Value {
    serde_saphyr::from_str(text.split("\nplan\n").next().unwrap()).unwrap()
}

#[test]
fn epochs_become_steps_of_the_rows_there_are_and_schedules_go_by_them() {
    let config = config("epochs_run");
    // A bad row is none, where it is left out.
    let data = config.with_file_name("drawings.jsonl");
    let text = std::fs::read_to_string(&data).unwrap();
    std::fs::write(&data, format!("{text}{{\"id\": 1}}\n")).unwrap();
    let skip = ["--set", "data.on_bad_row=skip"];
    let dry = train(&config, &[&skip[..], &["--dry-run"]].concat()).fine();
    let shown = resolved(&dry.out);
    let of = |config: &Value| -> Vec<(f64, u64)> {
        let stages = config["stages"].as_array().unwrap().iter();
        stages
            .map(|stage| {
                (
                    stage["epochs"].as_f64().unwrap(),
                    stage["steps"].as_u64().unwrap(),
                )
            })
            .collect()
    };
    // 2.5 * 6 rows at 5 a step, and 6 prompts at 4 a step.
    assert_eq!(of(&shown), [(2.5, 3), (1.0, 2)]);
    assert!(
        dry.out.contains("sft, 3 steps") && dry.out.contains("grpo, 2 steps"),
        "{}",
        dry.out
    );
    let told = train(&config, &skip).fine();
    assert!(
        told.err
            .contains("stage sft: 2.5 epochs of 6 rows at 5 a step: 3 steps"),
        "{}",
        told.err
    );
    let run = config.with_file_name("run");
    let steps = |stage: &str| -> Vec<Value> {
        let all = rows(&run.join("metrics.jsonl")).into_iter();
        all.filter(|row| row["stage"] == stage && row.get("optim/lr").is_some())
            .collect()
    };
    let rates: Vec<f64> = steps("sft")
        .iter()
        .map(|row| row["optim/lr"].as_f64().unwrap())
        .collect();
    // One step of warm-up, half a cosine over the other two.
    assert_eq!(rates.len(), 3);
    assert!(
        (rates[0] - 1e-2).abs() < 1e-9 && (rates[1] - 5e-3).abs() < 1e-9 && rates[2] < 1e-9,
        "{rates:?}"
    );
    assert_eq!(steps("rl").len(), 2);
    let kept = std::fs::read_to_string(run.join("config.resolved.yaml")).unwrap();
    assert_eq!(of(&resolved(&kept)), [(2.5, 3), (1.0, 2)]);
    svgrl("check", &[&run.join("config.resolved.yaml")]).fine();
    // The same rows are the same steps: nothing is left to do. More of them are refused as other rows.
    assert!(
        train(&config, &skip)
            .fine()
            .err
            .contains("this run is finished")
    );
    let more = text.replace("circle-red", "circle-pink");
    std::fs::write(&data, format!("{text}{more}")).unwrap();
    train(&config, &[]).refused(2, &["data.sources.drawings", "had 8 rows and now has 16"]);
}

#[test]
fn steps_beside_epochs_are_refused_and_a_flag_takes_the_others_place() {
    let config = config("epochs_both");
    let text = std::fs::read_to_string(&config).unwrap();
    let both = text.replace("epochs: 2.5", "epochs: 2.5\n    steps: 60");
    std::fs::write(&config, &both).unwrap();
    let line = both[..both.find("epochs").unwrap()].matches('\n').count() + 1;
    let place = format!("tiny.yaml:{line}: stages.0.epochs: ");
    svgrl("check", &[&config]).refused(2, &[&place, "`steps` says 60", "one of the two"]);
    train(&config, &[]).refused(2, &[&place]);
    std::fs::write(&config, &text).unwrap();
    let dry = |set: &str| train(&config, &["--dry-run", "--set", set]);
    let steps = |told: Told| resolved(&told.fine().out)["stages"][0].clone();
    let stage = steps(dry("stages.sft.steps=7"));
    assert_eq!(
        (&stage["steps"], &stage["epochs"]),
        (&7.into(), &Value::Null)
    );
    let stage = steps(dry("stages.sft.epochs=5"));
    assert_eq!(
        (&stage["steps"], &stage["epochs"]),
        (&6.into(), &5.0.into())
    );
    dry("stages.sft.epochs=0").refused(2, &["stages.0.epochs: must be > 0, got 0"]);
}
