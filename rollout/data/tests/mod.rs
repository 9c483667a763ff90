//! The catalog and the cursor over small sources.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use super::*;
use indexmap::IndexMap;

mod curricula;

const SHUFFLED: Order = Order::Plain(PlainOrder::Shuffled);
const SORTED: Order = Order::Plain(PlainOrder::Sorted);

/// A folder with `a.jsonl` (30 rows, references of falling length), `b.jsonl` (10) and
/// `bad.jsonl` (a good row, a broken one, a good one).
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, rows) in [("a", 30), ("b", 10)] {
        let mut text = String::new();
        for row in 0..rows {
            let svg = "x".repeat(100 - row);
            writeln!(
                text,
                r#"{{"id": {row}, "prompt": "p{row}", "svg": "{svg}"}}"#
            )
            .unwrap();
        }
        std::fs::write(folder.path().join(format!("{name}.jsonl")), text).unwrap();
    }
    let bad = "{\"prompt\": \"one\"}\n\n{\"prompt\": 2}\n{\"prompt\": \"three\"}\n";
    std::fs::write(folder.path().join("bad.jsonl"), bad).unwrap();
    folder
}

fn jsonl(path: &str, task: &str) -> FileConfig {
    FileConfig {
        path: path.into(),
        task: Some(task.to_owned()),
        ..Default::default()
    }
}

fn config<const N: usize>(sources: [(&str, FileConfig); N]) -> DataConfig {
    DataConfig {
        on_bad_row: OnBadRow::Error,
        sources: sources
            .into_iter()
            .map(|(name, source)| (name.to_owned(), SourceConfig::Jsonl(source)))
            .collect(),
    }
}

fn open(config: &DataConfig, base: &Path) -> Arc<Catalog> {
    Arc::new(Catalog::open(config, base, "default").unwrap())
}

fn cursor(catalog: &Arc<Catalog>, order: Order) -> Cursor {
    let curriculum = CurriculumConfig {
        order,
        ..Default::default()
    };
    Cursor::new(catalog.clone(), &curriculum, 7).unwrap()
}

fn two_tasks(base: &Path) -> Arc<Catalog> {
    open(
        &config([("a", jsonl("a.jsonl", "ta")), ("b", jsonl("b.jsonl", "tb"))]),
        base,
    )
}

fn ids(draws: &[Draw]) -> Vec<&str> {
    draws.iter().map(|draw| draw.example.id.as_str()).collect()
}

#[test]
fn one_epoch_draws_every_row_once_and_the_next_in_another_order() {
    let folder = folder();
    let mut cursor = cursor(&two_tasks(folder.path()), SHUFFLED);
    let (first, second) = (cursor.next(40).unwrap(), cursor.next(40).unwrap());
    for epoch in [&first, &second] {
        let mut all = ids(epoch);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 40);
    }
    assert_ne!(ids(&first), ids(&second));
    assert_eq!(second[39].draw, 79);
}

#[test]
fn tasks_are_drawn_in_proportion_to_their_size() {
    let folder = folder();
    let mut cursor = cursor(&two_tasks(folder.path()), SHUFFLED);
    for _ in 0..20 {
        let draws = cursor.next(8).unwrap();
        let of_a = draws.iter().filter(|d| d.example.task == "ta").count();
        assert_eq!(of_a, 6);
    }
}

#[test]
fn weights_replace_sizes() {
    let folder = folder();
    let weighted = |path, task, weight| FileConfig {
        weight: Some(weight),
        ..jsonl(path, task)
    };
    let config = config([
        ("a", weighted("a.jsonl", "ta", 1.0)),
        ("b", weighted("b.jsonl", "tb", 3.0)),
    ]);
    let mut cursor = cursor(&open(&config, folder.path()), SHUFFLED);
    let draws = cursor.next(100).unwrap();
    let of_b = draws.iter().filter(|d| d.example.task == "tb").count();
    assert_eq!(of_b, 75);
}

#[test]
fn a_weight_for_some_sources_only_is_refused() {
    let folder = folder();
    let mut sources = config([("a", jsonl("a.jsonl", "t")), ("b", jsonl("b.jsonl", "t"))]);
    if let SourceConfig::Jsonl(b) = &mut sources.sources["b"] {
        b.weight = Some(2.0);
    }
    let catalog = open(&sources, folder.path());
    let error = Cursor::new(catalog, &CurriculumConfig::default(), 0).unwrap_err();
    assert!(error.to_string().starts_with("data.sources: some sources"));
}

/// A cursor stored after any of a hundred draws and read again goes on with the same draws.
fn resumes_at_any_draw(catalog: &Arc<Catalog>, order: &Order) {
    let whole = cursor(catalog, order.clone()).next(100).unwrap();
    for at in 0..100 {
        let mut first = cursor(catalog, order.clone());
        first.next(at).unwrap();
        let stored = serde_json::to_string(&first.state()).unwrap();
        let mut second = cursor(catalog, order.clone());
        second
            .restore(&serde_json::from_str(&stored).unwrap())
            .unwrap();
        assert_eq!(second.next(100 - at).unwrap(), whole[at..]);
    }
}

