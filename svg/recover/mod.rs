//! Repairing malformed XML the way a recovering parser does, so that a cut-off completion still
//! draws: an end tag closes whatever element is open, open elements are closed at the end, and
//! broken attributes, references, comments and characters are dropped.
//!
//! The rules were read off lxml's `recover=True`, whose answers the tests hold. Linear in the
//! source, no recursion; nothing is decoded, the result is text for the XML parser. Unlike lxml, an
//! undeclared `xlink` prefix is bound to its usual namespace, which the strict parser needs.

mod references;
#[cfg(test)]
mod tests;

use crate::prolog::{is_name, skip_space};
use references::{bad_number, is_reference, is_xml, reference};

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
                self.comment();
            } else if rest.starts_with("<![CDATA[") {
                self.cdata();
            } else if rest.starts_with("<?") {
                match self.name_at(self.at + 2) {
                    "" => self.at += 2,
                    _ => self.skip_past("?>"),
                }
            } else if rest.starts_with("<!") && self.root.is_none() {
                self.doctype();
            } else if rest.starts_with("</") {
                self.end_tag();
            } else if rest.starts_with('<') {
                self.start_tag();
            } else {
                let end = rest.find('<').unwrap_or(rest.len());
                if self.root.is_none()
                    && !rest[..end].trim_start_matches('\u{feff}').trim().is_empty()
                {
                    // Text in front of the document leaves none.
                    self.at = self.source.len();
                    return;
                }
                self.text(&rest[..end]);
                self.at += end;
            }
        }
    }

    fn skip_past(&mut self, end: &str) {
        let rest = &self.source[self.at..];
        self.at += rest.find(end).map_or(rest.len(), |i| i + end.len());
    }

    /// Two dashes end a comment only when no third stands before them.
    fn comment(&mut self) {
        let rest = &self.source[self.at..];
        let mut from = 4;
        self.at += loop {
            match rest.get(from..).and_then(|tail| tail.find("-->")) {
                None => break rest.len(),
                Some(found) if found > 0 && rest.as_bytes()[from + found - 1] == b'-' => {
                    from += found + 3;
                }
                Some(found) => break from + found + 3,
            }
        };
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
        let name = self.name_at(self.at + 2);
        self.at = skip_space(self.source.as_bytes(), self.at + 2 + name.len());
        // What stands between the name and the end of the tag is text.
        if self.source[self.at..].starts_with('>') {
            self.at += 1;
        }
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
                    Attribute::Broken if self.source[self.at..].starts_with(['>', '/']) => {}
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
            // Another attribute may follow only behind white space, which is used up here.
            self.at = equals;
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
        if let Some(end) = bad_number(&rest[..length]) {
            self.at = start + 1 + end;
            return Attribute::Broken;
        }
        self.at = start + length + 2;
        if seen.contains(&name) || seen.len() > MAX_ATTRIBUTES {
            return Attribute::Dropped;
        }
        seen.push(name);
        self.out += &format!(" {name}={}", quote as char);
        let replaced = |c: char| if is_xml(c) { c } else { '\u{fffd}' };
        let value: String = rest[..length].chars().map(replaced).collect();
        self.references(&value);
        self.out.push(quote as char);
        Attribute::Kept
    }

    fn text(&mut self, text: &str) {
        if !self.open.is_empty() {
            // Text from the last reference to a section's end that opened nowhere is lost, and the
            // first bracket of that end.
            let Some(end) = text.rfind("]]>") else {
                return self.references(text);
            };
            if let Some(start) = text[..end].rfind('&') {
                let (name, closed) = reference(&text[start + 1..end]);
                self.references(&text[..start + 1 + name.len() + usize::from(closed)]);
            }
            self.references(&text[end + 1..]);
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
            let (name, closed) = reference(&tail[1..]);
            if closed && is_reference(name) {
                self.out += &format!("&{name};");
            }
            rest = &tail[1 + name.len() + usize::from(closed)..];
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
