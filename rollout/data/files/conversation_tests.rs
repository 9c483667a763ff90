//! Conversations in the forms in which they are published.

use rewards::ImageSource;
use serde_json::{Value, json};

use super::tests::{config, file};
use super::*;
use crate::data::{Catalog, Example, Turn};

fn read(row: &Value, of: fn(FileConfig) -> SourceConfig) -> Result<Example, String> {
    read_mapped(row, of, &[])
}

fn read_mapped(
    row: &Value,
    of: fn(FileConfig) -> SourceConfig,
    fields: &[(&str, &str)],
) -> Result<Example, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), row.to_string()).unwrap();
    let fields = fields
        .iter()
        .map(|(ours, key)| ((*ours).to_owned(), (*key).to_owned()));
    let source = of(FileConfig {
        fields: fields.collect(),
        ..file("a.jsonl")
    });
    let catalog = Catalog::open(&config(source), folder.path(), "t");
    let rows = catalog.and_then(|catalog| catalog.held_out(&[]));
    rows.map(|mut rows| rows.remove(0))
        .map_err(|error| error.to_string())
}

fn user(words: &str) -> Value {
    json!({"role": "user", "content": words})
}

fn assistant(words: &str) -> Value {
    json!({"role": "assistant", "content": words})
}

fn named(turns: &[Turn]) -> Vec<&str> {
    turns.iter().map(|turn| turn.role.as_str()).collect()
}

/// Who speaks before the question and after it.
fn roles(example: &Example) -> (Vec<&str>, Vec<&str>) {
    (named(&example.talk.history), named(&example.talk.since))
}

#[test]
fn systems_speak_where_the_row_puts_them_and_may_say_nothing() {
    let row = json!({"messages": [{"role": "system", "content": ""}, user("a"), {"role": "system", "content": "b"}, assistant("c")]});
    let example = read(&row, SourceConfig::Messages).unwrap();
    assert_eq!(example.talk.system.as_deref(), Some(""));
    assert_eq!(roles(&example), (vec![], vec!["system"]));
    assert_eq!(example.target.as_deref(), Some("c"));
    let beside = json!({"system": "S", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]});
    let example = read(&beside, SourceConfig::Sharegpt).unwrap();
    assert_eq!(example.talk.system.as_deref(), Some("S"));
    let both = json!({"system": "S", "messages": [{"role": "system", "content": "T"}, user("a")]});
    let said = read(&both, SourceConfig::Messages).unwrap_err();
    assert!(said.contains("say different things"), "{said}");
    let nothing = json!({"messages": [{"role": "system", "content": null}, user("a")]});
    let said = read(&nothing, SourceConfig::Messages).unwrap_err();
    assert!(
        said.contains("key `messages.0`: key `content` is missing"),
        "{said}"
    );
}