#[test]
fn resume_at_any_cursor_equals_uninterrupted() {
    let folder = folder();
    let catalog = two_tasks(folder.path());
    for order in [SHUFFLED, SORTED] {
        resumes_at_any_draw(&catalog, &order);
    }
}

#[test]
fn a_cursor_of_other_data_is_refused() {
    let folder = folder();
    let mut cursor_of_both = cursor(&two_tasks(folder.path()), SHUFFLED);
    let one = open(&config([("a", jsonl("a.jsonl", "ta"))]), folder.path());
    let state = cursor(&one, SHUFFLED).state();
    let error = cursor_of_both.restore(&state).unwrap_err().to_string();
    assert!(
        error.contains("[\"ta\"]") && error.contains("\"tb\""),
        "{error}"
    );
}

#[test]
fn sorted_draws_short_references_first_within_each_task() {
    let folder = folder();
    let mut cursor = cursor(&two_tasks(folder.path()), SORTED);
    let mut lengths: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for draw in cursor.next(40).unwrap() {
        let of_task = lengths.entry(draw.example.task).or_default();
        of_task.push(draw.example.length);
    }
    assert_eq!(lengths["ta"], (71..=100).collect::<Vec<_>>());
    assert_eq!(lengths["tb"], (91..=100).collect::<Vec<_>>());
}

#[test]
fn held_out_rows_are_never_drawn() {
    let folder = folder();
    let config = config([(
        "a",
        FileConfig {
            held_out: 5,
            ..jsonl("a.jsonl", "ta")
        },
    )]);
    let catalog = open(&config, folder.path());
    let held_out = catalog.held_out(&[]).unwrap();
    assert_eq!(held_out.len(), 5);
    let draws = cursor(&catalog, SHUFFLED).next(75).unwrap();
    assert!(draws.iter().all(|draw| !held_out.contains(&draw.example)));
}

#[test]
fn a_stage_draws_from_its_sources_alone() {
    let folder = folder();
    let curriculum = CurriculumConfig {
        sources: vec!["b".to_owned()],
        ..Default::default()
    };
    let mut cursor = Cursor::new(two_tasks(folder.path()), &curriculum, 0).unwrap();
    let draws = cursor.next(10).unwrap();
    assert!(ids(&draws).iter().all(|id| id.starts_with("b/")));
}

#[test]
fn bad_row_names_file_and_line() {
    let folder = folder();
    let config = config([("bad", jsonl("bad.jsonl", "t"))]);
    let error = Catalog::open(&config, folder.path(), "t").unwrap_err();
    let expected = format!(
        "{}:3: key `prompt` (for `prompt`) must be a string, is a number",
        folder.path().join("bad.jsonl").display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn skipped_rows_are_reported_and_the_rest_is_read() {
    let folder = folder();
    let mut config = config([("bad", jsonl("bad.jsonl", "t"))]);
    config.on_bad_row = OnBadRow::Skip;
    let catalog = open(&config, folder.path());
    assert_eq!(catalog.skipped().len(), 1);
    assert!(catalog.skipped()[0].to_string().contains("bad.jsonl:3: "));
    assert!(!catalog.skipped()[0].row.is_absent());
    let mut cursor = cursor(&catalog, SORTED);
    let prompts: Vec<String> = cursor
        .next(2)
        .unwrap()
        .into_iter()
        .map(|draw| draw.example.fields["prompt"].clone())
        .collect();
    assert_eq!(prompts, ["one", "three"]);
}

#[test]
fn mapped_fields_reach_into_objects_and_lists() {
    let folder = tempfile::tempdir().unwrap();
    let row =
        r#"{"turns": [{"value": "draw"}], "out": {"a.b": "<svg/>"}, "picture": "x.png", "k": "v"}"#;
    std::fs::write(folder.path().join("r.jsonl"), row).unwrap();
    let fields = [
        ("prompt", "turns.0.value"),
        ("image", "picture"),
        ("style", "k"),
    ];
    let source = FileConfig {
        fields: fields
            .iter()
            .map(|(ours, key)| ((*ours).to_owned(), (*key).to_owned()))
            .collect::<IndexMap<_, _>>(),
        media_root: Some("media".into()),
        ..jsonl("r.jsonl", "t")
    };
    let catalog = open(&config([("r", source)]), folder.path());
    let example = cursor(&catalog, SHUFFLED)
        .next(1)
        .unwrap()
        .remove(0)
        .example;
    assert_eq!(example.id, "r/1");
    assert_eq!(example.fields["prompt"], "draw");
    assert_eq!(example.fields["style"], "v");
    let image = rewards::ImageSource::Path(folder.path().join("media/x.png"));
    assert_eq!(example.reference.image, Some(image));
}
