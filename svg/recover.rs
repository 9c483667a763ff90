//! Repairing malformed XML the way a recovering parser does, so that a cut-off completion still
//! draws: an end tag closes whatever element is open, open elements are closed at the end, and
//! broken attributes, references, comments and characters are dropped.
//!
//! The rules were read off lxml's `recover=True` on small inputs (the tests list them). Linear in the
//! source, no recursion; nothing is decoded, the result is text for the XML parser. Unlike lxml, an
//! undeclared `xlink` prefix is bound to its usual namespace, which the strict parser needs.

use crate::prolog::{is_name, skip_space};

/// Well-formed XML made of what can be saved of `source`; empty when it holds no element.
pub(crate) fn repair(source: &str) -> String {
    let mut repair = Repair {
        source,
        at: 0,
        out: String::with_capacity(source.len() + 64),
        open: Vec::new(),
        root: None,
    };
    repair.run();
    repair.finish()
}

struct Repair<'a> {
    source: &'a str,
    at: usize,
    out: String,
    open: Vec<&'a str>,
    /// Offset in `out` just past the root's name, where namespaces may be added.
    root: Option<usize>,
}

impl<'a> Repair<'a> {
    fn run(&mut self) {
        while self.at < self.source.len() && !(self.root.is_some() && self.open.is_empty()) {
            let rest = &self.source[self.at..];
            if rest.starts_with("<!--") {
                self.skip_past("-->");
            } else if rest.starts_with("<![CDATA[") {
                self.cdata();
            } else if rest.starts_with("<?") {
                self.skip_past("?>");
            } else if rest.starts_with("<!") {
                self.doctype();
            } else if rest.starts_with("</") {
                self.end_tag();
            } else if rest.starts_with('<') {
                self.start_tag();
            } else {
                let end = rest.find('<').unwrap_or(rest.len());
                self.text(&rest[..end]);
                self.at += end;
            }
        }
    }

    fn skip_past(&mut self, end: &str) {
        let rest = &self.source[self.at..];
        self.at += rest.find(end).map_or(rest.len(), |i| i + end.len());
    }

    fn cdata(&mut self) {
        let start = self.at;
        self.skip_past("]]>");
        let whole = &self.source[start..self.at];
        if whole.ends_with("]]>") && !self.open.is_empty() {
            self.text_raw(&whole["<![CDATA[".len()..whole.len() - 3]);
        }
    }

    /// The document type, with any bracketed subset, is dropped: its entities are not wanted.
    fn doctype(&mut self) {
        let rest = &self.source[self.at..];
        let close = rest.find('>').unwrap_or(rest.len());
        let end = match rest[..close].find('[') {
            Some(_) => rest.find("]>").map_or(rest.len(), |i| i + 2),
            None => close + 1,
        };
        self.at = (self.at + end).min(self.source.len());
    }

    fn end_tag(&mut self) {
        self.skip_past(">");
        if let Some(name) = self.open.pop() {
            self.out += &format!("</{name}>");
        }
    }

    fn start_tag(&mut self) {
        let name = self.name_at(self.at + 1);
        if name.is_empty() {
            // A `<` that opens nothing is dropped; what follows is text.
            self.at += 1;
            return;
        }
        self.at += 1 + name.len();
        self.out.push('<');
        self.out += name;
        self.root.get_or_insert(self.out.len());
        let mut seen: Vec<&str> = Vec::new();
        loop {
            let bytes = self.source.as_bytes();
            let before = self.at;
            self.at = skip_space(bytes, self.at);
            match bytes.get(self.at) {
                Some(b'/') if bytes.get(self.at + 1) == Some(&b'>') => {
                    self.at += 2;
                    self.out += "/>";
                    return;
                }
                Some(b'>') => {
                    self.at += 1;
                    self.out.push('>');
                    self.open.push(name);
                    return;
                }
                Some(_) if self.at > before => match self.attribute(&mut seen) {
                    Attribute::Kept | Attribute::Dropped => {}
                    Attribute::Broken => break,
                },
                _ => break,
            }
        }
        // A tag that breaks off ends its element here; the rest is text.
        self.out += "/>";
    }