#[test]
fn parts_are_words_with_their_pictures_in_their_places() {
    let picture = json!({"type": "image", "image": "a.png"});
    let uri =
        json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}});
    let row = json!({"messages": [
        {"role": "user", "content": [{"type": "text", "text": "As "}, picture, {"type": "text", "text": " and "}, uri]},
        {"role": "assistant", "content": [{"type": "text", "text": "<svg/>"}]},
    ]});
    let example = read(&row, SourceConfig::Messages).unwrap();
    assert_eq!(example.fields["prompt"], "As <image> and <image>");
    assert!(matches!(
        &example.images[..],
        [ImageSource::Path(_), ImageSource::Png(_)]
    ));
    assert_eq!(example.target.as_deref(), Some("<svg/>"));
    // Places in the content, pictures beside it.
    let placed = json!({"images": ["b.png"], "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]});
    let example = read(&placed, SourceConfig::Messages).unwrap();
    assert_eq!(
        (example.fields["prompt"].as_str(), example.images.len()),
        ("<image>?", 1)
    );
    for (content, part) in [
        (
            json!([{"type": "video", "video": "a.mp4"}]),
            "parts of the type `video` are not read",
        ),
        (
            json!([{"type": "image"}]),
            "1 `<image>` placeholder(s), the row 0 picture(s)",
        ),
        (
            json!([{"type": "image", "image": 3}]),
            "must hold paths or pictures",
        ),
        (
            json!(7),
            "key `content` must be a string or a list of parts, is a number",
        ),
        (json!([]), "key `content` is empty"),
    ] {
        let row = json!({"messages": [{"role": "user", "content": content}]});
        let said = read(&row, SourceConfig::Messages).unwrap_err();
        assert!(
            said.contains("a.jsonl:1: ") && said.contains(part),
            "{said}"
        );
    }
    let shown = json!({"messages": [user("a"), {"role": "assistant", "content": [{"type": "image", "image": "a.png"}]}]});
    let said = read(&shown, SourceConfig::Messages).unwrap_err();
    assert!(said.contains("`assistant` shows a picture"), "{said}");
}

#[test]
fn the_word_of_a_picture_in_a_drawing_is_no_place() {
    let draft = "Mend <svg><image></image></svg> as in <image>";
    let row = json!({"images": ["a.png"], "messages": [user(draft), assistant("<svg><image></image></svg> <image>")]});
    let example = read(&row, SourceConfig::Messages).unwrap();
    assert_eq!(example.fields["prompt"], draft);
    let blind = json!({"instruction": "Mend <svg><image/><image></svg>", "output": "<svg/>"});
    assert!(
        read(&blind, SourceConfig::Alpaca)
            .unwrap()
            .images
            .is_empty()
    );
}

#[test]
fn tools_are_called_and_answer_between_question_and_answer() {
    let call = json!({"type": "function", "function": {"name": "draw", "arguments": {"r": 1}}});
    let row = json!({
        "tools": "[{\"type\": \"function\", \"function\": {\"name\": \"draw\"}}]",
        "chat_template_kwargs": {"enable_thinking": false},
        "messages": [
            user("a"),
            {"role": "assistant", "content": null, "tool_calls": [call]},
            {"role": "tool", "name": "draw", "content": "done"},
            {"role": "assistant", "content": "<svg/>", "reasoning_content": "well"},
        ],
    });
    let example = read(&row, SourceConfig::Messages).unwrap();
    assert_eq!(roles(&example), (vec![], vec!["assistant", "tool"]));
    assert_eq!(example.talk.since[1].more["name"], "draw");
    assert_eq!(example.talk.answer["reasoning_content"], "well");
    assert_eq!(
        example.talk.variables["tools"][0]["function"]["name"],
        "draw"
    );
    assert_eq!(example.talk.variables["enable_thinking"], false);
    let earlier: Vec<Example> = example.earlier().collect();
    assert_eq!(earlier.len(), 1);
    assert_eq!(
        (earlier[0].target.as_deref(), earlier[0].talk.answer.len()),
        (Some(""), 1)
    );
    let sharegpt = json!({"conversations": [
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": "{\"name\": \"draw\", \"arguments\": {}}"},
        {"from": "observation", "value": "done"},
        {"from": "gpt", "value": "b"},
    ]});
    let example = read(&sharegpt, SourceConfig::Sharegpt).unwrap();
    assert_eq!(roles(&example), (vec![], vec!["assistant", "tool"]));
    assert_eq!(
        example.talk.since[0].more["tool_calls"][0]["function"]["name"],
        "draw"
    );
    let unasked =
        json!({"messages": [user("a"), assistant("b"), {"role": "tool", "content": "c"}]});
    let said = read(&unasked, SourceConfig::Messages).unwrap_err();
    assert!(
        said.contains("key `messages.2`: `tool` speaks out of turn"),
        "{said}"
    );
}

#[test]
fn answers_of_weight_0_are_not_learnt() {
    let weighed = |words: &str, weight: Value| json!({"role": "assistant", "content": words, "weight": weight});
    let row = json!({"messages": [user("a"), weighed("b", json!(0)), user("c"), weighed("d", json!(1)), user("e"), weighed("f", json!(0.0))]});
    let example = read(&row, SourceConfig::Messages).unwrap();
    assert_eq!(
        (example.fields["prompt"].as_str(), example.target.as_deref()),
        ("c", Some("d"))
    );
    assert_eq!(example.earlier().count(), 0);
    for (weight, part) in [
        (
            json!(-0.5),
            "key `messages.1`: key `weight` must be a number >= 0",
        ),
        (json!(0), "every answer has the weight 0"),
    ] {
        let row = json!({"messages": [user("a"), weighed("b", weight)]});
        let said = read(&row, SourceConfig::Messages).unwrap_err();
        assert!(said.contains(part), "{said}");
    }
    let half = json!({"messages": [user("a"), weighed("b", json!(0.25)), user("c"), weighed("d", json!(2))]});
    let example = read(&half, SourceConfig::Messages).unwrap();
    let earlier: Vec<_> = example
        .earlier()
        .map(|turn| turn.talk.answer_weight)
        .collect();
    assert_eq!(
        (example.talk.answer_weight, earlier),
        (Some(2.0), vec![Some(0.25)])
    );
    let flagged = json!({"conversations": [
        {"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "loss": false},
        {"from": "human", "value": "c"}, {"from": "gpt", "value": "d"}]});
    let example = read(&flagged, SourceConfig::Sharegpt).unwrap();
    assert_eq!(
        (example.target.as_deref(), example.earlier().count()),
        (Some("d"), 0)
    );
}

#[test]
fn prompts_and_answers_may_be_lists_of_messages() {
    let row = json!({"prompt": [{"role": "system", "content": "S"}, user("a"), assistant("b"), user("<image>c")],
        "completion": [assistant("<svg/>")], "images": ["a.png"], "data_source": "x",
        "reward_model": {"style": "rule", "ground_truth": "<svg/>"}});
    let fields = [
        ("target", "completion"),
        ("svg", "reward_model.ground_truth"),
    ];
    let example = read_mapped(&row, SourceConfig::Jsonl, &fields).unwrap();
    assert_eq!(
        (
            example.fields["prompt"].as_str(),
            example.talk.system.as_deref()
        ),
        ("<image>c", Some("S"))
    );
    assert_eq!(roles(&example).0, ["user", "assistant"]);
    assert!(example.talk.whole_question);
    assert_eq!(
        (example.target.as_deref(), example.reference.svg.as_deref()),
        (Some("<svg/>"), Some("<svg/>"))
    );
    let answered = json!({"prompt": [user("a"), assistant("b")]});
    let said = read(&answered, SourceConfig::Jsonl).unwrap_err();
    assert!(said.contains("a prompt ends with a question"), "{said}");
    let unplaced = json!({"prompt": [user("<image><image>")], "images": ["a.png"]});
    let said = read(&unplaced, SourceConfig::Jsonl).unwrap_err();
    assert!(
        said.contains("2 `<image>` placeholder(s), the row 1 picture(s)"),
        "{said}"
    );
}

#[test]
fn pairs_are_read_as_trl_writes_them() {
    let explicit = json!({"prompt": [user("a")], "chosen": [assistant("<svg/>")], "rejected": [assistant("no")]});
    let implicit = json!({"chosen": [user("a"), assistant("<svg/>")], "rejected": [user("a"), assistant("no")]});
    let plain = json!({"prompt": "a", "chosen": "<svg/>", "rejected": "no"});
    for row in [explicit, implicit, plain] {
        let example = read(&row, SourceConfig::Dpo).unwrap();
        assert_eq!(example.fields["prompt"], "a", "{row}");
        assert_eq!(
            (
                example.target.as_deref(),
                example.fields["rejected"].as_str()
            ),
            (Some("<svg/>"), "no")
        );
    }
    let fields = [("target", "good"), ("rejected", "bad")];
    for (good, bad) in [
        (json!("<svg/>"), json!("no")),
        (json!([assistant("<svg/>")]), json!([assistant("no")])),
    ] {
        let row = json!({"prompt": "a", "good": good, "bad": bad});
        let example = read_mapped(&row, SourceConfig::Jsonl, &fields).unwrap();
        let rejected = example.rejected().unwrap();
        assert_eq!(
            (example.target.as_deref(), rejected.target.as_deref()),
            (Some("<svg/>"), Some("no"))
        );
    }
    let thought = json!({"prompt": "a", "chosen": [assistant("b")], "rejected": [{"role": "assistant", "content": "c", "reasoning_content": "d"}]});
    let example = read(&thought, SourceConfig::Dpo).unwrap();
    assert_eq!(
        example.rejected().unwrap().talk.answer["reasoning_content"],
        "d"
    );
    assert!(example.talk.answer.is_empty());
    let made = json!({"prompt": "a", "chosen": null, "rejected": null, "dropped": "tie"});
    let said = read(&made, SourceConfig::Dpo).unwrap_err();
    assert!(said.contains("gave no pair (tie)"), "{said}");
    let torn =
        json!({"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("d")]});
    let said = read(&torn, SourceConfig::Dpo).unwrap_err();
    assert!(said.contains("different conversations"), "{said}");
    let none = json!({"chosen": "b", "rejected": "c"});
    assert!(
        read(&none, SourceConfig::Dpo)
            .unwrap_err()
            .contains("key `conversations` is missing")
    );
}

#[test]
fn a_table_of_turns_by_columns_is_a_list_of_them() {
    let row = json!({"conversations": {"from": ["human", "gpt"], "value": ["a", "b"]}});
    let example = read(&row, SourceConfig::Sharegpt).unwrap();
    assert_eq!(
        (example.fields["prompt"].as_str(), example.target.as_deref()),
        ("a", Some("b"))
    );
}
