//! `data inspect` over every format, over rows that are bad or hostile, and over folders that lack things.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::{Told, program, rows, scratch, told, write, write_rows};
use super::tiny::{self, TOKENIZER, drawing};

const ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rollout/data/files/fixtures");

fn inspect(config: &Path, flags: &[&str]) -> Told {
    let page = config.with_file_name("page.html");
    let mut command = program();
    command.args(["data", "inspect"]).arg(config);
    told(command.arg("--out").arg(page).args(flags))
}

fn answer(config: &Path, flags: &[&str]) -> Value {
    let told = inspect(config, &[&["--json"], flags].concat()).fine();
    serde_json::from_str(&told.out).unwrap()
}

fn page(config: &Path) -> String {
    std::fs::read_to_string(config.with_file_name("page.html")).unwrap()
}

/// A config with these sources, whose stage needs nothing of rows but a target from `shapes`.
fn config(folder: &Path, model: &str, sources: &str) -> PathBuf {
    let text = format!(
        "\
name: look
model: {model}
data:
  sources:
    shapes: {{format: shapes, count: 40, held_out: 4}}
{sources}
tasks:
  draw: {{completion: {{format: svg}}, rubric: {{rewards: [{{type: ssim}}]}}}}
  trace: {{type: sketch_to_svg, completion: {{format: svg}}, rubric: {{rewards: [{{type: ssim}}]}}}}
stages:
  - {{name: sft, algorithm: sft, steps: 1, curriculum: {{sources: [shapes]}}, eval: {{prompts: 0}}}}
"
    );
    write(folder, "look.yaml", &text)
}

fn fresh() -> String {
    let init = "{architecture: qwen3, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 2, head_dim: 16}";
    format!("{{tokenizer: {TOKENIZER}, init: {init}}}")
}

#[test]
fn counts_and_lengths_are_those_of_the_rows() {
    let folder = scratch("inspect_counts");
    let config = tiny::config(&folder);
    let found = answer(&config, &[]);
    let source = &found["sources"][0];
    assert_eq!(
        [
            &source["train"],
            &source["held_out"],
            &source["measured"],
            &source["bad"]["count"]
        ],
        [6, 2, 8, 0]
    );
    let task = &found["tasks"][0];
    assert_eq!(task["references"], json!({"svg": 8, "text": 0, "image": 0}));
    let drawings = rows(&folder.join("drawings.jsonl"));
    let lengths: Vec<usize> = drawings
        .iter()
        .map(|row| row["svg"].as_str().unwrap().chars().count())
        .collect();
    let characters = &task["reference"]["characters"];
    assert_eq!(characters["longest"], json!(lengths.iter().max()));
    assert_eq!(characters["sum"], json!(lengths.iter().sum::<usize>()));
    let bars = characters["histogram"].as_array().unwrap();
    let counted: u64 = bars.iter().map(|bar| bar["count"].as_u64().unwrap()).sum();
    assert_eq!(counted, 8);
    let tokens = task["reference"]["tokens"]["mean"].as_f64().unwrap();
    assert!(tokens > 10.0 && tokens < characters["mean"].as_f64().unwrap());
    assert_eq!(found["stages"][1]["answers"]["most"], json!(48));
    assert_eq!(found["stages"][1]["rows"], json!(6));
    let table = inspect(&config, &["--limit", "3"]).fine().out;
    assert!(
        table.contains("3 measured") && table.contains("6 rows to train on, 2 held out"),
        "{table}"
    );
    assert!(
        table.contains("####") && !table.contains('\u{1b}'),
        "{table}"
    );
}

