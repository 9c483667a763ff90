//! One meaning a type name: which files declare each.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::sources::Source;

/// Names that every command gives its own: its flags, and a line of its input and output.
const OF_A_COMMAND: [&str; 3] = ["Args", "RowIn", "RowOut"];

/// Type names that several files declare, each with those files. A file pair `enabled.rs` and
/// `disabled.rs` (whatever stands before) declares its names once.
pub fn declared_twice<'a>(
    sources: impl Iterator<Item = &'a Source>,
) -> BTreeMap<String, BTreeSet<String>> {
    let types = Regex::new(
        r"(?m)^\s*(?:pub(?:\([a-z]+\))? )?(?:struct|enum|trait|union) (\w+)|^(?:pub(?:\([a-z]+\))? )?type (\w+)",
    );
    let types = types.unwrap();
    let mut files: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources.filter(|source| !source.is_test()) {
        let code = source.code();
        for found in types.captures_iter(&code) {
            let name = found.get(1).or(found.get(2)).unwrap().as_str();
            let file = source.path.replace("disabled.rs", "enabled.rs");
            files.entry(name.to_owned()).or_default().insert(file);
        }
    }
    files.retain(|name, files| files.len() > 1 && !OF_A_COMMAND.contains(&name.as_str()));
    files
}
