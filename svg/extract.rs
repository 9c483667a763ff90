//! Finding the SVG in a completion: it ends where its root closes. An `<svg>` within it, and `</svg>` in a comment, a
//! CDATA section or an attribute's value, do not end it. Linear in the text, no parsing.
//!
//! Texts speak of SVG as well as they hold it. A start tag that nothing closes is a word where words follow it at once
//! ("the `<svg>` tag"), and was given up where another root follows words; any other is a document that was cut off, and
//! what stands in it is no document of its own. [`as_released`] cuts as the code of papers does.

use crate::markup::{TagKind, Tags};

/// The first whole document.
pub fn first_svg(text: &str) -> Option<&str> {
    Roots::of(text)
        .whole
        .first()
        .map(|&(start, end)| &text[start..end])
}

/// The last whole document.
pub fn last_svg(text: &str) -> Option<&str> {
    Roots::of(text)
        .whole
        .last()
        .map(|&(start, end)| &text[start..end])
}

/// From the root of a document that was cut off to the end of the text: what is left for repair. None where every
/// document is whole.
pub fn truncated_tail(text: &str) -> Option<&str> {
    Roots::of(text).cut.map(|start| &text[start..])
}

/// Whether a root opens somewhere, whole or not.
pub fn holds_svg(text: &str) -> bool {
    let roots = Roots::of(text);
    roots.cut.is_some() || !roots.whole.is_empty()
}

/// Where the tag lies that closes the root which opens at `start`.
pub(crate) fn closing_tag(text: &str, start: usize) -> Option<std::ops::Range<usize>> {
    let mut tags = Tags::of(&text[start..]);
    tags.inside = true;
    let mut depth = 0usize;
    while let Some(tag) = tags.next() {
        match tag.kind {
            TagKind::Start | TagKind::Broken => depth += 1,
            TagKind::Empty => {}
            TagKind::End => depth = depth.saturating_sub(1),
        }
        if depth == 0 {
            let closes = tag.kind == TagKind::End;
            return closes.then(|| start + tag.span.start..start + tag.span.end);
        }
    }
    None
}

/// Whether a start or end tag of one of these local names occurs, under any prefix.
pub fn holds_tag(text: &str, names: &[String]) -> bool {
    if names.is_empty() {
        return false;
    }
    let mut tags = Tags::of(text);
    tags.inside = true;
    tags.any(|tag| names.iter().any(|name| name == tag.local_name()))
}

/// The documents of a text.
struct Roots {
    /// From root to root's end, none within another.
    whole: Vec<(usize, usize)>,
    /// Where the root of one that is not whole begins.
    cut: Option<usize>,
}

/// An `svg` element as its tags tell it.
struct OpenedSvg<'a> {
    name: &'a str,
    start: usize,
    end: Option<usize>,
    /// Whether words follow its start tag at once, or it has no end.
    is_word: bool,
    after_words: bool,
}

impl Roots {
    fn of(text: &str) -> Self {
        let opened = opened(text);
        let (mut whole, mut cut, mut word) = (Vec::new(), None, None);
        let mut covered = 0;
        for one in &opened {
            if one.start < covered {
                continue;
            }
            match one.end {
                Some(end) if cut.is_none() || one.after_words => {
                    whole.push((one.start, end));
                    (cut, covered) = (None, end);
                }
                Some(end) => covered = end,
                None if one.is_word => word = Some(one.start),
                None if cut.is_none() || one.after_words => cut = Some(one.start),
                None => {}
            }
        }
        // A word is all that is left of a document where there is nothing else.
        let cut = cut.or(word.filter(|_| whole.is_empty()));
        Roots { whole, cut }
    }
}

/// Every `svg` element in the order of their start tags.
fn opened(text: &str) -> Vec<OpenedSvg<'_>> {
    let mut found: Vec<OpenedSvg> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut just_opened: Option<usize> = None;
    let mut tags = Tags::of(text);
    while let Some(tag) = tags.next() {
        if let Some(index) = just_opened.take() {
            found[index].is_word |= tag.after_words;
        }
        if tag.local_name() != "svg" {
            continue;
        }
        if tag.kind == TagKind::End {
            let top = open.last().copied();
            if let Some(index) = top.filter(|&index| found[index].name == tag.name) {
                found[index].end = Some(tag.span.end);
                open.pop();
            }
        } else {
            let index = found.len();
            let is_empty = tag.kind == TagKind::Empty;
            found.push(OpenedSvg {
                name: tag.name,
                start: tag.span.start,
                end: is_empty.then_some(tag.span.end),
                is_word: tag.kind == TagKind::Broken && tag.span.end < text.len(),
                after_words: tag.after_words,
            });
            if !is_empty {
                open.push(index);
                just_opened = Some(index);
            }
        }
        tags.inside = !open.is_empty();
    }
    if let Some(index) = just_opened {
        found[index].is_word |= !tags.rest().trim().is_empty();
    }
    found
}

