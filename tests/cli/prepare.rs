//! `data prepare`: what each filter leaves out, the split, preparing twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, program, rows, scratch, told, write_rows};
use super::tiny::{TOKENIZER, drawing};

/// Runs the command.
pub fn prepare(from: &Path, out: &Path, flags: &str) -> Told {
    let mut command = program();
    command.args(["data", "prepare", "--from"]);
    command.arg(from).arg("--out").arg(out);
    told(command.args(flags.split_whitespace()))
}

/// A corpus in a folder of its own, and where it is prepared to.
pub fn corpus(name: &str, svgs: &[(&str, String)]) -> (PathBuf, PathBuf) {
    let folder = scratch(name);
    let rows: Vec<Value> = svgs
        .iter()
        .map(|(id, svg)| json!({"id": id, "prompt": format!("a {id}"), "svg": svg}))
        .collect();
    let from = write_rows(&folder, "corpus.jsonl", &rows);
    (from, folder.join("out"))
}

/// A file's text.
pub fn text(path: PathBuf) -> String {
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The preparation's report.
pub fn report(out: &Path) -> Value {
    serde_json::from_str(&text(out.join("report.json"))).unwrap()
}

/// Ids of the rows kept, and reasons by the ids of those left out.
fn outcome(out: &Path) -> (Vec<String>, BTreeMap<String, String>) {
    let of = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let kept = rows(&out.join("train.jsonl"));
    let rejected = rows(&out.join("rejected.jsonl"));
    let kept = kept.iter().map(|row| of(row, "id")).collect();
    let pairs = rejected
        .iter()
        .map(|row| (of(row, "id"), of(row, "reason")));
    (kept, pairs.collect())
}

#[track_caller]
fn judged(out: &Path, kept: &[&str], rejected: &[(&str, &str)]) {
    let (found, reasons) = outcome(out);
    assert_eq!(found, kept, "{reasons:?}");
    let expected = rejected
        .iter()
        .map(|(id, why)| ((*id).to_owned(), (*why).to_owned()));
    assert_eq!(reasons, expected.collect());
}

/// Circles in a row, `count` of them.
pub fn circles(count: usize) -> String {
    let circle = |at: usize| {
        format!(
            "<circle cx='{}' cy='{}' r='3'/>",
            8 * (at % 8) + 4,
            8 * (at / 8) + 4
        )
    };
    drawing(&(0..count).map(circle).collect::<String>())
}

/// Upright stripes of these colours.
fn stripes(colours: &[&str]) -> String {
    let width = 64.0 / colours.len() as f64;
    let stripe = |(at, colour): (usize, &&str)| {
        format!(
            "<rect x='{}' width='{width}' height='64' fill='{colour}'/>",
            at as f64 * width
        )
    };
    drawing(&colours.iter().enumerate().map(stripe).collect::<String>())
}

#[test]
fn rows_come_out_normalised_with_everything_else_as_it_was() {
    let folder = scratch("prepare_form");
    let row = json!({
        "name": "x", "words": "a dot", "n": [1, {"a": null}], "drawing":
        "\u{feff} <!-- c --><svg xmlns='http://www.w3.org/2000/svg' width='32' height='32'><g transform='translate(1 1)'><circle cx='9.123456' cy='9' r='5' style='fill:red'/></g></svg>",
    });
    let from = write_rows(&folder, "rows.jsonl", &[row]);
    let out = folder.join("out");
    prepare(&from, &out, "--svg-field drawing --prompt-field words").fine();
    let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128"><circle cx="40.49" cy="40" r="20" fill="red"/></svg>"#;
    let expected =
        json!({"id": "1", "name": "x", "prompt": "a dot", "n": [1, {"a": null}], "svg": svg});
    assert_eq!(rows(&out.join("train.jsonl")), [expected]);
    let report = report(&out);
    assert_eq!(report["accepted"], json!({"train": 1, "held_out": 0}));
    assert!(report["ssim"]["median"].as_f64().unwrap() > 0.99);
}

#[test]
fn tokens_are_bounded_on_both_sides() {
    let (from, out) = corpus(
        "prepare_tokens",
        &[
            ("one", circles(1)),
            ("ten", circles(10)),
            ("sixty", circles(60)),
        ],
    );
    let all = out.with_file_name("all");
    prepare(&from, &all, &format!("--tokenizer {TOKENIZER}")).fine();
    let lengths = &report(&all)["tokens"];
    assert_eq!(lengths["count"], json!(3));
    let (middle, longest) = (
        lengths["median"].as_u64().unwrap(),
        lengths["longest"].as_u64().unwrap(),
    );
    let exactly = format!("--tokenizer {TOKENIZER} --min-tokens {middle} --max-tokens {middle}");
    prepare(&from, &out, &exactly).fine();
    judged(
        &out,
        &["ten"],
        &[("one", "too_short"), ("sixty", "too_long")],
    );
    let rejected = rows(&out.join("rejected.jsonl"));
    assert_eq!(
        rejected[1]["detail"],
        json!(format!("{longest} tokens: at most {middle}"))
    );
    assert_eq!(
        (&rejected[1]["line"], &rejected[1]["id"]),
        (&json!(3), &json!("sixty"))
    );
}

#[test]
fn colour_entropy_tells_flat_drawings_from_colourful_ones() {
    let svgs = [
        ("two", stripes(&["red", "blue"])),
        ("four", stripes(&["red", "lime", "blue", "black"])),
        (
            "eight",
            stripes(&[
                "red", "lime", "blue", "black", "white", "yellow", "cyan", "magenta",
            ]),
        ),
    ];
    let (from, out) = corpus("prepare_entropy", &svgs);
    // Equal stripes of 2, 4 and 8 colours have 1, 2 and 3 bits.
    for (bits, kept) in [
        ("0.99", &["two", "four", "eight"][..]),
        ("1.99", &["four", "eight"]),
        ("2.99", &["eight"]),
        ("3.01", &[]),
    ] {
        prepare(
            &from,
            &out,
            &format!("--overwrite --min-colour-entropy {bits}"),
        )
        .fine();
        let (found, reasons) = outcome(&out);
        assert_eq!(found, kept);
        assert!(
            reasons.values().all(|reason| reason == "colour_entropy"),
            "{reasons:?}"
        );
    }
}

#[test]
fn duplicates_are_found_behind_other_code_and_near_ones_when_asked_for() {
    let circle = |radius: f64, colour: &str| {
        drawing(&format!(
            "<circle cx='30' cy='34' r='{radius}' fill='{colour}'/>"
        ))
    };
    let grouped = drawing(
        "<title>x</title><g transform='translate(10 14)'><circle id='a' cx='20' cy='20' r='12' style='fill:red'/></g>",
    );
    let svgs = [
        ("first", circle(12.0, "red")),
        ("same", grouped),
        ("wider", circle(12.4, "red")),
        ("green", circle(12.0, "green")),
        (
            "bar",
            drawing("<rect x='4' y='50' width='56' height='6' fill='red'/>"),
        ),
    ];
    let (from, out) = corpus("prepare_duplicates", &svgs);
    prepare(&from, &out, "").fine();
    judged(
        &out,
        &["first", "wider", "green", "bar"],
        &[("same", "duplicate")],
    );
    prepare(&from, &out, "--overwrite --near-duplicates 3").fine();
    judged(
        &out,
        &["first", "green", "bar"],
        &[("same", "duplicate"), ("wider", "near_duplicate")],
    );
    prepare(&from, &out, "--overwrite --keep-duplicates").fine();
    judged(&out, &["first", "same", "wider", "green", "bar"], &[]);
}

#[test]
fn a_form_that_looks_different_is_refused_with_its_similarity() {
    let fine =
        drawing("<path d='M10.3 10.4l9.3 21.7 12.4-17.6 3.3 8.3z' fill='none' stroke='black'/>");
    let coarse = drawing("<rect x='8' y='8' width='48' height='48'/>");
    let (from, out) = corpus("prepare_ssim", &[("fine", fine), ("coarse", coarse)]);
    // On a grid of 8 by 8 without decimals a square survives and a thin line does not.
    prepare(&from, &out, "--side 8 --decimals 0").fine();
    judged(&out, &["coarse"], &[("fine", "looks_different")]);
    let detail = rows(&out.join("rejected.jsonl"))[0]["detail"].clone();
    let ssim: f64 = detail.as_str().unwrap()[5..11].parse().unwrap();
    assert!(
        ssim < 0.98 && detail.as_str().unwrap().ends_with(": at least 0.98"),
        "{detail}"
    );
    prepare(
        &from,
        &out,
        "--overwrite --side 8 --decimals 0 --min-ssim -1",
    )
    .fine();
    judged(&out, &["fine", "coarse"], &[]);
    assert!((report(&out)["ssim"]["least"].as_f64().unwrap() - ssim).abs() < 1e-3);
    prepare(&from, &out, "--overwrite").fine();
    judged(&out, &["fine", "coarse"], &[]);
}

#[test]
fn the_split_follows_from_pictures_and_seed_and_duplicates_stay_together() {
    let bar = |at: usize| {
        drawing(&format!(
            "<rect x='{}' y='{}' width='{}' height='7'/>",
            at % 9,
            at * 3 % 50,
            20 + at
        ))
    };
    let with = |folder: &str, range: std::ops::Range<usize>| {
        let svgs: Vec<(String, String)> = range.map(|at| (format!("bar{at}"), bar(at))).collect();
        // Each a second time, in other words.
        let again = svgs.iter().map(|(id, svg)| {
            (
                format!("{id}+"),
                svg.replace("<rect", "<g><rect").replace("/>", "/></g>"),
            )
        });
        let all: Vec<(String, String)> = svgs.iter().cloned().chain(again).collect();
        let all: Vec<(&str, String)> = all
            .iter()
            .map(|(id, svg)| (id.as_str(), svg.clone()))
            .collect();
        corpus(folder, &all)
    };
    let held = |(from, out): &(PathBuf, PathBuf), flags: &str| -> Vec<String> {
        prepare(
            from,
            out,
            &format!("--overwrite --keep-duplicates --held-out 0.3 {flags}"),
        )
        .fine();
        let id = |row: &Value| row["id"].as_str().unwrap().to_owned();
        let held: Vec<String> = rows(&out.join("held_out.jsonl")).iter().map(id).collect();
        let train: Vec<String> = rows(&out.join("train.jsonl")).iter().map(id).collect();
        assert!(held.iter().all(|id| !train.contains(id)));
        for id in held.iter().filter(|id| !id.ends_with('+')) {
            assert!(held.contains(&format!("{id}+")), "{id} is on both sides");
        }
        assert_eq!(
            held.iter().filter(|id| id.ends_with('+')).count() * 2,
            held.len()
        );
        held
    };
    let some = with("prepare_split", 0..30);
    let first = held(&some, "--seed 1");
    assert!(first.len() >= 6 && first.len() <= 36, "{}", first.len());
    assert_eq!(first, held(&some, "--seed 1 --threads 4"));
    assert_ne!(first, held(&some, "--seed 2"));
    let more = held(&with("prepare_split_more", 0..40), "--seed 1");
    let old: Vec<&String> = more.iter().filter(|id| first.contains(id)).collect();
    assert_eq!(old.len(), first.len(), "rows that are added move none");
    prepare(&some.0, &some.1, "--overwrite").fine();
    assert!(
        !some.1.join("held_out.jsonl").exists(),
        "of the earlier preparation nothing stays"
    );
}

#[test]
fn preparing_what_was_prepared_changes_nothing() {
    let svgs = [
        ("circles", circles(7)),
        ("stripes", stripes(&["red", "#123456", "blue"])),
        (
            "turned",
            drawing(
                "<g transform='rotate(30 20 20)'><rect x='9' y='8' width='20' height='11' rx='2'/></g>",
            ),
        ),
        (
            "path",
            drawing(
                "<path d='M10.3 10.4c9.3 21.7 12.4-17.6 33.3 8.3z' fill='none' stroke='black' stroke-width='1.37'/>",
            ),
        ),
        (
            "shade",
            drawing(
                "<linearGradient id='a'><stop stop-color='red'/><stop offset='1'/></linearGradient><circle cx='30' cy='30' r='20' fill='url(#a)'/>",
            ),
        ),
        (
            "pattern",
            drawing(
                "<pattern id='p' width='.5' height='.5'><circle r='1'/></pattern><rect width='50' height='50' fill='url(#p)'/>",
            ),
        ),
    ];
    let (from, once) = corpus("prepare_twice", &svgs);
    let flags = "--held-out 0.4 --near-duplicates 2";
    prepare(&from, &once, flags).fine();
    assert_eq!(text(once.join("rejected.jsonl")), "");
    for name in ["train.jsonl", "held_out.jsonl"] {
        let twice = once.with_file_name(format!("twice_{name}"));
        prepare(&once.join(name), &twice, flags).fine();
        assert_eq!(text(twice.join(name)), text(once.join(name)));
        let other = if name == "train.jsonl" {
            "held_out.jsonl"
        } else {
            "train.jsonl"
        };
        assert_eq!(text(twice.join(other)), "", "no row changes sides");
        assert_eq!(report(&twice)["ssim"]["least"], json!(1.0));
    }
}

#[test]
fn what_was_prepared_is_read_as_it_is_and_inspected() {
    let (from, out) = corpus(
        "prepare_then",
        &[("three", circles(3)), ("four", circles(4))],
    );
    prepare(&from, &out, "").fine();
    let config = super::tiny::config(&out);
    let mut command = program();
    command.args(["data", "inspect", "--json", "--out"]);
    command.arg(out.join("page.html")).arg(config);
    command.args([
        "--set",
        "data.sources.drawings={format: jsonl, path: train.jsonl}",
    ]);
    command.args(["--set", "stages.rl.eval.prompts=0"]);
    let found: Value = serde_json::from_str(&told(&mut command).fine().out).unwrap();
    assert_eq!(found["sources"][0]["train"], json!(2));
    let characters = &found["tasks"][0]["reference"]["characters"];
    let prepared = &report(&out)["characters"]["after"];
    assert_eq!(characters["histogram"], prepared["histogram"]);
}

#[test]
fn rows_get_the_drawing_that_a_prompt_shows() {
    let wide =
        drawing("<circle cx='32' cy='32' r='20' fill='red'/>").replace("0 0 64 64", "0 0 64 32");
    let (from, out) = corpus("prepare_pictures", &[("dot", wide)]);
    prepare(&from, &out, "--pictures 96").fine();
    let row = &rows(&out.join("train.jsonl"))[0];
    let picture = out.join(row["images"][0].as_str().unwrap());
    let png = std::fs::read(picture).unwrap();
    // Width and height of a PNG stand behind its signature and its first chunk's head.
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((side(16), side(20)), (96, 96), "the normal form is square");
    // A row that shows a picture already is not given another.
    let own = json!({"id": "own", "prompt": "a dot", "svg": drawing("<circle r='30'/>"), "images": ["a.png"]});
    let from = write_rows(out.parent().unwrap(), "own.jsonl", &[own]);
    let second = out.with_file_name("second");
    prepare(&from, &second, "--pictures 96").fine();
    judged(&second, &[], &[("own", "bad_row")]);
}
