//! Tables as the libraries of the field write them, and text as people keep it.

use std::path::{Path, PathBuf};

use rewards::ImageSource;

use super::tests::{config, file};
use super::*;
use crate::data::{Catalog, DataConfig, Example, RowUse};

fn tables() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/files/fixtures/tables")
}

/// The rows of a source of the fixtures, whose task's templates insert `names`, and the keys that nothing uses.
fn rows_with(source: SourceConfig, names: &[&str]) -> Result<(Vec<Example>, Vec<String>), String> {
    opened(&tables(), source, names)
}

fn opened(
    base: &Path,
    source: SourceConfig,
    names: &[&str],
) -> Result<(Vec<Example>, Vec<String>), String> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let rows = RowUse {
        check: std::sync::Arc::new(|_: &str, _: &str, _: &Example| Ok(())),
        inserted: [("t".to_owned(), names)].into(),
        systems: ["t".to_owned()].into(),
    };
    let data: DataConfig = config(source);
    let catalog = Catalog::open_checked(&data, (base, "t"), rows, &mut |_, _, _| {});
    let catalog = catalog.map_err(|error| error.to_string())?;
    let unused = catalog.summary()[0].unused.clone();
    let rows = catalog.held_out(&[]).map_err(|error| error.to_string())?;
    Ok((rows, unused))
}

fn mapped(path: &str, fields: &[(&str, &str)]) -> FileConfig {
    let fields = fields
        .iter()
        .map(|(ours, key)| ((*ours).to_owned(), (*key).to_owned()));
    FileConfig {
        fields: fields.collect(),
        ..file(path)
    }
}

#[test]
fn every_codec_is_read_and_a_column_of_bytes_that_nothing_uses_is_not_looked_at() {
    for codec in ["none", "snappy", "gzip", "brotli", "lz4", "zstd"] {
        let source = SourceConfig::Parquet(file(&format!("{codec}.parquet")));
        let (rows, unused) = rows_with(source, &[]).unwrap();
        let prompts: Vec<&str> = rows
            .iter()
            .map(|row| row.fields["prompt"].as_str())
            .collect();
        assert_eq!(prompts, ["dot 0", "dot 1"], "{codec}");
        assert!(rows[1].reference.svg.as_ref().unwrap().contains("blue"));
        assert_eq!(unused, ["thumb"]);
    }
    let used = SourceConfig::Parquet(mapped("gzip.parquet", &[("text", "thumb")]));
    let said = rows_with(used, &[]).unwrap_err();
    assert!(
        said.contains("row group 0, row 0: key `thumb` (for `text`) must be a string, is bytes"),
        "{said}"
    );
}

#[test]
fn nested_columns_are_read_when_they_are_used() {
    for (name, source) in [
        (
            "nested.parquet",
            SourceConfig::Parquet as fn(FileConfig) -> SourceConfig,
        ),
        ("nested.feather", SourceConfig::Arrow),
    ] {
        let fields = [
            ("svg", "reward_model.ground_truth"),
            ("id", "n"),
            ("tag", "tags.0"),
        ];
        let first = FileConfig {
            min_length: 0,
            ..mapped(name, &fields)
        };
        let said = rows_with(source(first), &[]).unwrap_err();
        assert!(said.contains("key `n` (for `id`) is missing"), "{said}");
        let fields = [("svg", "reward_model.ground_truth")];
        let (rows, unused) =
            rows_with(source(mapped(name, &fields)), &["score", "tags", "map"]).unwrap();
        assert_eq!(rows[0].talk.system.as_deref(), Some("Be brief."));
        assert_eq!(rows[0].fields["prompt"], "<image>Draw it.");
        assert_eq!(rows[0].fields["score"], "0.5");
        assert!(
            !rows[1].fields.contains_key("score"),
            "what is no number is missing"
        );
        assert_eq!(
            (
                rows[0].fields["tags"].as_str(),
                rows[0].fields["map"].as_str()
            ),
            ("[\"a\",\"b\"]", "{\"a\":1}")
        );
        assert!(
            matches!(&rows[0].images[..], [ImageSource::Png(bytes)] if bytes.starts_with(b"\x89PNG"))
        );
        assert_eq!(
            rows[1].images,
            [ImageSource::Path(tables().join("webp/lossless.webp"))]
        );
        assert!(rows[0].reference.image.is_some() && rows[1].reference.image.is_none());
        assert!(rows[1].reference.svg.as_ref().unwrap().contains("blue"));
        let system = SYSTEM;
        assert_eq!(unused, ["raw", "n", "kind", "when", system]);
    }
    let of = |fields: &[(&str, &str)]| {
        rows_with(SourceConfig::Parquet(mapped("nested.parquet", fields)), &[])
    };
    let said = of(&[("text", "when")]).unwrap_err();
    assert!(
        said.contains("column `when`: values of the type Timestamp"),
        "{said}"
    );
    let said = of(&[("text", "tags")]).unwrap_err();
    assert!(
        said.contains("key `tags` (for `text`) must be a string, is a list"),
        "{said}"
    );
    let (rows, _) = of(&[("text", "kind"), ("images", "raw")]).unwrap();
    assert_eq!(rows[1].reference.text.as_deref(), Some("icon"));
    assert!(matches!(rows[1].images[..], [ImageSource::Png(_)]));
    let said = rows_with(SourceConfig::Arrow(file("categories.feather")), &[]).unwrap_err();
    assert!(
        said.contains("categories.feather") && said.contains("categories"),
        "{said}"
    );
}

