//! A template of a user's turn: text with the names of fields to insert.

use indexmap::IndexMap;

use crate::message::PicturedWords;

/// Fields that are drawings or answers: the word of a picture in them is text.
const AS_THEY_ARE: [&str; 5] = ["draft", "svg", "target", "text", "rejected"];

/// A template, parsed.
#[derive(Debug)]
pub(super) struct Inserts {
    pieces: Vec<Piece>,
}

/// Part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
    /// `{image}`.
    Picture,
}

impl Inserts {
    /// A template of one field alone.
    pub(super) fn of(field: &str) -> Self {
        Self {
            pieces: vec![Piece::Field(field.to_owned())],
        }
    }

    /// Splits a template at its placeholders.
    pub(super) fn parse(template: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = template.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    text.push(c);
                }
                '{' => {
                    let mut closed = false;
                    let within = chars.by_ref().take_while(|c| {
                        closed = *c == '}';
                        !closed
                    });
                    let name: String = within.collect();
                    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
                    if !closed || name.is_empty() || !name.chars().all(plain) {
                        return Err(format!(
                            "`{{{name}` is no placeholder; write `{{{{` for a brace"
                        ));
                    }
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(match name.as_str() {
                        "image" => Piece::Picture,
                        _ => Piece::Field(name),
                    });
                }
                '}' => return Err("a single `}`; write `}}` for a brace".to_owned()),
                c => text.push(c),
            }
        }
        pieces.push(Piece::Text(text));
        Ok(Self { pieces })
    }

    /// The names of the fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Field(name) => Some(name.as_str()),
            Piece::Text(_) | Piece::Picture => None,
        })
    }

    /// The template with `fields`, or the name of the one that is missing.
    pub(super) fn fill(&self, fields: &IndexMap<String, String>) -> Result<PicturedWords, String> {
        let mut words = PicturedWords::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(part) => words.push(part),
                Piece::Picture => words.push_picture(),
                Piece::Field(name) => {
                    let value = fields.get(name).ok_or_else(|| name.clone())?;
                    match AS_THEY_ARE.contains(&name.as_str()) {
                        true => words.push_text(value),
                        false => words.push(value),
                    }
                }
            }
        }
        Ok(words)
    }
}