#[test]
fn the_page_shows_every_sample_once_and_the_seed_chooses_them() {
    let folder = scratch("inspect_page");
    let config = tiny::config(&folder);
    let shown = |flags: &[&str]| -> Vec<bool> {
        inspect(&config, flags).fine();
        let page = page(&config);
        assert!(page.starts_with("<!doctype html>") && page.contains("default-src 'none'"));
        let cards: Vec<&str> = page.split("<article>").skip(1).collect();
        for card in &cards {
            assert_eq!(
                card.matches("data:image/png;base64,iVBOR").count(),
                1,
                "{card}"
            );
        }
        let ids = rows(&folder.join("drawings.jsonl"));
        let of = |id: &str| {
            cards
                .iter()
                .any(|card| card.contains(&format!("<b>drawings/{id}</b>")))
        };
        ids.iter()
            .map(|row| of(row["id"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(shown(&["--samples", "20"]), [true; 8]);
    let some = shown(&["--samples", "3"]);
    assert_eq!(some.iter().filter(|shown| **shown).count(), 3);
    assert_eq!(some, shown(&["--samples", "3"]));
    let others = (0..5).map(|seed| shown(&["--samples", "3", "--seed", &seed.to_string()]));
    assert!(others.into_iter().any(|other| other != some));
    assert_eq!(shown(&["--samples", "0"]), [false; 8]);
}

/// The policy's folder is not there: characters are counted, tokens are not, and pictures are shown.
#[test]
fn every_format_is_read_without_the_policys_folder() {
    let folder = scratch("inspect_formats");
    let formats = [
        ("jsonl", "drawings.jsonl", "", 3),
        ("svg_folder", "{ROWS}/drawings", "", 2),
        (
            "csv",
            "{ROWS}/introsvg/prompts.csv",
            ", fields: {prompt: desc}",
            2,
        ),
        (
            "parquet",
            "{ROWS}/vectorgym",
            ", fields: {id: svg_id, images: sketch_image, prompt: text_caption}",
            7,
        ),
        ("alpaca", "{ROWS}/sophia", "", 2),
        ("sharegpt", "{ROWS}/sagoge", "", 2),
        ("messages", "{ROWS}/introsvg/sft.json", "", 2),
        ("dpo", "{ROWS}/introsvg/dpo.json", "", 1),
        ("sgp", "{ROWS}/sgp/SGP-Object.json", "", 1),
        (
            "coco",
            "{ROWS}/sgp/captions_train2017.json",
            ", media_root: {ROWS}/sgp/train2017",
            2,
        ),
        (
            "vectorgym",
            "{ROWS}/vectorgym/train-*.parquet",
            ", view: sketch, task: trace",
            6,
        ),
    ];
    let row = |at: usize| json!({"prompt": format!("p{at}"), "svg": drawing("<circle r='9'/>")});
    write_rows(&folder, "drawings.jsonl", &[row(0), row(1), row(2)]);
    let sources: String = formats
        .iter()
        .map(|(format, path, more, _)| {
            format!("    {format}: {{format: {format}, path: '{path}'{more}}}\n")
        })
        .collect();
    let config = config(&folder, "{path: nowhere}", &sources.replace("{ROWS}", ROWS));
    let told = inspect(&config, &["--json", "--set", "data.on_bad_row=skip"]).fine();
    assert!(
        told.err.contains("nowhere has no tokenizer.json"),
        "{}",
        told.err
    );
    let found: Value = serde_json::from_str(&told.out).unwrap();
    let sources = found["sources"].as_array().unwrap();
    assert_eq!(
        (&sources[0]["name"], &sources[0]["measured"]),
        (&json!("shapes"), &json!(44))
    );
    for (source, (format, _, _, rows)) in sources[1..].iter().zip(formats) {
        let of = (
            &source["name"],
            &source["measured"],
            &source["bad"]["count"],
        );
        assert_eq!(of, (&json!(format), &json!(rows), &json!(0)), "{source}");
    }
    assert_eq!(sources[11]["not_of_the_view"]["count"], json!(1));
    let [task, sketches] = [0, 1].map(|at| &found["tasks"][at]);
    let prompt = &task["prompt"];
    assert!(prompt["tokens"].is_null() && prompt["characters"]["count"] == json!(68));
    assert_eq!(task["pictures"]["rows"], json!(10));
    let size = json!({"width": 6, "height": 4, "count": 6});
    let pictures = json!({"rows": 6, "count": 6, "sizes": [size]});
    assert_eq!(sketches["pictures"], pictures);
    let page = page(&config);
    assert!(
        page.contains("shown, 1 of 2"),
        "SVG-Sophia's row shows two pictures"
    );
    assert!(page.contains("<figcaption>rejected</figcaption>"));
    assert!(page.matches("data:image/png").count() > 30);
}

#[test]
fn a_bad_row_is_counted_with_its_place_and_ends_with_status_2_unless_skipped() {
    let folder = scratch("inspect_bad");
    let lines = [
        json!({"id": "good", "prompt": "a dot", "svg": drawing("<circle r='9'/>")}).to_string(),
        "{\"prompt\": ".to_owned(),
        json!({"prompt": "a", "svg": "<svg"}).to_string(),
        json!({"prompt": "a", "image": "no/where1.png"}).to_string(),
        json!({"prompt": "a", "image": "no/where2.png"}).to_string(),
    ];
    write(&folder, "rows.jsonl", &lines.join("\n"));
    let config = config(
        &folder,
        &fresh(),
        "    rows: {format: jsonl, path: rows.jsonl}",
    );
    inspect(&config, &["--json"]).refused(2, &["4 row(s)", "rows.jsonl:", "on_bad_row: skip"]);
    assert!(
        page(&config).contains("rows: bad rows"),
        "the page is written all the same"
    );
    let found = answer(&config, &["--set", "data.on_bad_row=skip"]);
    let source = &found["sources"][1];
    assert_eq!(
        (&source["measured"], &source["bad"]["count"]),
        (&json!(1), &json!(4))
    );
    let kinds = source["bad"]["kinds"].as_array().unwrap();
    let first = kinds[0]["first"].as_str().unwrap();
    // The two missing pictures are one kind.
    assert_eq!(
        (kinds.len(), &kinds[0]["count"]),
        (3, &json!(2)),
        "{kinds:?}"
    );
    assert!(
        first.contains("rows.jsonl:4: ") && first.contains("where1.png"),
        "{first}"
    );
}

#[test]
fn hostile_rows_reach_neither_markup_nor_terminal() {
    let folder = scratch("inspect_hostile");
    let bomb = "<!DOCTYPE svg [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><text>&b;</text></svg>";
    let script = drawing("<script>alert(1)</script><circle r='30' onclick='x()'/>");
    let hostile = [
        json!({"id": "<script>1</script>", "prompt": "</p><script>alert(2)</script>\u{1b}[31m", "svg": script}),
        json!({"id": "bomb", "prompt": "a", "svg": bomb}),
        json!({"id": "deep", "prompt": "a", "svg": drawing(&"<g>".repeat(50_000))}),
        json!({"id": "nul", "prompt": "a\u{0}b", "svg": drawing("\u{0}")}),
        json!({"id": "picture", "prompt": "a", "svg": drawing("<image href='file:///etc/passwd' width='9' height='9'/>")}),
    ];
    write_rows(&folder, "rows.jsonl", &hostile);
    let source = "    '<b>x': {format: jsonl, path: rows.jsonl}";
    let config = config(&folder, &fresh(), source);
    let told = inspect(&config, &["--set", "data.on_bad_row=skip"]).fine();
    assert!(
        !told.out.contains(['\u{1b}', '\u{0}', '\u{7f}']),
        "{}",
        told.out
    );
    let page = page(&config);
    assert!(
        !page.contains("<script") && !page.contains("<b>x"),
        "markup of a row is in the page"
    );
    assert!(page.contains("&lt;script&gt;alert(2)"));
    assert!(
        !page.contains("file:///") || page.contains("&#39;file:///"),
        "only as escaped text"
    );
    let found = answer(&config, &["--set", "data.on_bad_row=skip"]);
    assert_eq!(found["sources"][1]["bad"]["count"], json!(3), "{found:#}");
}

#[test]
fn rows_that_no_prompt_can_be_made_of_are_named() {
    let folder = scratch("inspect_stops");
    let sketches = format!(
        "    sketches: {{format: vectorgym, path: {ROWS}/vectorgym, task: trace, view: sketch}}"
    );
    let config = config(&folder, &fresh(), &sketches);
    let refused = inspect(&config, &["--set", "data.on_bad_row=skip"]);
    assert!(
        refused.out.contains("no prompt can be made: 6"),
        "{}",
        refused.out
    );
    refused.refused(2, &["6 row(s)", "reads text only"]);
}

/// A patch is 8 pixels and four patches are a token: 128 pixels are 64 tokens, 64 pixels 16.
#[test]
fn pictures_count_in_the_tokens_of_a_policy_that_sees() {
    let folder = scratch("inspect_sees");
    let tokenizer = TOKENIZER.replace("quickstart", "tiny_vlm");
    let vision = "{depth: 1, hidden_size: 32, intermediate_size: 32, num_heads: 2, patch_size: 8, grid: 8, deepstack: [0]}";
    let model = fresh()
        .replace(TOKENIZER, &tokenizer)
        .replace("head_dim: 16", &format!("head_dim: 16, vision: {vision}"));
    let source = |name: &str, side: usize| {
        format!(
            "    {name}: {{format: shapes, task: {name}, kind: image_to_svg, picture: {side}, count: 20, held_out: 4}}\n"
        )
    };
    let sources = source("large", 128) + &source("small", 64);
    let config = config(&folder, &model, &sources);
    let task = |name: &str| {
        format!(
            "  {name}: {{type: image_to_svg, templates: [\"{{image}}Draw this.\"], completion: {{format: svg}}, rubric: {{rewards: [{{type: ssim}}]}}}}\n"
        )
    };
    let text = std::fs::read_to_string(&config).unwrap();
    let tasks = text.replace("stages:", &(task("large") + &task("small") + "stages:"));
    write(&folder, "look.yaml", &tasks);
    let found = answer(&config, &[]);
    let of = |name: &str| {
        let tasks = found["tasks"].as_array().unwrap();
        tasks
            .iter()
            .find(|task| task["name"] == name)
            .unwrap()
            .clone()
    };
    let tokens = |name: &str| of(name)["prompt"]["tokens"]["median"].as_u64().unwrap();
    assert_eq!(tokens("large") - tokens("small"), 48);
    assert_eq!(of("large")["pictures"]["sizes"][0]["width"], json!(128));
}

#[test]
fn what_cannot_be_opened_is_refused_by_name() {
    let folder = scratch("inspect_refused");
    let at = |source: &str| {
        config(
            &folder,
            &fresh(),
            &format!("    rows: {{format: jsonl, path: {source}}}"),
        )
    };
    inspect(&at("nothing.jsonl"), &[]).refused(2, &["data.sources.rows.path", "nothing.jsonl"]);
    write(&folder, "empty.jsonl", "\n\n");
    inspect(&at("empty.jsonl"), &[]).refused(2, &["data.sources.rows.path", "has no row"]);
    write(&folder, "bad.jsonl", "{\n[1]\n");
    inspect(&at("bad.jsonl"), &[]).refused(2, &["has no usable row", "bad.jsonl:1"]);
    std::fs::create_dir(folder.join("folder")).unwrap();
    inspect(&at("folder"), &[]).refused(2, &["no file ending in jsonl"]);
    inspect(&folder.join("no.yaml"), &[]).refused(2, &["no.yaml"]);
    let good = tiny::config(&folder);
    inspect(&good, &["--set", "data.sources.drawings.pth=x"]).refused(2, &["path"]);
    inspect(&good, &["--tokenizer", "/no/such/folder"]).refused(2, &["/no/such/folder"]);
    inspect(&good, &["--samples", "-1"]).refused(2, &["unexpected argument"]);
    let aside = told(
        program()
            .args(["data", "inspect", "--out", "/proc/no/page.html"])
            .arg(&good),
    );
    aside.refused(2, &["--out /proc/no/page.html"]);
}

#[test]
fn without_out_the_page_lies_in_the_output_folder() {
    let folder = scratch("inspect_default");
    let config = tiny::config(&folder);
    let told = told(
        program()
            .current_dir(&folder)
            .args(["data", "inspect", "-q"])
            .arg(&config),
    )
    .fine();
    assert_eq!((told.out.as_str(), told.err.as_str()), ("", ""));
    assert!(folder.join("runs/tiny.data.html").exists());
}
