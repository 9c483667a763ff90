//! Every published layout, read from small files of its exact shape.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rewards::ImageSource;

use super::*;
use crate::data::config::{AnswerPart, DataConfig, VectorGymView};
use crate::data::{Catalog, CurriculumConfig, Cursor, Example, Order, PlainOrder, RowUse};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/files/fixtures")
}

pub(super) fn file(path: &str) -> FileConfig {
    FileConfig {
        path: path.into(),
        split: Split::HeldOut,
        ..Default::default()
    }
}

pub(super) fn config(source: SourceConfig) -> DataConfig {
    DataConfig {
        on_bad_row: OnBadRow::Error,
        sources: [("s".to_owned(), source)].into(),
    }
}

/// All rows of a source of the fixtures.
fn rows(source: SourceConfig) -> Vec<Example> {
    let catalog = Catalog::open(&config(source), &fixtures(), "t").unwrap();
    catalog.held_out(&[]).unwrap()
}

fn path(name: &str) -> ImageSource {
    ImageSource::Path(fixtures().join(name))
}

fn svg_of(colour: &str) -> Option<String> {
    Some(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 128 128"><circle r="8" fill="{colour}"/></svg>"#
    ))
}

#[test]
fn of_an_answer_with_thoughts_the_svg_alone_may_be_imitated() {
    let asked = FileConfig {
        answer: AnswerPart::Svg,
        ..file("sophia/cot_img2svg_rl.jsonl")
    };
    let whole = rows(SourceConfig::Alpaca(file("sophia/cot_img2svg_rl.jsonl")));
    let rows = rows(SourceConfig::Alpaca(asked));
    assert_eq!(rows[0].target, svg_of("red"));
    assert_ne!(whole[0].target, rows[0].target);
    assert_eq!(whole[0].reference, rows[0].reference);
}

#[test]
fn svg_sophia_rows_hold_question_pictures_and_the_svg_in_the_fence() {
    let rows = rows(SourceConfig::Alpaca(file("sophia/cot_img2svg_rl.jsonl")));
    assert_eq!(rows[0].id, "s/123");
    assert_eq!(
        rows[0].images,
        [path("sophia/images/123.png"), path("sophia/images/123.png")]
    );
    assert_eq!(rows[0].reference.svg, svg_of("red"));
    assert_eq!(rows[0].reference.text.as_deref(), Some("a red dot"));
    assert!(
        rows[0]
            .target
            .as_ref()
            .unwrap()
            .starts_with("<think>Canvas")
    );
    assert_eq!((rows[1].id.as_str(), rows[1].images.len()), ("s/2", 0));
    assert_eq!(rows[1].fields["prompt"], "Instruction: a red dot");
}

#[test]
fn sharegpt_rows_of_sagoge_and_sarena_are_read() {
    let mut source = file("sagoge/img2svg.jsonl");
    let rows_of_sagoge = rows(SourceConfig::Sharegpt(source.clone()));
    assert_eq!(rows_of_sagoge[0].images, [path("sagoge/icon/1.png")]);
    assert_eq!(rows_of_sagoge[0].reference.svg, svg_of("blue"));
    assert_eq!(
        rows_of_sagoge[0].reference.text.as_deref(),
        Some("a blue dot")
    );
    let choice = &rows_of_sagoge[1];
    assert_eq!(
        (choice.target.as_deref(), &choice.reference.svg),
        (Some("A"), &None)
    );
    assert_eq!(choice.reference.text.as_deref(), Some("A"));
    source.path = "sarena".into();
    let rows = rows(SourceConfig::Sharegpt(source));
    assert_eq!(rows[0].id, "s/7");
    assert_eq!(rows[0].reference.svg, svg_of("green"));
}

#[test]
fn messages_and_pairs_of_introsvg_are_read_from_arrays() {
    let rows_of_sft = rows(SourceConfig::Messages(file("introsvg/sft.json")));
    assert_eq!(rows_of_sft[0].fields["prompt"], "say \"[{dot}]\"");
    assert_eq!(rows_of_sft[0].target, svg_of("red"));
    assert_eq!(rows_of_sft[1].images, [path("introsvg/draft_image/x.png")]);
    assert_eq!(rows_of_sft[1].id, "s/x");
    let pair = &rows(SourceConfig::Dpo(file("introsvg/dpo.json")))[0];
    assert_eq!(
        (pair.target.clone(), pair.fields["rejected"].as_str()),
        (svg_of("red"), "<svg")
    );
}

