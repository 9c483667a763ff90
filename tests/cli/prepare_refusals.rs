//! `data prepare` on input that attacks, flags that make no sense, and a process that is killed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::prepare::{circles, corpus, prepare, report, text};
use super::program::{program, rows, scratch, write, write_rows};
use super::tiny::{TOKENIZER, drawing};

#[test]
fn hostile_rows_are_rejected_with_their_line_and_the_rest_is_prepared() {
    let folder = scratch("prepare_hostile");
    let good = drawing("<circle cx='30' cy='30' r='9'/>");
    let laughs: String = (1..9)
        .map(|n| format!("<!ENTITY e{n} \"{}\">", format!("&e{};", n - 1).repeat(10)))
        .collect();
    let bomb = format!(
        "<!DOCTYPE svg [<!ENTITY e0 \"ha\">{laughs}]>{}",
        drawing("<text>&e8;</text>")
    );
    let row = |svg: &str| json!({"prompt": "a", "svg": svg}).to_string().into_bytes();
    let lines: Vec<(Vec<u8>, &str)> = vec![
        (row(&good), ""),
        (row(&bomb), "entity_declaration"),
        (
            row(&drawing(&format!(
                "{}{}",
                "<g>".repeat(30_000),
                "</g>".repeat(30_000)
            ))),
            "too_many_elements",
        ),
        (row(&drawing(&"<g>".repeat(60_000))), "malformed_xml"),
        (
            row(&drawing(&format!(
                "{}<circle r='9'/>{}",
                "<g>".repeat(5_000),
                "</g>".repeat(5_000)
            ))),
            "too_deep",
        ),
        (row(&drawing("\u{0}")), "malformed_xml"),
        (row(&drawing(&" ".repeat(3_000_000))), "too_many_bytes"),
        (
            row(&drawing("<g id='a'><use href='#a'/></g><use href='#a'/>")),
            "reference_cycle",
        ),
        (
            row(&drawing(
                "<image href='file:///etc/passwd' width='9' height='9'/><circle r='9'/>",
            )),
            "embedded_picture",
        ),
        (
            row(&drawing(
                "<foreignObject width='9' height='9'/><circle r='9'/>",
            )),
            "foreign_object",
        ),
        (
            row(&drawing(
                "<circle r='9'><animate attributeName='r' to='2' dur='1s'/></circle>",
            )),
            "animation",
        ),
        (
            row(
                "<svg xmlns='http://www.w3.org/2000/svg' width='1e9' height='1e9'><circle r='9'/></svg>",
            ),
            "blank",
        ),
        (row(&drawing("")), "blank"),
        (row("no drawing"), "malformed_xml"),
        (row("  "), "bad_row"),
        (b"{\"svg\": \"<svg \xff\xfe/>\"}".to_vec(), "bad_row"),
        (b"{\"svg\": 5}".to_vec(), "bad_row"),
        (b"{\"prompt\": \"a\"}".to_vec(), "bad_row"),
        (b"[1, 2]".to_vec(), "bad_row"),
        (b"{\"svg\": \"<svg".to_vec(), "bad_row"),
        (
            row(&drawing("<rect x='5' y='5' width='30' height='9'/>")),
            "",
        ),
    ];
    let bytes: Vec<Vec<u8>> = lines
        .iter()
        .map(|(line, _)| [line, &b"\n"[..]].concat())
        .collect();
    let from = folder.join("corpus.jsonl");
    std::fs::write(&from, bytes.concat()).unwrap();
    let out = folder.join("out");
    let begin = Instant::now();
    prepare(&from, &out, "").fine();
    assert!(begin.elapsed() < Duration::from_secs(60));
    let mut reasons: BTreeMap<u64, String> = BTreeMap::new();
    for row in rows(&out.join("rejected.jsonl")) {
        assert!(row["detail"].as_str().unwrap().len() < 400, "{row}");
        assert!(
            row["place"].as_str().unwrap().contains("corpus.jsonl:"),
            "{row}"
        );
        reasons.insert(
            row["line"].as_u64().unwrap(),
            row["reason"].as_str().unwrap().to_owned(),
        );
    }
    for (at, (_, expected)) in lines.iter().enumerate() {
        let found = reasons.get(&(at as u64 + 1)).map_or("", String::as_str);
        assert_eq!(found, *expected, "line {}", at + 1);
    }
    assert_eq!(rows(&out.join("train.jsonl")).len(), 2);
}

