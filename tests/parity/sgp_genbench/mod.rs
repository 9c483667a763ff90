//! `svgrl eval sgp-genbench` on predictions as SGP-RL's scripts leave them, against transformers on the same drawings (see
//! make.py), and a judge of compositions that answers, hedges and talks nonsense.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::program::{Told, program, rows, scratch, told, write};
use crate::support::chat_server::chat_server;
use crate::support::fixture;
use crate::support::scores::same_score;

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A judge that answers as make.py says.
fn judge(expected: &Value) -> String {
    let replies = expected["judge"].as_array().unwrap().clone();
    chat_server(move |question| {
        let content = question["messages"][0]["content"].as_array().unwrap();
        assert_eq!(content.len(), 2, "the drawing alone is shown");
        assert_eq!(question["max_tokens"], json!(2000));
        let words = content[0]["text"].as_str().unwrap();
        let fits = |reply: &&Value| words.contains(reply[0].as_str().unwrap());
        let found = replies.iter().find(fits);
        found.map_or(json!("no idea"), |reply| reply[1].clone())
    })
}

fn eval(folder: &Path, judge: &str, out: &Path) -> Told {
    let encoders = fixture("parity/encoders");
    let root = fixture("parity/sgp_genbench");
    let at = |name: &str| encoders.join(name).display().to_string();
    let text = format!(
        "data: {}\ndevice: cpu\nthreads: 1\nbatch: 4\nbootstrap: {{samples: 100}}\nsampling: {{samples: 3}}\nencoders:\n  clip_b32: {}\n  clip_l14: {}\n  siglip_base: {}\n  dinov2: {}\n  dinov2_giant: {}\n{judge}",
        root.join("data").display(),
        at("longclip_hf"),
        at("clip"),
        at("siglip"),
        at("dinov2"),
        at("dinov2_giant"),
    );
    let config = write(folder, "sgp.yaml", &text);
    let mut command = program();
    command
        .args(["eval", "sgp-genbench", "--config"])
        .arg(config);
    command.arg("--predictions").arg(root.join("predictions"));
    told(command.arg("--out").arg(out))
}

#[test]
fn numbers_are_those_of_transformers_and_the_judge_s() {
    let folder = scratch("sgp_parity");
    let out = folder.join("out");
    let expected = json_of(&fixture("parity/sgp_genbench/expected.json"));
    let asked = format!(
        "judge: {{endpoint: \"{}\", model: m, retries: 0}}\n",
        judge(&expected)
    );
    let said = eval(&folder, &asked, &out).fine();
    let scores = json_of(&out.join("scores.json"));
    let items = rows(&out.join("items.jsonl"));
    let item = |task: &str, id: &str| {
        let own = items
            .iter()
            .find(|item| item["task"] == task && item["id"] == id);
        own.unwrap_or_else(|| panic!("{task} {id}"))
    };
    let mut seen = 0;
    for (task, all) in expected["items"].as_object().unwrap() {
        for (id, values) in all.as_object().unwrap() {
            for (metric, want) in values.as_object().unwrap() {
                let got = &item(task, id)["values"][metric];
                same_score(&format!("{task} {id} {metric}"), got, want);
                seen += 1;
            }
        }
    }
    for (task, all) in expected["prompts"].as_object().unwrap() {
        for (id, values) in all.as_object().unwrap() {
            for (metric, want) in values.as_object().unwrap() {
                let own = item(&format!("{task}/prompts"), id);
                same_score(
                    &format!("{task} {id} {metric}"),
                    &own["values"][metric],
                    want,
                );
                seen += 1;
            }
        }
    }
    for (task, means) in expected["means"].as_object().unwrap() {
        for (metric, want) in means.as_object().unwrap() {
            let got = &scores["tasks"][task]["metrics"][metric]["value"];
            same_score(&format!("{task} {metric}"), got, want);
            seen += 1;
        }
    }
    for (id, want) in expected["scores"].as_object().unwrap() {
        same_score(id, &item("composition", id)["values"]["score"], want);
    }
    for (name, want) in expected["overall"].as_object().unwrap() {
        same_score(name, &scores[name], want);
    }
    assert!(seen > 100, "{seen}");
    let reasons = &scores["tasks"]["object"]["reasons"];
    assert_eq!(
        *reasons,
        json!({"no_svg": 1, "answer_not_closed": 1, "no_prediction": 1})
    );
    let reasons = &scores["tasks"]["scene"]["reasons"];
    assert_eq!(*reasons, json!({"no_answer_block": 1, "banned_tag": 1}));
    assert!(
        said.err.contains("1 answers of the judge hold no score"),
        "{}",
        said.err
    );
    // By the paper's variant an answer without a score is left out.
    let out = folder.join("paper");
    let asked = asked.replace("retries: 0", "retries: 0, variant: paper");
    eval(&folder, &asked, &out).fine();
    let paper = json_of(&out.join("scores.json"));
    let own = &paper["tasks"]["composition"]["metrics"]["score"];
    assert_eq!((&own["items"], &own["left_out"]), (&json!(3), &json!(1)));
    // Without a judge compositions have no score, and what is missing is told.
    let out = folder.join("alone");
    let said = eval(&folder, "", &out).fine();
    let alone = json_of(&out.join("scores.json"));
    assert!(alone.get("composition").is_none_or(Value::is_null));
    same_score(
        "clip_small",
        &alone["clip_small"],
        &expected["overall"]["clip_small"],
    );
    for part in ["siglip_large is left out", "dino_small is left out"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
}