    fn attribute(&mut self, seen: &mut Vec<&'a str>) -> Attribute {
        let bytes = self.source.as_bytes();
        let name = self.name_at(self.at);
        let equals = skip_space(bytes, self.at + name.len());
        if name.is_empty() {
            return Attribute::Broken;
        }
        if bytes.get(equals) != Some(&b'=') {
            self.at += name.len();
            return Attribute::Dropped;
        }
        let start = skip_space(bytes, equals + 1);
        let Some(&quote) = bytes.get(start).filter(|&&q| q == b'"' || q == b'\'') else {
            self.at = start;
            return Attribute::Broken;
        };
        let rest = &self.source[start + 1..];
        let Some(length) = rest.find(quote as char) else {
            self.at = self.source.len();
            return Attribute::Broken;
        };
        self.at = start + length + 2;
        if seen.contains(&name) || seen.len() > MAX_ATTRIBUTES {
            return Attribute::Dropped;
        }
        seen.push(name);
        self.out += &format!(" {name}={}", quote as char);
        self.references(&rest[..length]);
        self.out.push(quote as char);
        Attribute::Kept
    }

    fn text(&mut self, text: &str) {
        if !self.open.is_empty() {
            self.references(&text.replace("]]>", "]]&gt;"));
        }
    }

    fn text_raw(&mut self, text: &str) {
        self.out
            .extend(text.chars().filter(|&c| is_xml(c)).map(|c| match c {
                '<' => "&lt;".to_owned(),
                '&' => "&amp;".to_owned(),
                '>' => "&gt;".to_owned(),
                c => c.to_string(),
            }));
    }

    /// Copies text, keeping valid references and dropping `&name;` that nothing defines, a lone `&`,
    /// and characters XML does not allow.
    fn references(&mut self, text: &str) {
        let mut rest = text;
        while let Some(next) = rest.find(['&', '<']) {
            self.plain(&rest[..next]);
            let tail = &rest[next..];
            if let Some(after) = tail.strip_prefix('<') {
                self.out += "&lt;";
                rest = after;
                continue;
            }
            let body = tail[1..]
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '#'))
                .unwrap_or(tail.len() - 1);
            let name = &tail[1..1 + body];
            let closed = tail[1 + body..].starts_with(';');
            if closed && is_reference(name) {
                self.out += &format!("&{name};");
            }
            rest = &tail[1 + body + usize::from(closed)..];
        }
        self.plain(rest);
    }

    fn plain(&mut self, text: &str) {
        self.out.extend(text.chars().filter(|&c| is_xml(c)));
    }

    /// The XML name at a byte offset, possibly empty.
    fn name_at(&self, start: usize) -> &'a str {
        let bytes = self.source.as_bytes();
        let starts = bytes
            .get(start)
            .is_some_and(|&b| is_name(b) && !b.is_ascii_digit() && b != b'-' && b != b'.');
        let length = bytes[start..].iter().take_while(|&&b| is_name(b)).count();
        if starts {
            &self.source[start..start + length]
        } else {
            ""
        }
    }

    fn finish(mut self) -> String {
        while let Some(name) = self.open.pop() {
            self.out += &format!("</{name}>");
        }
        if let Some(at) = self.root
            && self.out.contains("xlink:")
            && !self.out.contains("xmlns:xlink")
        {
            self.out
                .insert_str(at, " xmlns:xlink=\"http://www.w3.org/1999/xlink\"");
        }
        self.out
    }
}

enum Attribute {
    Kept,
    Dropped,
    Broken,
}

/// More of them on one tag are dropped: looking for repeated names is quadratic.
const MAX_ATTRIBUTES: usize = 500;

