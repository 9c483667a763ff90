//! Rows of a JSONL source that are wrong: the run stops, or counts them and goes on.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::program::{Told, program, scratch, told, write, write_rows};
use super::tiny;

/// A tiny config whose drawings hold one bad line, the third.
fn with_line(name: &str, line: &str) -> PathBuf {
    let folder = scratch(name);
    let config = tiny::config(&folder);
    let text = std::fs::read_to_string(folder.join("drawings.jsonl")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(2, line);
    write(&folder, "drawings.jsonl", &lines.join("\n"));
    config
}

fn train(config: &PathBuf, flags: &[&str]) -> Told {
    let run = config.with_file_name("run");
    let short = ["--set", "stages.sft.steps=1", "--set", "stages.rl.steps=1"];
    told(
        program()
            .arg("train")
            .arg(config)
            .arg("--run-dir")
            .arg(run)
            .args(short)
            .args(flags),
    )
}

#[test]
fn a_bad_row_stops_the_run_with_file_and_line() {
    for (name, line, part) in [
        ("rows_json", "{\"prompt\": ", "not JSON"),
        ("rows_type", "{\"prompt\": 5}", "must be a string"),
        (
            "rows_image",
            "{\"prompt\": \"a\", \"image\": \"nowhere.png\"}",
            "nowhere.png",
        ),
        ("rows_empty", "{\"svg\": \"<svg/>\"}", "prompt"),
    ] {
        let config = with_line(name, line);
        train(&config, &[]).refused(2, &["drawings.jsonl:3", part]);
        told(program().arg("check").arg(&config)).refused(2, &["drawings.jsonl:3", part]);
    }
}

#[test]
fn a_pattern_is_of_the_configs_folder_however_the_config_is_named() {
    let config = with_line("rows_pattern", "{\"prompt\": ");
    let pattern = "data.sources.drawings.path=draw*.jsonl";
    for name in ["tiny.yaml", "./tiny.yaml"] {
        let mut check = program();
        check.current_dir(config.parent().unwrap());
        check.args(["check", name, "--set", pattern]);
        told(&mut check).refused(2, &["drawings.jsonl:3"]);
    }
}

#[test]
fn a_row_whose_reference_does_not_render_stops_the_run_too() {
    let line = "{\"prompt\": \"a hole\", \"svg\": \"<svg\"}";
    let config = with_line("rows_reference", line);
    train(&config, &[]).refused(2, &["drawings.jsonl:3", "reference SVG"]);
    let skipping = train(&config, &["--set", "data.on_bad_row=skip"]).fine();
    assert!(
        skipping.err.contains("drawings.jsonl:3"),
        "{}",
        skipping.err
    );
}

#[test]
fn skipped_rows_are_counted_and_reported() {
    let config = with_line("rows_skipped", "{\"prompt\": ");
    let done = train(&config, &["--set", "data.on_bad_row=skip"]).fine();
    assert!(
        done.err.contains("drawings.jsonl:3") && done.err.contains("bad rows left out: 1"),
        "{}",
        done.err
    );
    let log = std::fs::read_to_string(config.with_file_name("run").join("train.log")).unwrap();
    assert!(log.contains("drawings.jsonl:3"), "{log}");
    let flags = ["--set", "data.on_bad_row=skip"];
    let check = told(program().arg("check").arg(&config).args(flags)).fine();
    assert!(check.err.contains("bad rows left out: 1"), "{}", check.err);
}

#[test]
fn a_row_without_what_its_stages_need_is_a_bad_row() {
    let no_reference = r#"{"id": "odd", "prompt": "a hole", "target": "<svg/>"}"#;
    let no_target = r#"{"id": "odd", "prompt": "a hole"}"#;
    for (name, line, part) in [
        ("rows_reference", no_reference, "reference"),
        ("rows_target", no_target, "target"),
    ] {
        let config = with_line(name, line);
        told(program().arg("check").arg(&config)).refused(2, &["drawings.jsonl:3", part]);
        let skipping = train(&config, &["--set", "data.on_bad_row=skip"]).fine();
        assert!(
            skipping.err.contains("bad rows left out: 1"),
            "{}",
            skipping.err
        );
    }
}

/// Names of files, and what is in them that is no picture.
#[test]
fn pictures_that_are_none_are_bad_rows() {
    let mut bomb = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bomb.extend([0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 8, 6, 0, 0, 0]);
    let sum = crc32fast::hash(&bomb[12..]);
    bomb.extend(sum.to_be_bytes());
    bomb.extend(b"\0\0\0\x02IDATx\x9c");
    bomb.extend(crc32fast::hash(b"IDATx\x9c").to_be_bytes());
    let photo = |name: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parity/photos/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    };
    let (png, jpeg) = (photo("rgb_clear.png"), photo("progressive.jpg"));
    let mut torn = png.clone();
    let middle = torn.len() - 30;
    torn[middle] ^= 0xff;
    for (name, bytes, part) in [
        ("rows_torn", &torn[..], "cannot read PNG"),
        ("rows_png", &png[..png.len() - 20], "cut off"),
        ("rows_jpeg", &jpeg[..jpeg.len() / 2], "cut off"),
        ("rows_blank", b"", "an empty file"),
        ("rows_webp", b"RIFF\x10\0\0\0WEBPVP8 ", "cannot read WebP"),
        ("rows_bomb", &bomb, "50000x50000 pixels"),
    ] {
        let line = "{\"prompt\": \"a\", \"image\": \"broken.png\", \"target\": \"<svg/>\"}";
        let config = with_line(name, line);
        std::fs::write(config.with_file_name("broken.png"), bytes).unwrap();
        let check = told(program().arg("check").arg(&config));
        check.refused(2, &["drawings.jsonl:3", "broken.png", part]);
    }
}

