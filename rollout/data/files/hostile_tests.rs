//! Rows that nobody should have written, and what is said of them.

use super::tests::{config, file};
use super::*;
use crate::data::{Catalog, DataConfig, Example};

/// What a source of one file with this text gives, or the first thing that is said of it.
fn read(
    name: &str,
    text: impl AsRef<[u8]>,
    of: fn(FileConfig) -> SourceConfig,
) -> Result<Vec<Example>, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    let catalog = Catalog::open(&config(of(file(name))), folder.path(), "t");
    let rows = catalog.and_then(|catalog| catalog.held_out(&[]));
    rows.map_err(|error| error.to_string())
}

fn said(name: &str, text: impl AsRef<[u8]>, of: fn(FileConfig) -> SourceConfig) -> String {
    match read(name, text, of) {
        Ok(rows) => panic!("{name} was accepted: {rows:?}"),
        Err(said) => said,
    }
}

#[test]
fn null_fields_of_alpaca_rows_are_absent_ones() {
    let row = r#"{"instruction": "a", "input": null, "output": "b", "images": null, "system": null, "history": null, "videos": null, "id": null}"#;
    let rows = read("a.jsonl", row, SourceConfig::Alpaca).unwrap();
    assert_eq!(rows[0].fields["prompt"], "a");
    assert!(rows[0].images.is_empty() && rows[0].talk.history.is_empty());
    assert_eq!(rows[0].talk.system, None);
    for (row, place) in [
        (
            r#"{"instruction": null, "output": "b"}"#,
            "key `instruction` is missing",
        ),
        (
            r#"{"instruction": "a", "output": null}"#,
            "key `output` is missing",
        ),
        (
            r#"{"instruction": "a", "output": "  "}"#,
            "key `output` is empty",
        ),
        (
            r#"{"instruction": ["a"], "output": "b"}"#,
            "key `instruction` must be a string, is a list",
        ),
        (
            r#"{"instruction": "a", "output": "b", "images": [null]}"#,
            "key `images.0` holds no picture",
        ),
        (
            r#"{"instruction": "a", "output": "b", "images": [3]}"#,
            "key `images.0` must hold paths",
        ),
        (
            r#"{"instruction": "a", "output": "b", "input": ["c"]}"#,
            "key `input` must be a string, is a list",
        ),
        (
            r#"{"instruction": "<image><image>", "output": "b", "images": ["x.png"]}"#,
            "2 `<image>` placeholder(s), the row 1 picture(s)",
        ),
        (
            r#"{"instruction": "<image>", "output": "b", "images": []}"#,
            "1 `<image>` placeholder(s), the row 0 picture(s)",
        ),
        (
            r#"{"instruction": "a", "output": "b", "history": [["one", null]]}"#,
            "key `history.0` must be two strings",
        ),
        (
            r#"{"instruction": "a", "output": "b", "videos": ["x.mp4"]}"#,
            "key `videos`: videos are not read",
        ),
        ("5", "a row is a JSON object, this is a number"),
        ("[]", "a row is a JSON object, this is a list"),
        ("{\"instruction\": \"a\"", "not JSON"),
    ] {
        let text = format!("{{\"instruction\": \"a\", \"output\": \"b\"}}\n{row}\n");
        let said = said("a.jsonl", text, SourceConfig::Alpaca);
        assert!(
            said.contains("a.jsonl:2: ") && said.contains(place),
            "{row}: {said}"
        );
    }
}