fn is_reference(name: &str) -> bool {
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

fn is_xml(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::repair;

    #[test]
    fn documents_are_repaired_as_lxml_repairs_them() {
        let cases = [
            (
                r#"<svg><g><rect x="1"/><path d="M0 0"#,
                r#"<svg><g><rect x="1"/><path/></g></svg>"#,
            ),
            (
                r#"<svg><g><rect x="1"/><pa"#,
                r#"<svg><g><rect x="1"/><pa/></g></svg>"#,
            ),
            (
                r#"<svg><g><rect x="1"/></g"#,
                r#"<svg><g><rect x="1"/></g></svg>"#,
            ),
            (
                r#"<svg><g><rect/></b><circle/></g></svg>"#,
                r#"<svg><g><rect/></g><circle/></svg>"#,
            ),
            (
                r#"<svg><text>a & b &nbsp; c</text><rect/></svg>"#,
                r#"<svg><text>a  b  c</text><rect/></svg>"#,
            ),
            (
                r#"<svg><g><rect></svg>"#,
                r#"<svg><g><rect></rect></g></svg>"#,
            ),
            (
                r#"<svg><rect a="1" a="2"/></svg>"#,
                r#"<svg><rect a="1"/></svg>"#,
            ),
            (
                r#"<svg><rect a="x<y"/></svg>"#,
                r#"<svg><rect a="x&lt;y"/></svg>"#,
            ),
            (r#"<svg><rect/></svg><g/>"#, r#"<svg><rect/></svg>"#),
            (r#"<svg><!-- foo"#, r#"<svg></svg>"#),
            (r#"<svg><style>a{b"#, r#"<svg><style>a{b</style></svg>"#),
            (r#"<svg><rect x="1" y="#, r#"<svg><rect x="1"/></svg>"#),
            (r#"<svg><rect x="1" y"#, r#"<svg><rect x="1"/></svg>"#),
            (r#"<svg wi"#, r#"<svg/>"#),
            (r#"<svg width="10"#, r#"<svg/>"#),
            (
                r#"<svg><text>a < b</text><rect/></svg>"#,
                r#"<svg><text>a  b</text><rect/></svg>"#,
            ),
            (
                r#"<svg><a x="a&b"/><b/></svg>"#,
                r#"<svg><a x="a"/><b/></svg>"#,
            ),
            (
                r#"<svg><g><rect/></svg></g><b/>"#,
                r#"<svg><g><rect/></g></svg>"#,
            ),
            (r#"<svg><![CDATA[ab"#, r#"<svg></svg>"#),
            (r#"<svg><a></g></a><b/></svg>"#, r#"<svg><a></a></svg>"#),
            (
                r#"<svg><g><a></g><b/></svg>"#,
                r#"<svg><g><a></a><b/></g></svg>"#,
            ),
            ("<svg><text>\u{1}</text></svg>", "<svg><text></text></svg>"),
            (r#"<svg><g a><b/></g></svg>"#, r#"<svg><g><b/></g></svg>"#),
            (
                r#"<svg><g a=1 b="2"><rect/></g></svg>"#,
                r#"<svg><g/>1 b="2"><rect/></svg>"#,
            ),
            (
                r#"<svg><a x="1"y="2"/><b/></svg>"#,
                r#"<svg><a x="1"/>y="2"/><b/></svg>"#,
            ),
        ];
        for (broken, repaired) in cases {
            assert_eq!(repair(broken), repaired, "{broken}");
        }
    }

    #[test]
    fn what_is_repaired_parses() {
        let sources = [
            "<svg><use xlink:href='#a'/>",
            "<svg>]]> &#0; &#65; &#x1F600;",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><svg>",
            "<svg a='\u{2}'>",
        ];
        for source in sources {
            let text = repair(source);
            assert!(
                resvg::usvg::roxmltree::Document::parse(&text).is_ok(),
                "{source} -> {text}"
            );
        }
    }
}
