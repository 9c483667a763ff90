//! `svgrl eval CONFIG`: the numbers that a run writes of its checkpoint, without the run.

use serde_json::Value;

use super::program::{keys, program, rows, scratch, told};
use super::tiny::{TOKENIZER, tiny};

#[test]
fn a_checkpoint_has_the_scores_that_its_run_wrote() {
    let out = scratch("eval_config").join("scores");
    let mut eval = program();
    eval.arg("eval").arg(&tiny().config);
    eval.arg("--checkpoint").arg(tiny().model());
    let printed = told(eval.arg("--out").arg(&out)).fine().out;
    assert!(
        printed.contains("heldout_greedy") && printed.contains("reward/total/mean"),
        "{printed}"
    );
    let scores = std::fs::read(out.join("scores.json")).unwrap();
    let scores: Value = serde_json::from_slice(&scores).unwrap();
    assert_eq!(
        (&scores["stage"], &scores["step"]),
        (&"rl".into(), &2.into())
    );
    let metrics = rows(&tiny().run.join("metrics.jsonl"));
    let mut compared = 0;
    for (set, values) in scores["sets"].as_object().unwrap() {
        let first = format!("eval/{set}/reward/total/mean");
        let row = metrics
            .iter()
            .rfind(|row| row.get(&first).is_some())
            .unwrap();
        for (name, value) in values.as_object().unwrap() {
            if !name.starts_with("svg/render_ms") {
                assert_eq!(&row[&format!("eval/{set}/{name}")], value, "{set} {name}");
                compared += 1;
            }
        }
    }
    assert!(compared > 20, "{compared}");
    let items = rows(&out.join("items.jsonl"));
    let of_run = rows(&tiny().run.join("samples/rl/eval/heldout/step_000002.jsonl"));
    assert_eq!(items.len(), 4);
    assert_eq!(keys(&items[0])[1..], keys(&of_run[0])[..]);
    assert_eq!(items[0]["set"], "heldout");
    assert_eq!(items[0]["token_ids"], of_run[0]["token_ids"]);
}

#[test]
fn what_cannot_be_evaluated_says_why() {
    let out = scratch("eval_config_refused");
    let refused = |config: &std::path::Path, flags: &[&str], parts: &[&str]| {
        let mut eval = program();
        eval.arg("eval")
            .arg(config)
            .arg("--out")
            .arg(out.join("scores"))
            .args(flags);
        told(&mut eval).refused(2, parts);
    };
    let config = &tiny().config;
    let model = tiny().model();
    let model = model.to_str().unwrap();
    refused(
        &out.join("none.yaml"),
        &["--checkpoint", model],
        &["none.yaml", "no such config"],
    );
    refused(
        config,
        &["--checkpoint", TOKENIZER],
        &["quickstart_tokenizer", "config.json"],
    );
    refused(config, &["--checkpoint", "nowhere"], &["nowhere"]);
    refused(
        config,
        &["--checkpoint", model, "--stage", "sft"],
        &["stages.sft.eval.prompts: is 0", "--set"],
    );
    refused(
        config,
        &["--checkpoint", model, "--stage", "lr"],
        &["--stage lr", "sft"],
    );
    let none = [
        "--checkpoint",
        model,
        "--set",
        "data.sources.drawings.held_out=0",
    ];
    refused(config, &none, &["stages.rl.eval: no source", "held_out"]);
    assert!(!out.join("scores").exists());
}
