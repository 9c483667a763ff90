//! Prompts from templates, chat templates, pictures and earlier turns.

use std::sync::Arc;

use std::collections::HashSet;

use indexmap::IndexMap;

use super::*;
use crate::data::Talk;

fn draw(number: u64) -> Draw {
    let fields = [("prompt", "a red circle"), ("draft", "<svg {x}/>")];
    Draw {
        example: Example {
            id: "s/1".to_owned(),
            task: "t".to_owned(),
            fields: fields
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            talk: Talk::default(),
            images: Vec::new(),
            reference: rewards::Reference::default(),
            target: None,
            rejected: serde_json::Map::new(),
            length: 0,
        },
        draw: number,
        bucket: None,
    }
}

fn config(templates: &[&str]) -> PromptConfig {
    PromptConfig {
        templates: templates.iter().map(|t| (*t).to_owned()).collect(),
        ..Default::default()
    }
}

#[test]
fn placeholders_are_filled_once_and_braces_kept() {
    let config = config(&["{{draw}} {prompt}: {draft}"]);
    let prompter = Prompter::new(&config, None, 0).unwrap();
    let text = prompter.text(&draw(0)).unwrap();
    assert_eq!(text, "{draw} a red circle: <svg {x}/>");
}

#[test]
fn chat_template_wraps_the_turns_and_the_prefill_follows() {
    let chat = Arc::new(
        ChatTemplate::compile(
            "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\
         {% if add_generation_prompt %}<assistant>{% endif %}",
            IndexMap::new(),
        )
        .unwrap(),
    );
    let config = PromptConfig {
        system: Some("Be brief.".to_owned()),
        prefill: Some("<think>".to_owned()),
        ..config(&["Draw {prompt}"])
    };
    let prompter = Prompter::new(&config, Some(&chat), 0).unwrap();
    assert_eq!(
        prompter.text(&draw(0)).unwrap(),
        "<system>Be brief.<user>Draw a red circle<assistant><think>"
    );
}

#[test]
fn the_template_of_a_draw_depends_on_seed_and_number() {
    let config = config(&["a{prompt}", "b{prompt}", "c{prompt}"]);
    let texts = |seed| -> Vec<String> {
        let prompter = Prompter::new(&config, None, seed).unwrap();
        (0..50).map(|n| prompter.text(&draw(n)).unwrap()).collect()
    };
    assert_eq!(texts(1), texts(1));
    assert_ne!(texts(1), texts(2));
    assert_eq!(texts(1).into_iter().collect::<HashSet<_>>().len(), 3);
}

#[test]
fn pictures_go_where_the_words_say_else_before_them() {
    let picture = || rewards::ImageSource::Path("a.png".into());
    let seen = |templates: &[&str], chat: Option<&Arc<ChatTemplate>>, count: usize| {
        let config = config(templates);
        let mut draw = draw(0);
        draw.example.images = (0..count).map(|_| picture()).collect();
        let prompter = Prompter::new(&config, chat, 0).unwrap();
        prompter.with_pictures("[pad]", true).text(&draw)
    };
    assert_eq!(
        seen(&["Draw {prompt}"], None, 1).unwrap(),
        "[pad]Draw a red circle"
    );
    assert_eq!(
        seen(&["as {image} but {image}!"], None, 2).unwrap(),
        "as [pad] but [pad]!"
    );
    let chat = Arc::new(
        ChatTemplate::compile(
            "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}\
         {% for part in m.content %}{% if part.type == 'image' %}(pic){% else %}{{ part.text }}\
         {% endif %}{% endfor %}{% endif %}{% endfor %}",
            IndexMap::new(),
        )
        .unwrap(),
    );
    assert_eq!(
        seen(&["Draw {image}: {prompt}"], Some(&chat), 1).unwrap(),
        "Draw (pic): a red circle"
    );
    assert_eq!(
        seen(&["Draw {prompt}"], Some(&chat), 0).unwrap(),
        "Draw a red circle"
    );
    let error = seen(&["{image}"], None, 2).unwrap_err().to_string();
    assert!(error.contains("2 picture(s) for 1 place(s)"), "{error}");
    let config = config(&["{prompt}"]);
    let mut blind = draw(0);
    blind.example.images = vec![picture()];
    let error = Prompter::new(&config, None, 0)
        .unwrap()
        .text(&blind)
        .unwrap_err();
    assert!(error.to_string().contains("reads text only"), "{error}");
}