#[test]
fn datasets_on_disk_are_read_by_every_format() {
    let (rows, _) = rows_with(
        SourceConfig::Arrow(mapped("saved", &[("images", "image")])),
        &[],
    )
    .unwrap();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[4].fields["prompt"], "dot 4");
    let ImageSource::Png(bytes) = &rows[4].images[0] else {
        panic!("the picture is in the table");
    };
    assert_eq!(svg::Raster::from_png(bytes, 16).unwrap().rgba[4], 4);
    // The layout is the format's, what holds the rows is seen.
    let (rows, _) = rows_with(SourceConfig::Jsonl(file("saved")), &[]).unwrap();
    assert_eq!(rows.len(), 5);
    let said = rows_with(SourceConfig::Arrow(file("splits")), &[]).unwrap_err();
    assert!(
        said.contains("splits train, test") && said.contains("splits/train"),
        "{said}"
    );
    let (rows, unused) = rows_with(SourceConfig::Parquet(file("splits/test")), &[]).unwrap();
    assert_eq!(
        (rows.len(), rows[0].fields["prompt"].as_str()),
        (1, "dot 1")
    );
    assert!(unused.is_empty());
}

#[test]
fn a_cut_table_is_no_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    for (name, source) in [
        (
            "gzip.parquet",
            SourceConfig::Parquet as fn(FileConfig) -> SourceConfig,
        ),
        ("saved/data-00000-of-00002.arrow", SourceConfig::Arrow),
        ("nested.feather", SourceConfig::Arrow),
    ] {
        let whole = std::fs::read(tables().join(name)).unwrap();
        let base = Path::new(name).file_name().unwrap().to_str().unwrap();
        std::fs::write(folder.path().join(base), &whole[..whole.len() / 2]).unwrap();
        let said = opened(folder.path(), source(file(base)), &[]).unwrap_err();
        assert!(
            said.contains(base) && said.contains("cannot read"),
            "{said}"
        );
    }
}

/// The prompts of a source of one file with these bytes, or what is said of it.
fn prompts(
    name: &str,
    bytes: impl AsRef<[u8]>,
    of: fn(FileConfig) -> SourceConfig,
) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    let (rows, _) = opened(folder.path(), of(file(name)), &[])?;
    Ok(rows
        .into_iter()
        .map(|row| row.fields["prompt"].clone())
        .collect())
}