#[test]
fn conversations_of_several_turns_end_with_the_example_s_question() {
    let sharegpt = "{\"id\": 1, \"image\": [\"a.png\", \"b.png\"], \"conversations\": [\
        {\"from\": \"system\", \"value\": \"Be brief.\"}, \
        {\"from\": \"human\", \"value\": \"<image> What is it?\"}, {\"from\": \"gpt\", \"value\": \"A dot.\"}, \
        {\"from\": \"human\", \"value\": \"Draw it.\"}, {\"from\": \"gpt\", \"value\": \"<svg a='1'></svg>\"}, \
        {\"from\": \"human\", \"value\": \"Now as in <image>.\"}, {\"from\": \"gpt\", \"value\": \"<svg a='2'></svg>\"}]}";
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, text: &str, source: &dyn Fn(FileConfig) -> SourceConfig| {
        std::fs::write(folder.path().join(name), text).unwrap();
        let catalog = Catalog::open(&config(source(file(name))), folder.path(), "t").unwrap();
        catalog.held_out(&[]).unwrap().remove(0)
    };
    let row = read("turns.jsonl", sharegpt, &SourceConfig::Sharegpt);
    assert_eq!(row.fields["prompt"], "Now as in <image>.");
    assert_eq!(row.talk.system.as_deref(), Some("Be brief."));
    assert_eq!(row.reference.svg.as_deref(), Some("<svg a='2'></svg>"));
    assert_eq!((row.talk.history.len(), row.images.len()), (4, 2));
    let earlier: Vec<Example> = row.earlier().collect();
    let asked = |at: usize| earlier[at].fields["prompt"].as_str();
    assert_eq!([asked(0), asked(1)], ["<image> What is it?", "Draw it."]);
    assert_eq!(earlier[0].target.as_deref(), Some("A dot."));
    assert_eq!(earlier[1].target.as_deref(), Some("<svg a='1'></svg>"));
    let before = |at: usize| earlier[at].talk.history.len();
    assert_eq!([before(0), before(1)], [0, 2]);
    // The second picture is not shown before the turn that speaks of it.
    assert_eq!([earlier[0].images.len(), earlier[1].images.len()], [1, 1]);
    assert_eq!(
        (earlier[0].id.as_str(), earlier[1].id.as_str()),
        ("s/1@1", "s/1@2")
    );
    let unplaced = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}, \
        {\"role\": \"user\", \"content\": \"c\"}], \"images\": [\"a.png\"]}";
    let row = read("unplaced.jsonl", unplaced, &SourceConfig::Messages);
    assert_eq!(row.talk.history[0].words.as_deref(), Some("<image>a"));
    assert_eq!(row.fields["prompt"], "c");
    assert_eq!(row.target, None, "the last question has no answer");
    let alpaca = "{\"system\": \"S\", \"history\": [[\"a\", \"b\"]], \"instruction\": \"c\", \"output\": \"<svg/>\"}";
    let row = read("alpaca.jsonl", alpaca, &SourceConfig::Alpaca);
    let words = |at: usize| row.talk.history[at].words.as_deref();
    assert_eq!([words(0), words(1)], [Some("a"), Some("b")]);
    assert_eq!(row.talk.system.as_deref(), Some("S"));
}

#[test]
fn csv_cells_may_hold_commas_and_line_ends() {
    let mut source = file("introsvg/prompts.csv");
    source.fields = [("prompt".to_owned(), "desc".to_owned())].into();
    let rows = rows(SourceConfig::Csv(source));
    assert_eq!(rows[0].fields["prompt"], "a dot, red\nand round");
    assert_eq!(
        (rows[1].id.as_str(), rows[1].fields["prompt"].as_str()),
        ("s/2", "a bar")
    );
}

#[test]
fn descriptions_captions_and_photographs_of_sgp_are_read() {
    let described = rows(SourceConfig::Sgp(file("sgp/svg-gen-70k.jsonl")));
    assert_eq!(
        (described[0].id.as_str(), &described[0].reference.svg),
        ("s/3", &svg_of("red"))
    );
    let object = rows(SourceConfig::Sgp(file("sgp/SGP-Object.json")));
    assert_eq!(object[0].fields["sub_class"], "cat");
    let mut source = file("sgp/captions_train2017.json");
    source.media_root = Some("sgp/train2017".into());
    let captions = rows(SourceConfig::Coco(source));
    assert_eq!(captions[0].fields["prompt"], "A plate of food.");
    assert_eq!(captions[1].id, "s/51");
    assert_eq!(
        captions[1].reference.image,
        Some(path("sgp/train2017/000000000009.jpg"))
    );
}