#[test]
fn earlier_turns_go_before_the_question_with_their_pictures() {
    let chat = Arc::new(
        ChatTemplate::compile(
            "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}\
         {% else %}{% for part in m.content %}{% if part.type == 'image' %}(pic)\
         {% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}<assistant>",
            IndexMap::new(),
        )
        .unwrap(),
    );
    let mut draw = draw(0);
    let said = |role: &str, words: &str| Turn {
        role: role.into(),
        words: Some(words.into()),
        ..Turn::default()
    };
    draw.example.talk.history = vec![
        said("user", "<image>What?"),
        said("assistant", "A dot, not <image>."),
    ];
    draw.example.images = vec![rewards::ImageSource::Path("a.png".into())];
    let config = config(&["Draw {prompt}"]);
    let with = |chat| Prompter::new(&config, chat, 0).unwrap();
    assert_eq!(
        with(Some(&chat))
            .with_pictures("[pad]", true)
            .text(&draw)
            .unwrap(),
        "<user>(pic)What?<assistant>A dot, not <image>.<user>Draw a red circle<assistant>"
    );
    assert_eq!(
        with(Some(&chat))
            .with_pictures("[pad]", false)
            .text(&draw)
            .unwrap(),
        "<user>[pad]What?<assistant>A dot, not <image>.<user>Draw a red circle<assistant>"
    );
    let error = with(None).with_pictures("[pad]", false).text(&draw);
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("several turns needs a chat template"),
        "{error}"
    );
}

#[test]
fn errors_name_the_template_and_the_field() {
    let prompter_of = |config: &PromptConfig| Prompter::new(config, None, 0).map(|_| ());
    let error = prompter_of(&config(&["{prompt}", "{a b}"])).unwrap_err();
    assert!(
        error.to_string().starts_with("templates.1: `{a b`"),
        "{error}"
    );
    let missing = config(&["{text}"]);
    let error = Prompter::new(&missing, None, 0).unwrap().text(&draw(0));
    assert_eq!(
        error.unwrap_err().to_string(),
        r#"example s/1: templates.0 needs `{text}`, the row has ["prompt", "draft"]"#
    );
    let always = PromptConfig {
        chat: ChatUse::Always,
        ..Default::default()
    };
    assert!(
        prompter_of(&always)
            .unwrap_err()
            .to_string()
            .starts_with("chat: ")
    );
}

/// A template that knows tools, reasoning and any role; `knows` takes them away.
fn chat(knows: bool) -> Arc<ChatTemplate> {
    let rest = "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}\
         {% for c in m.tool_calls or [] %}[{{ c.function.name }}]{% endfor %}";
    let text = format!(
        "{{% if tools and {knows} %}}<tools {{{{ tools|length }}}}>{{% endif %}}\
         {{% for m in messages %}}{{% if {knows} or m.role in ['user', 'assistant'] %}}<{{{{ m.role }}}}>{}{{{{ m.content or '' }}}}\
         {{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}<assistant>{{% endif %}}",
        if knows { rest } else { "" }
    );
    Arc::new(ChatTemplate::compile(&text, IndexMap::new()).unwrap())
}

