//! Whether a chat template says what a row holds besides the words of users and assistants: a template that knows
//! no tools, reasoning or turns of other roles leaves them out without a word.

use indexmap::IndexMap;
use serde_json::{Value, json};

use crate::message::{Content, Message};
use crate::template::ChatTemplate;

/// Keys of a turn that must not be lost.
const MUST_SHOW: [&str; 4] = ["reasoning_content", "reasoning", "thinking", "tool_calls"];

/// Refuses what of `messages` is not in `text`, which the template made of them and of `variables`.
///
/// # Errors
/// The turn and the key that the template does not render.
pub fn check_rendered(
    chat: &ChatTemplate,
    messages: &[Message],
    variables: &IndexMap<String, Value>,
    text: &str,
) -> Result<(), String> {
    for (at, message) in messages.iter().enumerate() {
        let role = &message.role;
        // Templates may shorten answers on purpose, as those that leave out earlier thoughts.
        let free = matches!(role.as_str(), "user" | "assistant");
        if let Content::Text(words) = &message.content
            && !free
            && !text.contains(words.trim())
        {
            return Err(format!(
                "turn {at} (`{role}`): the chat template of the policy leaves it out: take such turns out of the \
                 data, or give the folder a template that renders them"
            ));
        }
        for key in MUST_SHOW {
            if message
                .more
                .get(key)
                .is_some_and(|value| !renders(chat, key, value))
            {
                return Err(format!(
                    "turn {at} (`{role}`): the chat template of the policy does not render `{key}`"
                ));
            }
        }
    }
    if let Some(tools) = variables.get("tools") {
        let with = IndexMap::from([("tools".to_owned(), tools.clone())]);
        let messages = [said("user", "a")];
        let bare = chat.render(&messages, true, &IndexMap::new());
        if chat.render(&messages, true, &with).ok() == bare.ok() {
            return Err("the chat template of the policy does not render `tools`".into());
        }
    }
    Ok(())
}

/// Whether an answer's `key` shows at all: in the last answer of a conversation.
fn renders(chat: &ChatTemplate, key: &str, value: &Value) -> bool {
    let of = |value: Option<Value>| {
        let mut answer = said("assistant", "b");
        answer
            .more
            .extend(value.map(|value| (key.to_owned(), value)));
        let messages = [said("user", "a"), answer];
        chat.render(&messages, false, &IndexMap::new()).ok()
    };
    let with = of(Some(value.clone()));
    with.is_some() && with != of(None) && with != of(Some(json!("")))
}

fn said(role: &str, words: &str) -> Message {
    Message {
        role: role.to_owned(),
        content: Content::Text(words.to_owned()),
        ..Message::default()
    }
}