#[test]
fn keys_that_nothing_uses_are_named_once() {
    let folder = scratch("unused_keys");
    let model = tiny::tiny().model();
    let data = write_rows(
        &folder,
        "rows.jsonl",
        &[
            json!({"id": 1, "prompt": "a", "completion": "b", "promptt": "c", "lang": "en"}),
            json!({"id": 2, "prompt": "a", "completion": "b", "lang": "de"}),
        ],
    );
    let config = folder.join("rewards.yaml");
    std::fs::write(
        &config,
        format!("model: {{tokenizer: {}, init: {{}}}}\n", tiny::TOKENIZER)
            + "data: {sources: {shapes: {format: shapes, task: draw}}}\n\
         tasks: {draw: {rubric: {rewards: [{type: format}]}}}\nstages: [{algorithm: grpo}]\n",
    )
    .unwrap();
    let encoder = crate::support::fixture("parity/encoders/bge_m3");
    let texts = write_rows(
        &folder,
        "texts.jsonl",
        &[json!({"id": 1, "token_ids": [0, 5, 2], "lang": "en"})],
    );
    let tell = |words: &str, (flag, value): (&str, &Path), (rows, file): (&str, &Path)| {
        let mut command = program();
        command.args(words.split_whitespace()).arg(flag).arg(value);
        command.arg(rows).arg(file).arg("--out");
        let out = folder.join(words.replace(' ', "_"));
        told(command.arg(out)).err
    };
    let (model, config) = (("--model", model.as_path()), ("--config", config.as_path()));
    let short = "generate --max-new-tokens 1";
    for (words, by, of, named) in [
        ("logprobs", model, ("--data", &data), "promptt, lang"),
        (
            short,
            model,
            ("--prompts", &data),
            "completion, promptt, lang",
        ),
        ("reward", config, ("--data", &data), "promptt, lang"),
        ("embed", ("--model", &*encoder), ("--texts", &texts), "lang"),
        // It goes on to refuse a model that sees nothing.
        (
            "refine --rounds 1 --max-new-tokens 1",
            model,
            ("--prompts", &data),
            "completion, promptt, lang",
        ),
    ] {
        let said = tell(words, by, (of.0, of.1));
        let line = format!("{}: not used: {named}\n", of.1.display());
        assert!(said.contains(&line), "{words}: {said}");
    }
    // Asked to be quiet, it is.
    let said = tell(&format!("{short} -q"), model, ("--prompts", &data));
    assert!(!said.contains("not used"), "{said}");
}