/// How the code of papers cuts: by the words `<svg` and `</svg>` alone, so that an `<svg>` within another ends it early.
pub mod as_released {
    /// The first `<svg ...>...</svg>`, up to the first closing tag that follows (CTRL-S, SArena).
    pub fn first_svg(text: &str) -> Option<&str> {
        let start = find_open(text, 0)?;
        let end = text[start..].find(CLOSE)? + start + CLOSE.len();
        Some(&text[start..end])
    }

    /// The last `<svg ...>...</svg>` (SGP-RL).
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

    /// From the last `<svg` to the end of the text.
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
    fn a_document_ends_where_its_root_closes() {
        for whole in [
            "<svg><svg x='1'><svg/></svg><g/></svg>",
            "<svg><!-- </svg> <svg> --><g/></svg >",
            "<svg><style><![CDATA[a:after{content:'</svg>'}]]></style></svg>",
            "<svg a='</svg>' b = \"<svg>\"><text x=\"/></svg>\"/></svg>",
            "<svg><?x </svg> ?><g/></svg>",
            "<svg viewBox='0 0 1 1'/>",
            "<s:svg xmlns:s='u'><s:svg/><svg></svg></s:svg>",
            "<svg><foreignObject><p>see <svg><g/></svg></p></foreignObject></svg>",
        ] {
            for text in [
                whole.to_owned(),
                format!("Here:\n```svg\n{whole}\n```\nIt's \"done\"."),
                format!("An <svg> tag, an `<svg width=\"1\">` and an <svg element, then:\n{whole}"),
                format!("<!-- <svg>old</svg> -->{whole}"),
                format!("<?xml version='1.0'?><!DOCTYPE svg [<!ELEMENT svg ANY>]>{whole}"),
                format!("<svg><g>\nNo, again:\n{whole}"),
            ] {
                assert_eq!(first_svg(&text), Some(whole), "{text}");
                assert_eq!(last_svg(&text), Some(whole), "{text}");
                assert!(
                    holds_svg(&text) && truncated_tail(&text).is_none(),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_document_that_was_cut_off_is_whole_nowhere() {
        for cut in [
            "<svg><g>",
            "<svg viewBox='0 0",
            "<svg",
            "<svg>",
            "<svg><svg><g/></svg><re",
            "<svg><svg><g",
            "<svg><!-- </svg> --><g></svg",
            "<svg a <svgfoo",
            "<svg>text<g/>",
        ] {
            let text = format!("First the <svg> tag.\n{cut}");
            assert_eq!((first_svg(&text), last_svg(&text)), (None, None), "{text}");
            assert_eq!(truncated_tail(&text), Some(cut), "{text}");
        }
        let text = "<svg>1</svg> and <svg><svg>2</svg><g>";
        assert_eq!(last_svg(text), Some("<svg>1</svg>"));
        assert_eq!(truncated_tail(text), Some("<svg><svg>2</svg><g>"));
    }

    #[test]
    fn a_longer_tag_name_is_not_an_svg() {
        assert_eq!(first_svg("<svgx></svg>"), None);
        assert!(!holds_svg("<svgx></svgx>"));
    }

    #[test]
    fn papers_cut_short_what_holds_another() {
        let text = "<svg><svg>1</svg><g/></svg> <svg>2</svg> <svg";
        assert_eq!(as_released::first_svg(text), Some("<svg><svg>1</svg>"));
        assert_eq!(as_released::last_svg(text), Some("<svg>2</svg>"));
        assert_eq!(as_released::truncated_tail(text), Some("<svg"));
        assert_eq!(
            as_released::truncated_tail("<svg a <svgfoo"),
            Some("<svg a <svgfoo")
        );
        assert_eq!(as_released::first_svg("<svgx></svg>"), None);
    }

    #[test]
    fn names_within_comments_and_values_are_no_tags() {
        let names = ["text".to_owned()];
        for (text, holds) in [
            ("<svg><s:text x='1'>", true),
            ("</text>", true),
            ("<text/>", true),
            (
                "<svg><!-- <text> --><g a='<text>'/><![CDATA[<text>]]><textPath/></svg>",
                false,
            ),
        ] {
            assert_eq!(holds_tag(text, &names), holds, "{text}");
        }
    }

    #[test]
    fn the_closing_tag_is_the_roots() {
        let text = "<!-- a --><svg><g></g><!-- </svg> --></svg><!-- b </svg> -->";
        assert_eq!(
            closing_tag(text, 10).map(|at| at.start),
            text.find("</svg><!-- b")
        );
        assert_eq!(closing_tag("<svg/>", 0), None);
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
