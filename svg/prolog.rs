//! The root element's start tag, found without parsing the document: where it lies, its name and
//! its attributes. This is enough to know a picture's size and to give the root another.

use std::ops::Range;

/// The root's start tag. Byte ranges index the source; attribute values are raw (no entity decoded).
#[derive(Debug)]
pub(crate) struct RootTag<'a> {
    /// The qualified name, prefix included.
    pub name: &'a str,
    /// Offset just past the name: where attributes may be inserted.
    pub name_end: usize,
    pub attributes: Vec<RootAttribute<'a>>,
    /// Offset of the tag's `>`, or of the `/` before it.
    pub end: usize,
}

#[derive(Debug)]
pub(crate) struct RootAttribute<'a> {
    pub name: &'a str,
    pub value: &'a str,
    /// The whole attribute, name to closing quote.
    pub span: Range<usize>,
}

impl<'a> RootTag<'a> {
    /// Finds the root tag after any declaration, comments, instructions and document type; none when
    /// the text is malformed up to there (the XML parser then says how).
    pub fn find(source: &'a str) -> Option<Self> {
        let start = skip_prolog(source)?;
        let bytes = source.as_bytes();
        let name_start = start + 1;
        let mut at = name_start;
        while at < bytes.len() && is_name(bytes[at]) {
            at += 1;
        }
        let (name, name_end) = (&source[name_start..at], at);
        let mut attributes = Vec::new();
        loop {
            at = skip_space(bytes, at);
            if *bytes.get(at)? == b'>' || bytes[at] == b'/' {
                break;
            }
            let attribute = attribute(source, at)?;
            at = attribute.span.end;
            attributes.push(attribute);
        }
        (!name.is_empty()).then_some(RootTag {
            name,
            name_end,
            attributes,
            end: at,
        })
    }

    /// The raw value of the attribute with this exact qualified name.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.attributes
            .iter()
            .find(|a| a.name == name)
            .map(|a| a.value)
    }
}

fn attribute(source: &str, start: usize) -> Option<RootAttribute<'_>> {
    let bytes = source.as_bytes();
    let mut at = start;
    while at < bytes.len() && is_name(bytes[at]) {
        at += 1;
    }
    let name = &source[start..at];
    at = skip_space(bytes, at);
    if name.is_empty() || *bytes.get(at)? != b'=' {
        return None;
    }
    at = skip_space(bytes, at + 1);
    let quote = *bytes.get(at)?;
    if quote != b'"' && quote != b'\'' {
        return None;
    }
    let length = source[at + 1..].find(char::from(quote))?;
    let value = &source[at + 1..at + 1 + length];
    Some(RootAttribute {
        name,
        value,
        span: start..at + length + 2,
    })
}

fn skip_prolog(source: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        at += source[at..].find('<')?;
        let rest = &source[at..];
        let end = if rest.starts_with("<!--") {
            rest.find("-->")? + 3
        } else if rest.starts_with("<?") {
            rest.find("?>")? + 2
        } else if rest.starts_with("<!") {
            doctype_length(rest)?
        } else {
            return Some(at);
        };
        at += end;
    }
}

/// Length of a document type declaration, its bracketed subset and quoted strings included.
pub(crate) fn doctype_length(rest: &str) -> Option<usize> {
    let (mut quote, mut subset) = (None, false);
    for (at, byte) in rest.bytes().enumerate() {
        match (quote, byte) {
            (Some(q), b) if q == b => quote = None,
            (Some(_), _) => {}
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'[') => subset = true,
            (None, b']') => subset = false,
            (None, b'>') if !subset => return Some(at + 1),
            _ => {}
        }
    }
    None
}

pub(crate) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_' | b'-' | b'.') || byte >= 0x80
}

pub(crate) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && matches!(bytes[at], b' ' | b'\t' | b'\n' | b'\r') {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_behind_a_prolog() {
        let source = "<?xml version='1.0'?><!-- <svg> --><!DOCTYPE svg [ <!ENTITY a '>'> ]>\n<s:svg a='1' b = \"<\" >";
        let root = RootTag::find(source).unwrap();
        assert_eq!(
            (root.name, root.get("a"), root.get("b")),
            ("s:svg", Some("1"), Some("<"))
        );
    }

    #[test]
    fn a_broken_root_tag_is_not_found() {
        for source in ["<svg a=1>", "<svg a='1", "<svg", "text", "<!-- <svg>"] {
            assert!(RootTag::find(source).is_none(), "{source}");
        }
    }
}
