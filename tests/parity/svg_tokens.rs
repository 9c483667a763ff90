//! `extend-tokens` on a tiny folder with reserved rows, against transformers and the published rule.

use models::{Tokenizer, read_tensors};
use serde_json::Value;

use crate::cli::program::{copy, program, scratch, told};
use crate::cli::tiny::tiny;
use crate::support;

#[test]
fn extended_folders_have_the_ids_and_rows_that_transformers_gives() {
    let fixture = support::fixture("parity/svg_tokens");
    let text = std::fs::read_to_string(fixture.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let matrices = read_tensors(&fixture.join("expected.safetensors")).unwrap();
    for vocabulary in ["ctrl-s", "internsvg"] {
        let out = scratch(&format!("extended_{vocabulary}")).join("model");
        let mut command = program();
        command
            .arg("extend-tokens")
            .arg("--model")
            .arg(fixture.join("base"));
        command.arg("--out").arg(&out).args(["--vocab", vocabulary]);
        command
            .arg("--corpus")
            .arg(fixture.join("base/tokenizer_config.json"));
        // An empty folder is taken, one with something in it is not.
        std::fs::create_dir(&out).unwrap();
        told(&mut command).fine();
        told(&mut command).refused(2, &["already"]);

        let tokenizer = Tokenizer::read(&out).unwrap();
        let texts = expected["texts"].as_array().unwrap();
        for (text, ids) in texts
            .iter()
            .zip(expected[vocabulary]["ids"].as_array().unwrap())
        {
            let ids: Vec<i64> = serde_json::from_value(ids.clone()).unwrap();
            assert_eq!(
                tokenizer.encode(text.as_str().unwrap()),
                ids,
                "{vocabulary}: {text}"
            );
        }
        let tensors = read_tensors(&out.join("model.safetensors")).unwrap();
        for (name, key) in [
            ("model.embed_tokens.weight", "embedding"),
            ("lm_head.weight", "head"),
        ] {
            let want = &matrices[&format!("{vocabulary}.{key}")];
            let got = &tensors[name];
            assert_eq!(got.size(), want.size());
            // A mean of a few float32 numbers, summed in another order.
            assert!(
                (got - want).abs().max().double_value(&[]) < 1e-7,
                "{vocabulary}: {name}"
            );
        }
        let report = std::fs::read_to_string(out.join("extend_report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        let added = report["tokens"].as_object().unwrap().len();
        assert_eq!(Some(added as u64), expected[vocabulary]["added"].as_u64());
        assert_eq!(report["ids_after"], tokenizer.len());
        assert!(
            report["corpus"]["tokens_after"].as_u64() <= report["corpus"]["tokens_before"].as_u64()
        );
        let model = models::load_folder(&out, tch::Kind::Float, tch::Device::Cpu).unwrap();
        assert_eq!(model.config.vocab_size, tokenizer.len() as i64);

        // A folder that has them all gets none, and no row of it changes.
        let again = out.with_file_name("again");
        let mut command = program();
        command.arg("extend-tokens").arg("--model").arg(&out);
        command
            .arg("--out")
            .arg(&again)
            .args(["--vocab", vocabulary]);
        let done = told(&mut command).fine();
        assert!(done.out.contains("0 tokens added"), "{}", done.out);
        let same = read_tensors(&again.join("model.safetensors")).unwrap();
        assert!(tensors.iter().all(|(name, tensor)| same[name] == *tensor));
        let files = [&out, &again].map(|folder| std::fs::read(folder.join("tokenizer.json")));
        assert_eq!(files[0].as_ref().unwrap(), files[1].as_ref().unwrap());
    }
}

#[test]
fn a_folder_with_a_tied_head_is_extended_in_its_one_matrix() {
    let (from, out) = (tiny().model(), scratch("extended_tied").join("model"));
    let mut command = program();
    command.arg("extend-tokens").arg("--model").arg(&from);
    told(command.arg("--out").arg(&out)).fine();
    let read = |folder: &std::path::Path| read_tensors(&folder.join("model.safetensors")).unwrap();
    let (before, after) = (read(&from), read(&out));
    assert!(!after.contains_key("lm_head.weight"));
    let name = "model.embed_tokens.weight";
    let (old, new) = (&before[name], &after[name]);
    let kept = old.size()[0];
    assert!(new.narrow(0, 0, kept) == *old, "old rows stay");
    let base = Tokenizer::read(&from).unwrap();
    let report = std::fs::read_to_string(out.join("extend_report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let tokens = report["tokens"].as_object().unwrap();
    assert_eq!(new.size()[0], kept + tokens.len() as i64);
    for (token, id) in tokens {
        let pieces = tch::Tensor::from_slice(&base.encode(token));
        let mean = old
            .index_select(0, &pieces)
            .mean_dim(0, false, tch::Kind::Float);
        let gap = (new.get(id.as_i64().unwrap()) - mean).abs().max();
        assert!(gap.double_value(&[]) < 1e-7, "{token}");
    }
}

#[test]
fn of_several_weight_files_those_that_count_are_extended() {
    let fixture = support::fixture("parity/svg_tokens/base");
    let folder = scratch("extended_several");
    let extend = |from: &std::path::Path, name: &str| {
        let out = folder.join(name);
        let mut command = program();
        command.arg("extend-tokens").arg("--model").arg(from);
        let told = told(command.arg("--out").arg(&out)).fine();
        (
            read_tensors(&out.join("model.safetensors")).unwrap(),
            told.out,
            out,
        )
    };
    let (expected, ..) = extend(&fixture, "alone");
    let several = folder.join("several");
    copy(&fixture, &several);
    // Left from another save of the same folder, and an original in another layout.
    let stray: Vec<_> = read_tensors(&several.join("model.safetensors"))
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name, tensor * 3.0))
        .collect();
    let shard = "model-00001-of-00001.safetensors";
    for name in [shard, "consolidated.safetensors"] {
        models::write_tensors(&several.join(name), &stray).unwrap();
    }
    let map: serde_json::Map<String, Value> = stray
        .iter()
        .map(|(name, _)| (name.clone(), shard.into()))
        .collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    std::fs::write(several.join("model.safetensors.index.json"), index).unwrap();
    let (extended, told, out) = extend(&several, "extended");
    assert_eq!(extended, expected);
    for name in [
        shard,
        "consolidated.safetensors",
        "model.safetensors.index.json",
    ] {
        assert!(told.contains(name), "{told}");
        assert!(!out.join(name).exists(), "{name}");
    }
}