#[test]
fn speakers_out_of_turn_are_named_by_their_place() {
    let one = |turns: &str| format!("{{\"conversations\": {turns}}}\n");
    let turn = |who: &str, words: &str| format!(r#"{{"from": "{who}", "value": "{words}"}}"#);
    let list = |turns: &[(&str, &str)]| {
        let turns: Vec<String> = turns.iter().map(|(who, words)| turn(who, words)).collect();
        one(&format!("[{}]", turns.join(", ")))
    };
    for (text, place) in [
        (
            list(&[("gpt", "b"), ("human", "a")]),
            "key `conversations.0`: `gpt` speaks out of turn",
        ),
        (
            list(&[("human", "a"), ("system", "s"), ("human", "b")]),
            "key `conversations.2`: `human` speaks out of turn",
        ),
        (
            list(&[("human", "a"), ("human", "b"), ("gpt", "c")]),
            "key `conversations.1`: `human` speaks out of turn",
        ),
        (
            list(&[("human", "a"), ("observation", "b")]),
            "key `conversations.1`: `observation` speaks out of turn",
        ),
        (
            list(&[("human", ""), ("gpt", "b")]),
            "key `conversations.0`: key `value` is empty",
        ),
        (list(&[("system", "s")]), "key `conversations`: nobody asks"),
        (one("[]"), "key `conversations`: nobody asks"),
        (
            list(&[("human", "a"), ("narrator", "b")]),
            "key `conversations.1`: speaker `narrator` is not known",
        ),
        (
            one("{}"),
            "key `conversations` must be a list, is an object",
        ),
        (one("[null]"), "key `conversations.0`: "),
        (
            one(r#"[{"from": null, "value": "a"}]"#),
            "key `conversations.0`: key `from` is missing",
        ),
        (
            one(r#"[{"role": "user", "content": "a"}]"#),
            "key `conversations.0`: key `from` is missing",
        ),
    ] {
        let said = said("a.jsonl", &text, SourceConfig::Sharegpt);
        assert!(
            said.contains("a.jsonl:1: ") && said.contains(place),
            "{text}: {said}"
        );
    }
}

#[test]
fn rows_with_videos_are_skipped_where_bad_rows_are() {
    let folder = tempfile::tempdir().unwrap();
    let turns = r#""conversations": [{"from": "human", "value": "<video>\nGo."}, {"from": "gpt", "value": "<svg/>"}]"#;
    let still = turns.replace("<video>\\n", "");
    let text = format!(
        "{{\"id\": 1, \"video\": \"icon/1.mp4\", {turns}}}\n{{\"id\": 2, {still}}}\n{{\"id\": 3, \"videos\": [\"a.mp4\"], {turns}}}\n{{\"id\": 4, \"video\": null, \"videos\": [], {still}}}\n"
    );
    std::fs::write(folder.path().join("sagoge.jsonl"), text).unwrap();
    let source = SourceConfig::Sharegpt(file("sagoge.jsonl"));
    let skipping = DataConfig {
        on_bad_row: OnBadRow::Skip,
        ..config(source)
    };
    let catalog = Catalog::open(&skipping, folder.path(), "t").unwrap();
    let kept = catalog.held_out(&[]).unwrap();
    let ids: Vec<&str> = kept.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["s/2", "s/4"]);
    let skipped: Vec<String> = catalog.skipped().iter().map(ToString::to_string).collect();
    assert_eq!(skipped.len(), 2);
    assert!(
        skipped[0].contains("sagoge.jsonl:1: key `video`: videos are not read"),
        "{}",
        skipped[0]
    );
    assert!(
        skipped[1].contains("sagoge.jsonl:3: key `videos`: videos are not read"),
        "{}",
        skipped[1]
    );
}

#[test]
fn rows_with_videos_are_left_out_and_counted_where_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let turns = r#""conversations": [{"from": "human", "value": "<video>\nGo."}, {"from": "gpt", "value": "<svg/>"}]"#;
    let still = turns.replace("<video>\\n", "");
    let text = format!(
        "{{\"id\": 1, \"video\": \"icon/1.mp4\", {turns}}}\n{{\"id\": 2, {still}}}\n{{\"id\": 3, \"videos\": [\"a.mp4\"], {turns}}}\n"
    );
    std::fs::write(folder.path().join("sagoge.jsonl"), &text).unwrap();
    let skipping = |videos| FileConfig {
        videos,
        ..file("sagoge.jsonl")
    };
    let open = |videos| {
        let source = SourceConfig::Sharegpt(skipping(videos));
        Catalog::open(&config(source), folder.path(), "t")
    };
    let catalog = open(VideoRows::Skip).unwrap();
    let summary = &catalog.summary()[0];
    assert_eq!((summary.videos, summary.train + summary.held_out), (2, 1));
    assert!(catalog.skipped().is_empty());
    let said = open(VideoRows::Refuse).unwrap_err().to_string();
    assert!(
        said.contains("sagoge.jsonl:1: key `video`: ") && said.contains("`videos: skip`"),
        "{said}"
    );
    // Other bad rows are bad all the same.
    std::fs::write(folder.path().join("sagoge.jsonl"), text + "{}\n").unwrap();
    assert!(
        open(VideoRows::Skip)
            .unwrap_err()
            .to_string()
            .contains("sagoge.jsonl:4: ")
    );
}

#[test]
fn tables_from_spreadsheets_are_read_as_they_are_saved() {
    let text = "\u{feff}\"id\",\"prompt\"\r\n1,\"a \"\"red\"\" dot,\r\nround\"\r\n\r\n2,b\r\n";
    let rows = read("a.csv", text, SourceConfig::Csv).unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].fields["prompt"], "a \"red\" dot,\r\nround");
    assert_eq!(
        (rows[1].id.as_str(), rows[1].fields["prompt"].as_str()),
        ("s/2", "b")
    );
    let said = |text: &[u8]| said("a.csv", text, SourceConfig::Csv);
    let open = said(b"id,prompt\n1,\"a\n2,b\n");
    assert!(
        open.contains("a.csv:2: a field in quotes that is not closed"),
        "{open}"
    );
    let bytes = said(b"id,prompt\n1,a\n2,\xff\xfe\n");
    assert!(bytes.contains("a.csv:3: not UTF-8"), "{bytes}");
    let empty = said(b"");
    assert!(
        empty.contains("a.csv") || empty.contains("none of 0 rows") || empty.contains("no row"),
        "{empty}"
    );
}

#[test]
fn marks_blank_lines_and_foreign_line_ends_are_passed_over() {
    let text = "\u{feff}{\"prompt\": \"a\", \"svg\": \"x\"}\r\n\r\n   \n{\"prompt\": \"b\", \"svg\": \"y\"}";
    let rows = read("a.jsonl", text, SourceConfig::Jsonl).unwrap();
    let prompts: Vec<&str> = rows
        .iter()
        .map(|row| row.fields["prompt"].as_str())
        .collect();
    assert_eq!(prompts, ["a", "b"]);
    let array = "\u{feff} [ {\"description\": \"a\", \"svg\": \"x\"} ,\n{\"description\": \"b\", \"svg\": \"y\"} ]\n";
    assert_eq!(read("a.json", array, SourceConfig::Sgp).unwrap().len(), 2);
    let said = said(
        "a.jsonl",
        b"{\"prompt\": \"a\xff\", \"svg\": \"x\"}",
        SourceConfig::Jsonl,
    );
    assert!(said.contains("a.jsonl:1: "), "{said}");
}

#[test]
fn a_column_that_is_not_there_is_named() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/files/fixtures");
    let mut source = file("vectorgym");
    source.fields = [("prompt".to_owned(), "captoin".to_owned())].into();
    let refused = Catalog::open(&config(SourceConfig::Parquet(source)), &fixtures, "t");
    let said = refused.unwrap_err().to_string();
    assert!(
        said.contains("key `captoin` (for `prompt`) is missing"),
        "{said}"
    );
    assert!(said.contains("row group"), "{said}");
}
