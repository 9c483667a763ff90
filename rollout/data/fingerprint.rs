//! What tells a source's rows from other rows: a digest over everything that examples hold, in their order.
//!
//! Where a row lies, and what it is called for that, is left out: files may be moved, split or packed anew.

use std::fmt::Write as _;

use rewards::ImageSource;
use sha2::{Digest, Sha256};

use super::example::Example;

/// What is looked at of a picture that lies in a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureFiles {
    /// Its bytes.
    Bytes,
    /// Its name: a large source's pictures are not all read at the start.
    Names,
}

/// The digest of rows as they are found.
#[derive(Default)]
pub(crate) struct RowDigest(Sha256);

impl RowDigest {
    /// Adds the next row.
    pub(crate) fn add(&mut self, example: &Example, files: PictureFiles) {
        // Whoever gives rows a further field decides here whether it makes other rows of them.
        let Example {
            id: _,
            task: _,
            fields,
            talk,
            images,
            reference,
            target,
            rejected,
            length: _,
        } = example;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{fields:?}{talk:?}{:?}{:?}{:?}{target:?}",
            reference.svg, reference.text, reference.draft
        );
        if !rejected.is_empty() {
            let _ = write!(text, "{rejected:?}");
        }
        self.part(text.as_bytes());
        for image in images.iter().chain(&reference.image) {
            match (image, files) {
                (ImageSource::Png(bytes), _) => self.part(bytes),
                (ImageSource::Path(path), PictureFiles::Bytes) => {
                    // One that cannot be read is a bad row, which is told elsewhere.
                    self.part(&std::fs::read(path).unwrap_or_default());
                }
                (ImageSource::Path(path), PictureFiles::Names) => {
                    let name = path.file_name().unwrap_or_default();
                    self.part(name.as_encoded_bytes());
                }
            }
        }
    }

    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// The digest of the rows so far, sixteen hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        let mut text = String::new();
        for byte in &self.0.finalize()[..8] {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use indexmap::IndexMap;

    use crate::data::{Catalog, DataConfig, FileConfig, SourceConfig};

    /// The digest of a file of rows.
    fn digest(folder: &Path, name: &str, rows: &[&str]) -> String {
        let path = folder.join(name);
        std::fs::write(&path, rows.join("\n")).unwrap();
        let file = FileConfig {
            path,
            ..FileConfig::default()
        };
        let config = DataConfig {
            sources: IndexMap::from([("a".to_owned(), SourceConfig::Jsonl(file))]),
            ..DataConfig::default()
        };
        let catalog = Catalog::open(&config, Path::new(""), "draw").unwrap();
        catalog.summary().remove(0).digest
    }

    #[test]
    fn rows_are_told_from_other_rows_and_not_from_themselves_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, rows: &[&str]| digest(folder.path(), name, rows);
        let rows = [
            r#"{"prompt": "a", "svg": "<svg/>"}"#,
            r#"{"prompt": "b", "svg": "<svg/>"}"#,
        ];
        let first = of("a.jsonl", &rows);
        assert_eq!(first.len(), 16);
        assert_eq!(of("moved.jsonl", &rows), first);
        let other_key = [r#"{"svg": "<svg/>", "prompt": "a"}"#, rows[1]];
        assert_eq!(of("a.jsonl", &other_key), first, "keys in another order");
        let others = [
            vec![rows[1], rows[0]],
            vec![rows[0]],
            vec![rows[0], r#"{"prompt": "b", "svg": "<svg />"}"#],
            vec![rows[0], r#"{"prompt": "b", "text": "<svg/>"}"#],
        ];
        for other in others {
            assert_ne!(of("a.jsonl", &other), first, "{other:?}");
        }
    }

    #[test]
    fn a_picture_that_is_replaced_makes_other_rows() {
        let folder = tempfile::tempdir().unwrap();
        let row = [r#"{"prompt": "a", "images": ["a.png"], "svg": "<svg/>"}"#];
        std::fs::write(folder.path().join("a.png"), b"one").unwrap();
        let first = digest(folder.path(), "a.jsonl", &row);
        assert_eq!(digest(folder.path(), "a.jsonl", &row), first);
        std::fs::write(folder.path().join("a.png"), b"two").unwrap();
        assert_ne!(digest(folder.path(), "a.jsonl", &row), first);
    }
}
