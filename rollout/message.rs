//! Turns of a conversation: words, and words with pictures.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One turn of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What is said.
    #[serde(default)]
    pub content: Content,
    /// Whatever else a chat template may render: reasoning, calls of tools, a name.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What is said in a turn.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Words alone.
    Text(String),
    /// Words and pictures, as chat templates take them: objects with a `type`.
    Parts(Vec<Value>),
    /// Nothing: a call of a tool may stand alone.
    #[default]
    Absent,
}

impl Content {
    /// In one string, `picture` standing for each picture: for chat templates that know words only.
    #[must_use]
    pub fn in_words(self, picture: &str) -> Self {
        let Self::Parts(parts) = self else {
            return self;
        };
        let word = |part: &Value| match part["type"].as_str() {
            Some("image" | "image_url") => picture.to_owned(),
            _ => part["text"].as_str().unwrap_or_default().to_owned(),
        };
        Self::Text(parts.iter().map(word).collect())
    }
}

/// The place of a picture in the words of a template or a row.
pub const PICTURE: &str = "<image>";

/// Words with places for pictures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PicturedWords {
    /// The words before each picture, and those after the last.
    between: Vec<String>,
}

impl PicturedWords {
    pub(crate) fn new() -> Self {
        Self {
            between: vec![String::new()],
        }
    }

    /// Words of a user, in which [`PICTURE`] is a place.
    pub(crate) fn of(text: &str) -> Self {
        let mut words = Self::new();
        words.push(text);
        words
    }

    /// Appends a user's words.
    pub(crate) fn push(&mut self, text: &str) {
        let mut from = 0;
        for place in picture_places(text) {
            self.push_text(&text[from..place]);
            self.push_picture();
            from = place + PICTURE.len();
        }
        self.push_text(&text[from..]);
    }

    /// Appends words as they are: a drawing, an answer.
    pub(crate) fn push_text(&mut self, text: &str) {
        let last = self.between.last_mut();
        last.expect("words have at least one part").push_str(text);
    }

    /// Appends the place of a picture.
    pub(crate) fn push_picture(&mut self) {
        self.between.push(String::new());
    }

    /// Puts `count` pictures before all words.
    pub(crate) fn lead_with(&mut self, count: usize) {
        let before = std::iter::repeat_n(String::new(), count);
        self.between.splice(0..0, before);
    }

    /// How many pictures have a place.
    pub(crate) fn pictures(&self) -> usize {
        self.between.len() - 1
    }

    /// In one string, `picture` standing for each picture.
    pub(crate) fn with(&self, picture: &str) -> String {
        self.between.join(picture)
    }

    /// As the parts that chat templates of policies that see take; words alone where there is no picture.
    pub(crate) fn parts(&self) -> Content {
        if self.pictures() == 0 {
            return Content::Text(self.between.concat());
        }
        let mut parts = Vec::new();
        for (index, words) in self.between.iter().enumerate() {
            if index > 0 {
                parts.push(json!({"type": "image"}));
            }
            if !words.is_empty() {
                parts.push(json!({"type": "text", "text": words}));
            }
        }
        Content::Parts(parts)
    }
}

/// Where the pictures of a user's words stand: [`PICTURE`] is one but within a drawing, where it is an element.
pub(crate) fn picture_places(text: &str) -> Vec<usize> {
    if !text.contains(PICTURE) {
        return Vec::new();
    }
    let drawings = drawings(text);
    let within = |at: usize| drawings.iter().any(|(from, to)| (*from..*to).contains(&at));
    let found = text.match_indices(PICTURE).map(|(at, _)| at);
    found.filter(|at| !within(*at)).collect()
}

/// From where to where SVG stands in a text: whole documents, and fenced blocks of it, which may be cut short.
fn drawings(text: &str) -> Vec<(usize, usize)> {
    let fenced = svg::extract::fences(text)
        .into_iter()
        .filter(|fence| matches!(fence.language, "svg" | "xml") || fence.content.contains("<svg"));
    let mut found: Vec<(usize, usize)> = fenced.map(|fence| fence.span).collect();
    let mut from = 0;
    while let Some(drawing) = svg::extract::first_svg(&text[from..]) {
        let start = drawing.as_ptr().addr() - text.as_ptr().addr();
        from = start + drawing.len();
        found.push((start, from));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_picture_within_a_drawing_is_text() {
        let text =
            "<image> as <svg><image></image></svg> and\n```svg\n<svg><image>\n```\nas <image>";
        assert_eq!(picture_places(text), [0, text.len() - PICTURE.len()]);
        let words = PicturedWords::of(text);
        assert_eq!(words.pictures(), 2);
        assert_eq!(words.with("<image>"), text);
        assert!(words.with("[1]").starts_with("[1] as <svg><image></image>"));
        assert!(picture_places("<svg><image></svg>").is_empty());
        assert_eq!(picture_places("<svg <image>"), [5]);
    }

    #[test]
    fn pictures_without_a_place_lead() {
        let mut words = PicturedWords::of("a");
        words.lead_with(2);
        assert_eq!(words.with("-"), "--a");
        let Content::Parts(parts) = words.parts() else {
            panic!("there are pictures");
        };
        assert_eq!(parts.len(), 3);
        assert_eq!(PicturedWords::of("a").parts(), Content::Text("a".into()));
    }

    #[test]
    fn what_a_turn_holds_besides_words_is_kept() {
        let text = r#"{"role":"assistant","content":null,"tool_calls":[1]}"#;
        let message: Message = serde_json::from_str(text).unwrap();
        assert_eq!(message.content, Content::Absent);
        assert_eq!(serde_json::to_string(&message).unwrap(), text);
    }
}
