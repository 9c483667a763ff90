//! A document as a tree that can be changed and written: elements of SVG alone, attributes in their
//! order, text where it is drawn.

use super::error::Unsupported;

/// An element, its namespace SVG's.
#[derive(Clone, Debug, Default)]
pub(super) struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Child>,
}

#[derive(Clone, Debug)]
pub(super) enum Child {
    Element(Element),
    Text(String),
}

impl Element {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Sets an attribute in its place, or at the end.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        match self.attributes.iter_mut().find(|(known, _)| known == name) {
            Some(attribute) => attribute.1 = value,
            None => self.attributes.push((name.to_owned(), value)),
        }
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self
            .attributes
            .iter()
            .position(|(known, _)| known == name)?;
        Some(self.attributes.remove(at).1)
    }

    pub(super) fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|child| match child {
            Child::Element(element) => Some(element),
            Child::Text(_) => None,
        })
    }

    pub(super) fn elements_mut(&mut self) -> impl Iterator<Item = &mut Element> {
        self.children.iter_mut().filter_map(|child| match child {
            Child::Element(element) => Some(element),
            Child::Text(_) => None,
        })
    }

    /// Whether this element or one in it passes.
    pub(super) fn any(&self, test: &dyn Fn(&Element) -> bool) -> bool {
        test(self) || self.elements().any(|element| element.any(test))
    }

    /// Visits this element and those in it, in document order.
    pub(super) fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Element)) {
        see(self);
        for element in self.elements() {
            element.visit(see);
        }
    }

    /// As text without white space between elements.
    pub(super) fn written(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        out.push('<');
        out.push_str(&self.name);
        for (name, value) in &self.attributes {
            out.push(' ');
            out.push_str(name);
            out.push_str("=\"");
            escape(value, true, out);
            out.push('"');
        }
        if self.children.is_empty() {
            out.push_str("/>");
            return;
        }
        out.push('>');
        for child in &self.children {
            match child {
                Child::Element(element) => element.write(out),
                Child::Text(text) => escape(text, false, out),
            }
        }
        out.push_str("</");
        out.push_str(&self.name);
        out.push('>');
    }
}

/// Text that reads back as it is, line ends and tabs included.
fn escape(text: &str, quoted: bool, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' if quoted => out.push_str("&quot;"),
            '\n' | '\t' if quoted => out.push(' '),
            '\r' => out.push_str("&#13;"),
            c => out.push(c),
        }
    }
}

/// A number list's parts, split at white space and commas.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_ascii_whitespace() || c == ',')
        .filter(|word| !word.is_empty())
}

/// The ids that an attribute's value refers to.
pub(super) fn references<'a>(name: &str, value: &'a str) -> Vec<&'a str> {
    if name == "href" {
        return value.trim().strip_prefix('#').into_iter().collect();
    }
    let parts = value.split("url(").skip(1);
    let inside = parts.filter_map(|part| part.split(')').next());
    inside
        .filter_map(|id| id.trim_matches([' ', '"', '\'']).strip_prefix('#'))
        .collect()
}

/// The first of two elements with one id, if there are such.
pub(super) fn unique_ids(root: &Element) -> Result<(), Unsupported> {
    let mut seen = std::collections::HashSet::new();
    let mut twice = false;
    root.visit(&mut |element| {
        twice |= element.get("id").is_some_and(|id| !seen.insert(id));
    });
    match twice {
        true => Err(Unsupported::new("one id stands twice")),
        false => Ok(()),
    }
}
