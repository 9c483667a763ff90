//! The project's own source files, and what one of them says without its comments and tests.

use std::path::{Path, PathBuf};

/// The folders of the crates, the root package's program among them.
pub const CRATES: [&str; 7] = [
    "svg",
    "rewards",
    "models",
    "torch-ext",
    "rollout",
    "trainer",
    "launch",
];

/// A file of Rust.
pub struct Source {
    /// From the project's root, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    /// Whether it holds tests alone.
    pub fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }

    /// The text up to the file's own tests, without comments and without what strings hold.
    pub fn code(&self) -> String {
        let end = self.text.find("#[cfg(test)]\nmod tests {");
        stripped(&self.text[..end.unwrap_or(self.text.len())])
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of Rust in a folder below the root, in the order of their paths.
pub fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    let relative = |path: PathBuf| {
        let path = path.strip_prefix(root()).expect("found below the root");
        path.to_string_lossy().into_owned()
    };
    let read = |path: PathBuf| Source {
        text: std::fs::read_to_string(&path).unwrap(),
        path: relative(path),
    };
    found.into_iter().map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" {
            walk(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Code alone: line comments and the insides of plain string literals are left out.
fn stripped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("'\"'") || rest.starts_with("b'\"'") {
            out.push_str("' '");
            rest.find('\'').unwrap_or(0) + 3
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let inside = hashes + 2;
            out.push_str("\"\"");
            rest[inside..]
                .find(&close)
                .map_or(rest.len(), |end| inside + end + close.len())
        } else if c == '"' {
            out.push_str("\"\"");
            plain_string(rest)
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

/// The number of `#` of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Bytes up to the end of the string literal that begins here.
fn plain_string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[test]
fn comments_and_strings_are_left_out() {
    let text = "a // b \"\n\"c // d\\\" e\" f r#\"g \" h\"# '\"' i";
    assert_eq!(stripped(text), "a \n\"\" f \"\" ' ' i");
}