#[test]
fn json_is_read_as_python_reads_it() {
    let of = |text: &str| prompts("a.jsonl", text, SourceConfig::Jsonl);
    let row = r#"{"prompt": "a", "x": NaN, "y": [Infinity, -Infinity], "z": {"NaN": "NaN"}}"#;
    assert_eq!(of(row).unwrap(), ["a"]);
    assert_eq!(
        of(r#"{"prompt": "NaN \"Infinity", "x": NaN}"#).unwrap(),
        ["NaN \"Infinity"]
    );
    assert_eq!(
        of(r#"{"prompt": "a \ud83d b", "x": 1}"#).unwrap(),
        ["a \u{fffd} b"]
    );
    assert_eq!(
        of(r#"{"prompt": "\udc00\ud83d\ude00", "x": NaN}"#).unwrap(),
        ["\u{fffd}\u{1f600}"]
    );
    let said = of(r#"{"prompt": NaN}"#).unwrap_err();
    assert!(said.contains("none of prompt"), "{said}");
    let said = of("{\"prompt\": nan}").unwrap_err();
    assert!(said.contains("a.jsonl:1: not JSON"), "{said}");
}

#[test]
fn a_list_may_stand_in_an_object_under_data() {
    let of = |text: &str| prompts("a.json", text, SourceConfig::Jsonl);
    let rows = r#"[{"prompt": "a", "svg": "x]"}, {"prompt": "b"}]"#;
    for text in [
        format!("{{\"data\": {rows}}}"),
        format!(
            "\u{feff}{{\n \"version\": \"1\", \"about\": [1, {{\"data\": []}}],\n \"data\": {rows},\n \"n\": [2]}}\n"
        ),
        rows.to_owned(),
    ] {
        assert_eq!(of(&text).unwrap(), ["a", "b"], "{text}");
    }
    let said = of("{\"data\": [{\"prompt\": \"a\"},\n{}]}").unwrap_err();
    assert!(said.contains("a.json:2: none of prompt"), "{said}");
    // Rows, one a line, that have such a key of their own.
    let lines = "{\"prompt\": \"a\", \"data\": [1]}\n{\"prompt\": \"b\", \"data\": [2]}\n";
    assert_eq!(of(lines).unwrap(), ["a", "b"]);
}

#[test]
fn packed_text_and_wide_text_are_read_by_place() {
    use std::io::Write;
    let text = "{\"prompt\": \"ä\"}\n\n{\"prompt\": \"b\"}\n";
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(text.as_bytes()).unwrap();
    let packed = writer.finish().unwrap();
    assert_eq!(
        prompts("a.jsonl.gz", &packed, SourceConfig::Jsonl).unwrap(),
        ["ä", "b"]
    );
    let wide: Vec<u8> = "\u{feff}prompt;svg\r\nä;x\r\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    assert_eq!(prompts("a.csv", wide, SourceConfig::Csv).unwrap(), ["ä"]);
    let said = prompts("a.jsonl", "PK\u{3}\u{4}", SourceConfig::Jsonl).unwrap_err();
    assert!(said.contains("zip archive: unpack it"), "{said}");
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(b"<svg/>").unwrap();
    let svgz = writer.finish().unwrap();
    assert_eq!(
        prompts("red-dot.svgz", svgz, SourceConfig::SvgFolder).unwrap(),
        ["red dot"]
    );
}

#[test]
fn the_sign_between_fields_is_seen_or_given() {
    let of = |text: &str| prompts("a.csv", text, SourceConfig::Csv);
    for text in [
        "prompt,svg\na,x\n",
        "prompt;svg\na;x,y\n",
        "prompt\tsvg\na\tx;y\n",
        "\"prompt\"|\"s,v;g,,\"\na|x\n",
        "prompt\na\n",
    ] {
        assert_eq!(of(text).unwrap(), ["a"], "{text}");
    }
    assert_eq!(
        prompts("a.tsv", "prompt\tb;c;d\na\t\n", SourceConfig::Csv).unwrap(),
        ["a"]
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.csv"), "prompt#a,b\nx,y#z\n").unwrap();
    let given = FileConfig {
        delimiter: Some('#'),
        ..file("a.csv")
    };
    let (rows, unused) = opened(folder.path(), SourceConfig::Csv(given), &[]).unwrap();
    assert_eq!(
        (rows[0].fields["prompt"].as_str(), unused),
        ("x,y", vec!["a,b".to_owned()])
    );
}

#[test]
fn keys_that_nothing_uses_are_named_once_and_templates_insert_any() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "{\"description\": \"a\", \"svg\": \"x\", \"style\": \"flat\", \"n\": 3}\n\
                {\"description\": \"b\", \"svg\": \"y\", \"n\": 4, \"other\": null, \"style\": \"line\"}\n";
    std::fs::write(folder.path().join("a.jsonl"), rows).unwrap();
    let source = || SourceConfig::Sgp(file("a.jsonl"));
    let (_, unused) = opened(folder.path(), source(), &["prompt"]).unwrap();
    assert_eq!(unused, ["style", "n", "other"]);
    let (rows, unused) = opened(folder.path(), source(), &["prompt", "style", "n"]).unwrap();
    assert_eq!(unused, ["other"]);
    assert_eq!(
        (
            rows[1].fields["style"].as_str(),
            rows[1].fields["n"].as_str()
        ),
        ("line", "4")
    );
    let turns = r#"{"messages": [{"role": "user", "content": "a", "mood": "kind"}], "topic": "b"}"#;
    std::fs::write(folder.path().join("b.jsonl"), turns).unwrap();
    let source = SourceConfig::Messages(file("b.jsonl"));
    let (_, unused) = opened(folder.path(), source, &[]).unwrap();
    assert_eq!(unused, ["topic", "messages.*.mood"]);
}
