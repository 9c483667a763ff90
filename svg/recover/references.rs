//! References in text and values: what stands behind an ampersand, and whether XML has the character.

/// What stands behind an ampersand: the name or number (possibly empty), and whether it is closed.
pub(super) fn reference(tail: &str) -> (&str, bool) {
    let starts = tail.starts_with(|c: char| c.is_ascii_alphabetic() || c == '#');
    let length = tail
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '#'))
        .unwrap_or(tail.len());
    let name = if starts { &tail[..length] } else { "" };
    (name, !name.is_empty() && tail[length..].starts_with(';'))
}

/// The offset just past a numeric reference to a character that XML does not have.
pub(super) fn bad_number(value: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(start) = value[from..].find("&#") {
        let start = from + start + 1;
        let (name, closed) = reference(&value[start..]);
        if !closed {
            let digits = name[1..].bytes().take_while(u8::is_ascii_digit).count();
            return Some(start + 1 + digits);
        }
        from = start + name.len();
        if !is_reference(name) {
            return Some(from + 1);
        }
    }
    None
}

pub(super) fn is_reference(name: &str) -> bool {
    match name.strip_prefix('#') {
        None => matches!(name, "lt" | "gt" | "amp" | "quot" | "apos"),
        Some(number) => {
            let code = match number.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            code.ok().and_then(char::from_u32).is_some_and(is_xml)
        }
    }
}

pub(super) fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
