//! The files that a source's `path` names: one, those of a folder, those that fit a pattern, or those of a dataset
//! as the `datasets` library saves it.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::unpack::ending;

/// The files at `path`, in the order of their names. Of a folder those of the first of `endings` groups that it
/// has any of.
///
/// # Errors
/// No such file or folder; a saved dataset of several splits.
pub(super) fn named(path: &Path, endings: &[&[&str]]) -> io::Result<Vec<PathBuf>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A file that is called so goes before what its name would be a pattern of.
    let pattern = (name.contains('*') && !path.exists()).then_some(&*name);
    let folder = match pattern {
        Some(_) => match path.parent() {
            // A pattern alone is of the working directory, which has no empty name.
            None => Path::new("."),
            Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
            Some(folder) => folder,
        },
        None if path.is_dir() => path,
        None => return Ok(vec![path.to_owned()]),
    };
    if pattern.is_none()
        && let Some(files) = saved_dataset(folder)?
    {
        return Ok(files);
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|file| file.is_file());
    files.sort();
    if let Some(pattern) = pattern {
        files.retain(|file| {
            fits(
                pattern,
                &file.file_name().unwrap_or_default().to_string_lossy(),
            )
        });
        return Ok(files);
    }
    let of = |group: &&[&str]| -> Vec<PathBuf> {
        let known = |file: &&PathBuf| group.contains(&ending(file).as_str());
        files.iter().filter(known).cloned().collect()
    };
    let found = endings.iter().map(of).find(|found| !found.is_empty());
    Ok(found.unwrap_or_default())
}

/// The tables of a folder that `Dataset.save_to_disk` wrote; `None` for any other folder.
fn saved_dataset(folder: &Path) -> io::Result<Option<Vec<PathBuf>>> {
    let wrong = |said: String| io::Error::new(io::ErrorKind::InvalidInput, said);
    let read = |name: &str| -> io::Result<Option<Value>> {
        let path = folder.join(name);
        if !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&path)?;
        let value = serde_json::from_slice(&text);
        value
            .map(Some)
            .map_err(|error| wrong(format!("{name}: not JSON: {error}")))
    };
    if let Some(splits) = read("dataset_dict.json")? {
        let names = splits.get("splits").and_then(Value::as_array);
        let names: Vec<&str> = names
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        return match names.as_slice() {
            [one] => saved_dataset(&folder.join(one)),
            _ => Err(wrong(format!(
                "it is a dataset of the splits {}: a source reads one of them, such as {}",
                names.join(", "),
                folder.join(names.first().unwrap_or(&"train")).display()
            ))),
        };
    }
    let Some(state) = read("state.json")? else {
        return Ok(None);
    };
    let files = state.get("_data_files").and_then(Value::as_array);
    let files: Option<Vec<PathBuf>> = files.map(|files| {
        let names = files
            .iter()
            .filter_map(|file| file.get("filename")?.as_str());
        names.map(|name| folder.join(name)).collect()
    });
    Ok(files.filter(|files| !files.is_empty()))
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(part) = last.replace(part) {
            let part: &str = part;
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(fits("train-*.parquet", "train-00000-of-00012.parquet"));
        assert!(fits("*", "anything") && fits("a*b*c", "a-b-b-c") && fits("ab", "ab"));
        assert!(
            !fits("train-*.parquet", "test-0.parquet") && !fits("a*b", "ab-") && !fits("ab", "abc")
        );
        assert!(!fits("ab*ba", "aba"));
    }

    #[test]
    fn a_folder_gives_its_first_kind_of_files_and_a_saved_dataset_its_tables() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let groups: [&[&str]; 2] = [&["jsonl"], &["csv", "arrow"]];
        let names = |path: &str| -> Vec<String> {
            let found = named(&folder.path().join(path), &groups).unwrap();
            let name = |path: &PathBuf| {
                path.strip_prefix(folder.path())
                    .unwrap()
                    .display()
                    .to_string()
            };
            found.iter().map(name).collect()
        };
        write("a/x.csv", "");
        assert_eq!(names("a"), ["a/x.csv"]);
        write("a/z.jsonl.gz", "");
        write("a/y.jsonl", "");
        assert_eq!(names("a"), ["a/y.jsonl", "a/z.jsonl.gz"]);
        assert_eq!(names("a/*.csv"), ["a/x.csv"]);
        write("d/dataset_dict.json", r#"{"splits": ["train"]}"#);
        write(
            "d/train/state.json",
            r#"{"_data_files": [{"filename": "data-0.arrow"}]}"#,
        );
        write("d/train/cache-1.arrow", "");
        assert_eq!(names("d"), ["d/train/data-0.arrow"]);
        write("d/dataset_dict.json", r#"{"splits": ["train", "test"]}"#);
        let said = named(&folder.path().join("d"), &groups)
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("splits train, test") && said.contains("d/train"),
            "{said}"
        );
    }
}