#[test]
fn a_vectorgym_row_is_a_sample_of_each_view_that_it_has_what_for() {
    let of = |view| {
        let mut source = file("vectorgym/train-*.parquet");
        source.view = Some(view);
        rows(SourceConfig::Vectorgym(source))
    };
    // Row 3 has no original SVG: it is no sample of any view.
    let ids = |rows: &[Example]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    let text = of(VectorGymView::Text);
    assert_eq!(ids(&text), ["s/s0", "s/s1", "s/s2", "s/s4", "s/s5", "s/s6"]);
    assert_eq!(text[4].fields["prompt"], "dot number 5");
    assert!(text[4].reference.svg.as_ref().unwrap().contains("r=\"6\""));
    let sketch = of(VectorGymView::Sketch);
    let ImageSource::Png(bytes) = &sketch[3].images[0] else {
        panic!("the sketch is in the table");
    };
    let picture = svg::Raster::from_png(bytes, 16).unwrap();
    assert_eq!(picture.rgba[..4], [4, 20, 30, 255]);
    let edit = of(VectorGymView::Edit);
    assert_eq!(edit[1].id, "s/s1#1");
    assert_eq!(edit[1].target, svg_of("blue"));
    assert!(edit[1].fields["draft"].contains("red"));
    let caption = of(VectorGymView::Caption);
    assert_eq!(caption[5].target.as_deref(), Some("dot number 6"));
    assert!(caption[5].reference.svg.is_none());
}

#[test]
fn mapped_tables_take_pictures_from_their_columns() {
    let mut source = file("vectorgym");
    let fields = [
        ("id", "svg_id"),
        ("images", "sketch_image"),
        ("text", "text_caption"),
    ];
    source.fields = fields.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let rows = rows(SourceConfig::Parquet(source));
    assert_eq!(rows.len(), 7);
    assert!(matches!(rows[6].images[0], ImageSource::Png(_)));
}

#[test]
fn a_folder_of_drawings_is_prompted_by_its_names() {
    let rows = rows(SourceConfig::SvgFolder(file("drawings")));
    let prompts: Vec<&str> = rows
        .iter()
        .map(|row| row.fields["prompt"].as_str())
        .collect();
    assert_eq!(prompts, ["blue dot", "red dot"]);
    assert_eq!(rows[1].reference.svg, svg_of("red"));
}

#[test]
fn lengths_outside_the_bounds_are_left_out_and_counted() {
    let mut source = file("drawings");
    source.max_length = Some(svg_of("red").unwrap().len());
    let catalog = Catalog::open(
        &config(SourceConfig::SvgFolder(source.clone())),
        &fixtures(),
        "t",
    );
    let summary = &catalog.unwrap().summary()[0];
    assert_eq!((summary.held_out, summary.filtered), (1, 1));
    source.max_length = Some(3);
    let refused = Catalog::open(&config(SourceConfig::SvgFolder(source)), &fixtures(), "t");
    assert!(refused.unwrap_err().to_string().contains("none of 2 rows"));
}

#[test]
fn options_that_do_not_fit_the_format_are_refused() {
    let mut source = file("drawings");
    source.view = Some(VectorGymView::Text);
    let with_view = Catalog::open(&config(SourceConfig::SvgFolder(source)), &fixtures(), "t");
    assert!(
        with_view
            .unwrap_err()
            .to_string()
            .starts_with("data.sources.s.view: ")
    );
    let source = SourceConfig::Vectorgym(file("vectorgym"));
    let without = Catalog::open(&config(source), &fixtures(), "t").unwrap_err();
    assert!(without.to_string().contains("sketch, edit, text, caption"));
    let mut source = file("sgp/svg-gen-70k.jsonl");
    source.fields.insert("prompt".into(), "description".into());
    let mapped = Catalog::open(&config(SourceConfig::Sgp(source)), &fixtures(), "t").unwrap_err();
    assert!(mapped.to_string().starts_with("data.sources.s.fields: "));
}

