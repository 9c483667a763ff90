//! The tags of a text that holds XML somewhere, well-formed or not: what stands in comments, CDATA sections,
//! instructions and attribute values is none of them. One linear pass, no parsing, nothing decoded.

use crate::prolog::{doctype_length, is_name, skip_space};
use std::ops::Range;

/// What a tag does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TagKind {
    /// Opens an element.
    Start,
    /// Opens an element and closes it.
    Empty,
    /// Begins like a start tag and breaks off, before another tag or at the end of the text.
    Broken,
    /// Closes an element.
    End,
}

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag<'a> {
    /// The qualified name.
    pub name: &'a str,
    pub kind: TagKind,
    /// Where it lies, from its `<` on.
    pub span: Range<usize>,
    /// Whether words stand between it and the markup before it.
    pub after_words: bool,
}

impl Tag<'_> {
    /// The name without its prefix.
    pub fn local_name(&self) -> &str {
        self.name.rsplit(':').next().unwrap_or(self.name)
    }
}

/// The tags of a text, in order.
pub(crate) struct Tags<'a> {
    text: &'a str,
    at: usize,
    /// Whether the tags before leave an element open: only there is a CDATA section one.
    pub inside: bool,
    /// Ends that do not come any more, so that none is looked for twice.
    gone: Vec<&'static str>,
}

impl<'a> Tags<'a> {
    /// Those of `text`.
    pub fn of(text: &'a str) -> Self {
        Tags {
            text,
            at: 0,
            inside: false,
            gone: Vec::new(),
        }
    }

    /// What stands behind the last tag.
    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The length of `rest` up to and with `end`.
    fn length(&mut self, rest: &str, end: &'static str) -> Option<usize> {
        if self.gone.contains(&end) {
            return None;
        }
        let found = rest.find(end).map(|at| at + end.len());
        if found.is_none() {
            self.gone.push(end);
        }
        found
    }

    /// The length of what is no tag though it begins like one; none where it is plain text.
    fn other(&mut self, rest: &str) -> Option<usize> {
        if let Some(inner) = rest.strip_prefix("<!--") {
            return Some(4 + self.length(inner, "-->")?);
        }
        if rest.starts_with("<![CDATA[") && self.inside {
            return self.length(rest, "]]>");
        }
        if rest.starts_with("<?") {
            return self.length(rest, "?>");
        }
        const DOCTYPE: &str = "<!DOCTYPE";
        if rest.starts_with(DOCTYPE) && !self.gone.contains(&DOCTYPE) {
            let found = doctype_length(rest);
            if found.is_none() {
                self.gone.push(DOCTYPE);
            }
            return found;
        }
        None
    }

    /// The end tag at an offset, with white space before its `>` as XML allows.
    fn end_tag(&self, start: usize) -> Option<Tag<'a>> {
        let bytes = self.text.as_bytes();
        let name = name_at(self.text, start + 2)?;
        let end = skip_space(bytes, start + 2 + name.len());
        (bytes.get(end) == Some(&b'>')).then_some(Tag {
            name,
            kind: TagKind::End,
            span: start..end + 1,
            after_words: false,
        })
    }

    /// The start tag at an offset. A quote opens a value behind `=` alone, and one that nothing closes is none.
    fn start_tag(&mut self, start: usize) -> Option<Tag<'a>> {
        let text = self.text;
        let bytes = text.as_bytes();
        let name = name_at(text, start + 1)?;
        let mut at = start + 1 + name.len();
        let mut assigned = false;
        let kind = loop {
            let Some(&byte) = bytes.get(at) else {
                break TagKind::Broken;
            };
            match byte {
                b'<' => break TagKind::Broken,
                b'>' => {
                    at += 1;
                    break TagKind::Start;
                }
                b'/' if bytes.get(at + 1) == Some(&b'>') => {
                    at += 2;
                    break TagKind::Empty;
                }
                b'"' | b'\'' if assigned => {
                    let quote = if byte == b'"' { "\"" } else { "'" };
                    at += 1 + self.length(&text[at + 1..], quote).unwrap_or(0);
                    assigned = false;
                }
                b' ' | b'\t' | b'\n' | b'\r' => at += 1,
                _ => {
                    assigned = byte == b'=';
                    at += 1;
                }
            }
        };
        Some(Tag {
            name,
            kind,
            span: start..at,
            after_words: false,
        })
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        let mut from = self.at;
        let mut words = false;
        loop {
            let start = from + self.text[from..].find('<')?;
            words |= !self.text[from..start].trim().is_empty();
            let rest = &self.text[start..];
            if let Some(length) = self.other(rest) {
                (from, words) = (start + length, false);
                continue;
            }
            let tag = match rest.starts_with("</") {
                true => self.end_tag(start),
                false => self.start_tag(start),
            };
            if let Some(tag) = tag {
                self.at = tag.span.end;
                return Some(Tag {
                    after_words: words,
                    ..tag
                });
            }
            (from, words) = (start + 1, true);
        }
    }
}

/// The name at a byte offset.
fn name_at(text: &str, start: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let first = *bytes.get(start)?;
    if !is_name(first) || first.is_ascii_digit() || matches!(first, b'-' | b'.') {
        return None;
    }
    let length = bytes[start..].iter().take_while(|&&b| is_name(b)).count();
    Some(&text[start..start + length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let mut tags = Tags::of(text);
        tags.inside = true;
        let sign = |kind| match kind {
            TagKind::Start => "",
            TagKind::Empty => "/",
            TagKind::Broken => "?",
            TagKind::End => "!",
        };
        tags.map(|tag| tag.name.to_owned() + sign(tag.kind))
            .collect()
    }

    #[test]
    fn only_tags_are_tags() {
        for (text, expected) in [
            ("<a><b/></a >", vec!["a", "b/", "a!"]),
            (
                "<a><!-- <b> --><![CDATA[<b>]]><?b <b>?></a>",
                vec!["a", "a!"],
            ),
            ("<a x='<b>' y = \"</a>\"/><c>", vec!["a/", "c"]),
            ("<a it's <b x='1'></b", vec!["a?", "b"]),
            ("<a x=\"1><b/></a>", vec!["a", "b/", "a!"]),
            ("1 < 2 <3 <-- <!-- <d", vec!["d?"]),
            ("<!DOCTYPE a [<!ENTITY b '<c>'>]><a>", vec!["a"]),
        ] {
            assert_eq!(names(text), expected, "{text}");
        }
    }

    #[test]
    fn a_text_of_beginnings_takes_no_longer_than_another() {
        for sign in [
            "<!--",
            "<![CDATA[",
            "<?",
            "<!DOCTYPE ",
            "<a x='",
            "<a x=\"",
            "<",
            "</a",
        ] {
            let text = sign.repeat((4 << 20) / sign.len());
            Tags::of(&text).for_each(drop);
        }
    }
}
