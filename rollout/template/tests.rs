//! Parity with transformers, errors, and where the template is found.

use std::time::Duration;

use serde_json::json;

use super::*;

const TEMPLATES: [(&str, &str); 3] = [
    ("qwen2_like", include_str!("fixtures/qwen2_like.jinja")),
    ("qwen3_like", include_str!("fixtures/qwen3_like.jinja")),
    ("assorted", include_str!("fixtures/assorted.jinja")),
];

fn fixture_now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_792_345_678)
}

fn compiled(source: &str) -> ChatTemplate {
    ChatTemplate::compile(source, IndexMap::new()).unwrap()
}

#[test]
fn renders_what_transformers_renders() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/cases.json")).unwrap();
    let special: IndexMap<String, String> =
        serde_json::from_value(fixture["special"].clone()).unwrap();
    let cases = fixture["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    for (number, case) in cases.iter().enumerate() {
        let (name, source) = TEMPLATES
            .iter()
            .find(|(name, _)| case["template"] == *name)
            .unwrap();
        let template = ChatTemplate::compile_at(source, special.clone(), fixture_now).unwrap();
        let variables = serde_json::from_value(case["variables"].clone()).unwrap();
        let text = template
            .render(
                case["messages"].as_array().unwrap(),
                case["add_generation_prompt"].as_bool().unwrap(),
                &variables,
            )
            .unwrap();
        assert_eq!(
            text,
            case["text"].as_str().unwrap(),
            "case {number}, {name}"
        );
    }
}

#[test]
fn single_expressions_give_what_transformers_gives() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/cases.json")).unwrap();
    let messages = fixture["snippets"]["messages"].as_array().unwrap();
    let rows = fixture["snippets"]["rows"].as_array().unwrap();
    assert!(rows.len() > 50);
    for row in rows {
        let (source, text) = (row[0].as_str().unwrap(), row[1].as_str());
        let got = ChatTemplate::compile_at(source, IndexMap::new(), fixture_now)
            .and_then(|template| template.render(messages, true, &IndexMap::new()));
        assert_eq!(got.as_deref().ok(), text, "{source:?}: {got:?}");
    }
}

#[test]
fn an_exception_of_the_template_is_its_own_sentence() {
    let template = compiled(TEMPLATES[1].1);
    let error = template
        .render(
            &[json!({"role": "system", "content": ""})],
            true,
            &IndexMap::new(),
        )
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "chat template, line 10: no user message <found>"
    );
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = ChatTemplate::compile("one\n{% if %}", IndexMap::new()).unwrap_err();
    assert!(
        matches!(error, TemplateError::Syntax { line: 2, .. }),
        "{error}"
    );
}

#[test]
fn the_file_of_its_own_beats_the_tokenizer_config() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ChatTemplate::load(folder.path()).unwrap().is_none());
    let config = json!({
        "eos_token": {"content": "<end>"},
        "chat_template": [
            {"name": "tool_use", "template": "tools"},
            {"name": "default", "template": "config {{ eos_token }}"},
        ],
    });
    let path = folder.path().join("tokenizer_config.json");
    std::fs::write(path, config.to_string()).unwrap();
    let text = || {
        let template = ChatTemplate::load(folder.path()).unwrap().unwrap();
        template
            .render::<Value>(&[], true, &IndexMap::new())
            .unwrap()
    };
    assert_eq!(text(), "config <end>");
    let path = folder.path().join("chat_template.json");
    std::fs::write(path, r#"{"chat_template": "processor {{ eos_token }}"}"#).unwrap();
    assert_eq!(text(), "processor <end>");
    let path = folder.path().join("chat_template.jinja");
    std::fs::write(path, "own {{ eos_token }}").unwrap();
    assert_eq!(text(), "own <end>");
}