#[test]
fn files_that_are_no_text_are_bad_rows_of_a_folder() {
    let folder = scratch("prepare_folder");
    let from = folder.join("icons");
    std::fs::create_dir(&from).unwrap();
    write(
        &from,
        "red_dot.svg",
        &drawing("<circle r='19' fill='red'/>"),
    );
    std::fs::write(from.join("latin.svg"), b"<svg>\xe9</svg>").unwrap();
    write(&from, "empty.svg", "");
    write(&from, "notes.txt", "not read");
    let out = folder.join("out");
    prepare(&from, &out, "").fine();
    let kept = rows(&out.join("train.jsonl"));
    assert_eq!(
        (kept.len(), &kept[0]["prompt"], &kept[0]["id"]),
        (1, &json!("red dot"), &json!("red_dot"))
    );
    assert_eq!(report(&out)["rejected"]["bad_row"], json!(2));
}

#[test]
fn flags_that_make_no_sense_are_refused_before_anything_is_written() {
    let (from, out) = corpus("prepare_flags", &[("one", circles(1))]);
    for (flags, part) in [
        ("--held-out 1.5", "--held-out"),
        ("--held-out 1", "below 1"),
        ("--held-out NaN", "--held-out"),
        ("--side 0", "--side"),
        ("--side 5000", "4096"),
        ("--decimals 7", "--decimals"),
        ("--min-ssim 2", "--min-ssim"),
        ("--near-duplicates 9", "--near-duplicates"),
        ("--min-colour-entropy 10", "0 to 9"),
        ("--min-tokens 5", "--tokenizer"),
        ("--tokenizer /no/such --min-tokens 5", "/no/such"),
        ("--near-duplicates 2 --keep-duplicates", "--keep-duplicates"),
        ("--format tar", "svg_folder"),
        ("--threads 0", "--threads"),
        ("--min-entropy 2", "--min-colour-entropy"),
    ] {
        prepare(&from, &out, flags).refused(2, &[part]);
    }
    let swapped = format!("--tokenizer {TOKENIZER} --min-tokens 9 --max-tokens 8");
    prepare(&from, &out, &swapped).refused(2, &["--min-tokens 9 is more than --max-tokens 8"]);
    prepare(&from.with_file_name("none.jsonl"), &out, "").refused(2, &["--from", "none.jsonl"]);
    let odd = write(from.parent().unwrap(), "corpus.tar", "");
    prepare(&odd, &out, "").refused(2, &["--format"]);
    assert!(!out.exists(), "nothing is written");
    std::fs::create_dir(&out).unwrap();
    write(&out, "mine.txt", "precious");
    prepare(&from, &out, "").refused(2, &["is not empty", "--overwrite"]);
    prepare(&from, &out, "--overwrite").fine();
    assert_eq!(text(out.join("mine.txt")), "precious");
}

/// Rows stand aside until all are judged, so that what lies in the folder is whole.
#[test]
fn a_preparation_that_is_killed_leaves_nothing_that_looks_finished() {
    let folder = scratch("prepare_killed");
    let bar = |at: usize| {
        let svg = drawing(&format!(
            "<rect x='{}' y='{}' width='{}' height='7'/>",
            at % 7,
            at % 50,
            9 + at % 40
        ));
        json!({"id": at, "prompt": "a bar", "svg": svg})
    };
    let from = write_rows(
        &folder,
        "corpus.jsonl",
        &(0..3000).map(bar).collect::<Vec<_>>(),
    );
    let out = folder.join("out");
    let start = || {
        let mut command = program();
        command.args([
            "data",
            "prepare",
            "-q",
            "--threads",
            "1",
            "--overwrite",
            "--from",
        ]);
        let mut child = command.arg(&from).arg("--out").arg(&out).spawn().unwrap();
        let begin = Instant::now();
        let begun =
            || std::fs::metadata(out.join("train.jsonl.partial")).is_ok_and(|file| file.len() > 0);
        while !begun() && child.try_wait().unwrap().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(120));
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        assert!(
            !child.wait().unwrap().success(),
            "it was killed before its end"
        );
    };
    start();
    for name in ["train.jsonl", "rejected.jsonl", "report.json"] {
        assert!(!out.join(name).exists(), "{name}");
    }
    let few = write_rows(&folder, "few.jsonl", &[bar(1)]);
    // What was left aside does not stand in the way, and goes.
    prepare(&few, &out, "").fine();
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(&out).unwrap().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["rejected.jsonl", "report.json", "train.jsonl"]);
    let before = text(out.join("train.jsonl"));
    start();
    assert_eq!(
        text(out.join("train.jsonl")),
        before,
        "the earlier preparation is whole"
    );
    assert_eq!(report(&out)["rows"], json!(1));
}
