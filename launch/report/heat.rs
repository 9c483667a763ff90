//! Where each token ends in a completion's text, so that its log-probability can colour it.

use std::path::{Path, PathBuf};

use models::Tokenizer;

/// The tokenizer that lies with a run's checkpoints; none before the first one.
pub(super) fn tokenizer(run: &Path) -> Option<Tokenizer> {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        folders.sort();
        folders
    };
    let stages = folders(&run.join("checkpoints"));
    let checkpoints = stages.iter().flat_map(|stage| folders(stage));
    checkpoints
        .filter(|folder| folder.join("tokenizer.json").is_file())
        .find_map(|folder| Tokenizer::read(&folder).ok())
}

/// For each of `ids`, where its text ends in `text`, in UTF-16 units as scripts count them; none where the tokens
/// are not the text's own. `decode` gives the text of some ids.
pub(super) fn ends(ids: &[i64], text: &str, decode: &dyn Fn(&[i64]) -> String) -> Option<Vec<u32>> {
    let mut ends = Vec::with_capacity(ids.len());
    // A token's text may depend on the one before it, and a character may be of several tokens: a window from the
    // last whole piece on is decoded with and without the newest tokens.
    let (mut from, mut done, mut end) = (0, 0, 0u32);
    let mut rest = text;
    for at in 0..ids.len() {
        let before = decode(&ids[from..done]);
        let whole = decode(&ids[from..=at]);
        if let Some(piece) = whole.strip_prefix(&before)
            && !(whole.ends_with('\u{fffd}') && at + 1 < ids.len() && at - done < 8)
        {
            match rest.strip_prefix(piece) {
                Some(left) => rest = left,
                None => return None,
            }
            end += piece.encode_utf16().count() as u32;
            (from, done) = (done, at + 1);
        }
        ends.push(end);
    }
    rest.is_empty().then_some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes as tokens.
    fn bytes(ids: &[i64]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .map(|id| *id as u8)
            .filter(|byte| *byte != 0)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    #[test]
    fn a_character_of_several_tokens_ends_with_its_last_one() {
        let text = "a\u{e9}\u{1f600}b";
        let ids: Vec<i64> = text.bytes().map(i64::from).chain([0]).collect();
        let found = ends(&ids, text, &bytes).unwrap();
        // The emoji is two UTF-16 units.
        assert_eq!(found, [1, 1, 2, 2, 2, 2, 4, 5, 5]);
    }

    #[test]
    fn tokens_of_another_text_give_nothing() {
        let ids: Vec<i64> = "abc".bytes().map(i64::from).collect();
        assert_eq!(ends(&ids, "abd", &bytes), None);
        assert_eq!(ends(&ids, "abcd", &bytes), None);
    }
}
