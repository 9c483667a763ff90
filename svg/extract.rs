//! Finding the SVG in a completion. Plain text search, linear in its length; no parsing.

/// The first `<svg ...>...</svg>`, up to the first closing tag that follows (so a nested `<svg>`
/// ends it early, as in the evaluation code of CTRL-S and SArena).
pub fn first_svg(text: &str) -> Option<&str> {
    let start = find_open(text, 0)?;
    let end = text[start..].find(CLOSE)? + start + CLOSE.len();
    Some(&text[start..end])
}

/// The last complete `<svg ...>...</svg>` (SGP's rule).
pub fn last_svg(text: &str) -> Option<&str> {
    let (mut from, mut found) = (0, None);
    while let Some(start) = find_open(text, from) {
        let Some(length) = text[start..].find(CLOSE) else {
            break;
        };
        from = start + length + CLOSE.len();
        found = Some(&text[start..from]);
    }
    found
}

/// From the last `<svg` to the end of the text: what a cut-off completion leaves for repair.
pub fn truncated_tail(text: &str) -> Option<&str> {
    let mut end = text.len();
    while let Some(start) = text[..end].rfind(OPEN) {
        if opens(text, start) {
            return Some(&text[start..]);
        }
        end = start;
    }
    None
}

/// A fenced code block: its language tag and its content without the fence lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence<'a> {
    /// The word after the opening backticks, trimmed.
    pub language: &'a str,
    /// The lines between the fences.
    pub content: &'a str,
    /// Byte range in the text, from the opening backticks to past the closing ones.
    pub span: (usize, usize),
}

/// Every closed fence of three backticks in `text`, in order. A fence opens and closes at the
/// start of a line.
pub fn fences(text: &str) -> Vec<Fence<'_>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, usize, &str)> = None;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let next = offset + line.len();
        if let Some(rest) = line.strip_prefix("```") {
            match open.take() {
                None => open = Some((offset, next, rest.trim())),
                Some((start, body, language)) if rest.trim().is_empty() => {
                    let content = text[body..offset].trim_end_matches(['\n', '\r']);
                    found.push(Fence {
                        language,
                        content,
                        span: (start, offset + 3),
                    });
                }
                still => open = still,
            }
        }
        offset = next;
    }
    found
}

const OPEN: &str = "<svg";
const CLOSE: &str = "</svg>";

fn opens(text: &str, start: usize) -> bool {
    matches!(
        text.as_bytes().get(start + OPEN.len()),
        None | Some(b' ' | b'\t' | b'\n' | b'\r' | b'>' | b'/')
    )
}

fn find_open(text: &str, mut from: usize) -> Option<usize> {
    while let Some(at) = text[from..].find(OPEN) {
        if opens(text, from + at) {
            return Some(from + at);
        }
        from += at + OPEN.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_and_last_differ_when_two_documents_stand_in_a_text() {
        let text = "a <svg>1</svg> b <svg x=\"2\">2</svg> c";
        assert_eq!(first_svg(text), Some("<svg>1</svg>"));
        assert_eq!(last_svg(text), Some("<svg x=\"2\">2</svg>"));
    }

    #[test]
    fn a_longer_tag_name_is_not_an_svg() {
        assert_eq!(first_svg("<svgx></svg>"), None);
        assert_eq!(truncated_tail("<svg a <svgfoo"), Some("<svg a <svgfoo"));
    }

    #[test]
    fn an_unfinished_document_is_only_a_tail() {
        let text = "x <svg><g>";
        assert_eq!((first_svg(text), last_svg(text)), (None, None));
        assert_eq!(truncated_tail(text), Some("<svg><g>"));
    }

    #[test]
    fn fences_carry_language_and_content() {
        let found = fences("a\n```svg\n<svg/>\n```\nb\n```\nc\n```");
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].language, found[0].content), ("svg", "<svg/>"));
        assert_eq!((found[1].language, found[1].content), ("", "c"));
    }

    #[test]
    fn an_open_fence_is_not_found() {
        assert!(fences("```svg\n<svg/>").is_empty());
    }
}
