//! Documents that attack, made rather than stored: each with a name that says what it tries.

mod combined;
mod effects;
mod markup;
mod numbers;
mod outside;
mod shapes;

/// A name and the text of a completion.
pub type Attack = (String, String);

/// All of them.
pub fn all() -> Vec<Attack> {
    let mut attacks = markup::attacks();
    attacks.extend(shapes::attacks());
    attacks.extend(numbers::attacks());
    attacks.extend(combined::attacks());
    attacks.extend(effects::attacks());
    attacks.extend(outside::attacks("/etc/hostname", "127.0.0.1:9"));
    attacks
}

pub use outside::attacks as reaching_out;

/// A document of 100 by 100 units around `body`.
pub fn wrap(body: &str) -> String {
    let ns = "xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink'";
    format!("<svg {ns} viewBox='0 0 100 100'>{body}</svg>")
}

/// Collects attacks of one kind.
pub struct Kind {
    name: &'static str,
    found: Vec<Attack>,
}

impl Kind {
    pub fn new(name: &'static str) -> Self {
        Kind {
            name,
            found: Vec::new(),
        }
    }

    /// A whole text.
    pub fn raw(&mut self, what: &str, text: impl Into<String>) {
        self.found
            .push((format!("{} {what}", self.name), text.into()));
    }

    /// The inside of a document.
    pub fn body(&mut self, what: &str, body: impl AsRef<str>) {
        self.raw(what, wrap(body.as_ref()));
    }

    pub fn done(self) -> Vec<Attack> {
        self.found
    }
}
