//! Prompts from templates, chat templates, pictures and earlier turns.

use std::sync::Arc;

use std::collections::HashSet;

use super::*;

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
            whole_question: false,
            history: Vec::new(),
            images: Vec::new(),
            reference: rewards::Reference::default(),
            target: None,
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
    draw.example.history = vec![crate::data::Turn {
        question: "<image>What?".into(),
        answer: "A dot, not <image>.".into(),
    }];
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