#[test]
fn what_a_row_holds_besides_words_is_rendered_or_refused() {
    let call = serde_json::json!([{"function": {"name": "draw"}}]);
    let turn = |role: &str, words: Option<&str>| Turn {
        role: role.into(),
        words: words.map(str::to_owned),
        ..Turn::default()
    };
    let mut with_call = turn("assistant", None);
    with_call.more.insert("tool_calls".into(), call.clone());
    let talks = [
        ("tool_calls", vec![with_call.clone()]),
        ("turn 1 (`tool`)", vec![turn("tool", Some("done"))]),
        (
            "turn 1 (`developer`)",
            vec![turn("developer", Some("be brief"))],
        ),
    ];
    let ask = |knows: bool, draw: &Draw| {
        let prompter = Prompter::new(&config(&["{prompt}"]), Some(&chat(knows)), 0).unwrap();
        prompter.text(draw).map_err(|error| error.to_string())
    };
    for (part, since) in talks {
        let mut draw = draw(0);
        draw.example.talk.since = since;
        let said = ask(false, &draw).unwrap_err();
        assert!(said.contains(part) && said.contains("s/1"), "{said}");
        assert!(ask(true, &draw).is_ok());
    }
    let mut draw = draw(0);
    draw.example.talk.system = Some(String::new());
    draw.example.talk.since = vec![with_call, turn("tool", Some("done"))];
    draw.example
        .talk
        .variables
        .insert("tools".into(), serde_json::json!([1]));
    assert_eq!(
        ask(true, &draw).unwrap(),
        "<tools 1><system><user>a red circle<assistant>[draw]<tool>done<assistant>"
    );
    draw.example.talk.since.clear();
    assert!(
        ask(false, &draw)
            .unwrap_err()
            .contains("does not render `tools`")
    );
}

#[test]
fn an_answer_with_reasoning_is_what_the_template_writes_behind_the_prompt() {
    let mut draw = draw(0);
    draw.example.target = Some("<svg/>".into());
    let answer = |knows: bool, draw: &Draw| {
        let prompter = Prompter::new(&config(&["{prompt}"]), Some(&chat(knows)), 0).unwrap();
        prompter.answer(draw)
    };
    assert_eq!(answer(true, &draw).unwrap(), None);
    let more = &mut draw.example.talk.answer;
    more.insert("reasoning_content".into(), "well".into());
    assert_eq!(
        answer(true, &draw).unwrap().as_deref(),
        Some("(well)<svg/>")
    );
    let said = answer(false, &draw).unwrap_err().to_string();
    assert!(
        said.contains("does not render `reasoning_content`"),
        "{said}"
    );
}

#[test]
fn what_needs_a_chat_template_is_refused_without_one() {
    let prompter = Prompter::new(&config(&["{prompt}"]), None, 0).unwrap();
    let said = |draw: &Draw| prompter.text(draw).unwrap_err().to_string();
    let mut with_system = draw(0);
    with_system.example.talk.system = Some("Be brief.".into());
    assert!(said(&with_system).contains("a system turn needs a chat template"));
    let mut with_tools = draw(0);
    with_tools
        .example
        .talk
        .variables
        .insert("tools".into(), serde_json::json!([1]));
    assert!(said(&with_tools).contains("`tools` needs a chat template"));
}

#[test]
fn places_are_counted_in_words_of_one_s_own_but_not_in_drafts() {
    let mut draw = draw(0);
    draw.example
        .fields
        .insert("prompt".into(), "as <image>".into());
    draw.example.fields.insert("draft".into(), "<image>".into());
    let text = |templates: &[&str], pictures: usize| {
        let mut draw = draw.clone();
        draw.example.images = vec![rewards::ImageSource::Path("a.png".into()); pictures];
        let demands = RowDemands::new(&config(templates)).unwrap();
        let prompter = Prompter::new(&config(templates), None, 0).unwrap();
        let text = prompter.with_pictures("[pad]", true).text(&draw);
        let checked = demands.check(&draw.example);
        assert_eq!(text.is_ok(), checked.is_ok(), "{checked:?}");
        text.map_err(|error| error.to_string())
    };
    assert_eq!(
        text(&["{prompt}: {draft}"], 1).unwrap(),
        "as [pad]: <image>"
    );
    assert_eq!(text(&["Mend {draft}"], 1).unwrap(), "[pad]Mend <image>");
    assert_eq!(text(&["Mend {draft}"], 0).unwrap(), "Mend <image>");
    assert!(
        text(&["{prompt}"], 2)
            .unwrap_err()
            .contains("2 picture(s) for 1 place(s)")
    );
    assert!(
        text(&["{prompt}"], 0)
            .unwrap_err()
            .contains("0 picture(s) for 1 place(s)")
    );
    let demands = RowDemands::new(&config(&["{b}{prompt}", "{a}"])).unwrap();
    assert_eq!(demands.inserted(), ["a", "b", "prompt"]);
    let said = demands.check(&draw.example).unwrap_err();
    assert!(said.starts_with("templates.0 needs `{b}`"), "{said}");
}