#[test]
fn bad_rows_of_arrays_tables_and_conversations_are_named_by_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        file(name)
    };
    let refused = |source| {
        let error = Catalog::open(&config(source), folder.path(), "t").unwrap_err();
        error.to_string()
    };
    let array =
        "[\n {\"description\": \"a\", \"svg\": \"x\"},\n {\"description\": \"b\", \"svg\": 5}\n]";
    let message = refused(SourceConfig::Sgp(write("a.json", array)));
    assert!(message.contains("a.json:3: key `svg` "), "{message}");
    let cut = "[{\"description\": \"a\", \"svg\": \"x\"}, {\"descr";
    let message = refused(SourceConfig::Sgp(write("cut.json", cut)));
    assert!(message.contains("cut.json:1: not JSON"), "{message}");
    let csv = "id,prompt\n1,a\n2\n";
    let message = refused(SourceConfig::Csv(write("a.csv", csv)));
    assert!(
        message.contains("a.csv:3: 1 fields, the header has 2"),
        "{message}"
    );
    let turns = r#"{"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "gpt", "value": "c"}]}"#;
    let message = refused(SourceConfig::Sharegpt(write("turns.jsonl", turns)));
    assert!(
        message.contains("turns.jsonl:1: key `conversations.2`: `gpt` speaks out of turn"),
        "{message}"
    );
    let video = r#"{"video": "a.mp4", "conversations": [{"from": "human", "value": "a"}]}"#;
    let message = refused(SourceConfig::Sharegpt(write("video.jsonl", video)));
    assert!(
        message.contains("video.jsonl:1: key `video`: videos are not read"),
        "{message}"
    );
    let history = r#"{"instruction": "a", "output": "b", "history": [["one", "two"], ["three"]]}"#;
    let message = refused(SourceConfig::Alpaca(write("history.jsonl", history)));
    assert!(
        message.contains("history.jsonl:1: key `history.1` must be an instruction and its answer"),
        "{message}"
    );
    let pictures =
        r#"{"messages": [{"role": "user", "content": "<image><image>"}], "images": ["a.png"]}"#;
    let message = refused(SourceConfig::Messages(write("p.jsonl", pictures)));
    assert!(
        message.contains("2 `<image>` placeholder(s), the row 1 picture(s)"),
        "{message}"
    );
}

#[test]
fn large_files_are_indexed_once_and_their_rows_checked_when_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let padding = "x".repeat(1 << 20);
    let mut text = String::new();
    for row in 0..70 {
        text += &format!("{{\"id\": {row}, \"prompt\": \"p\", \"svg\": \"{padding}\"}}\n");
    }
    std::fs::write(folder.path().join("large.jsonl"), text).unwrap();
    let mut source = file("large.jsonl");
    source.split = Split::Train;
    let data = DataConfig {
        on_bad_row: OnBadRow::Skip,
        ..config(SourceConfig::Jsonl(source))
    };
    let check = |_: &str, _: &str, row: &Example| match row.id.parse::<u64>() {
        Ok(id) if id % 2 == 1 => Err("odd".to_owned()),
        _ => Ok(()),
    };
    let rows = RowUse {
        check: Arc::new(check),
        inserted: HashMap::new(),
        systems: HashSet::new(),
    };
    let scans = |catalog: &mut Option<Catalog>| {
        let mut heard = 0;
        let opened =
            Catalog::open_checked(&data, (folder.path(), "t"), rows.clone(), &mut |_, _, _| {
                heard += 1
            });
        *catalog = Some(opened.unwrap());
        heard
    };
    let mut catalog = None;
    assert_eq!(scans(&mut catalog), 71);
    assert_eq!(scans(&mut catalog), 0, "the index is kept");
    let source = &data.sources["s"];
    let container = Container::open(source, "s", &folder.path().join("large.jsonl")).unwrap();
    let opening = Opening {
        key: "s",
        base: folder.path(),
        on_bad_row: data.on_bad_row,
        videos: VideoRows::Refuse,
        inserted: &[],
        has_system: false,
        check: &|_| Ok(()),
        progress: &mut |_, _| {},
    };
    let way = way(source, source.file().unwrap(), &opening);
    let kept = index::path(&container, &way).unwrap();
    std::fs::remove_file(kept).expect("the index of these very files lies there");
    let mut cursor = Cursor::new(
        Arc::new(catalog.unwrap()),
        &CurriculumConfig {
            order: Order::Plain(PlainOrder::Sorted),
            ..Default::default()
        },
        0,
    )
    .unwrap();
    let draws = cursor.next(3).unwrap();
    let ids: Vec<&str> = draws.iter().map(|draw| draw.example.id.as_str()).collect();
    assert_eq!(ids, ["s/0", "s/2", "s/4"]);
    let skipped = cursor.take_skipped();
    assert_eq!(skipped.len(), 2);
    assert!(
        skipped[0].to_string().contains("large.jsonl:2: odd"),
        "{skipped:?}"
    );
    assert_eq!(cursor.state().draws, 5);
}
