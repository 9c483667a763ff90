//! What a policy's folder holds besides weights, shape and tokenizer and its checkpoints need as well: the files of
//! its processors, and the code of a network that transformers does not know (`auto_map`), with the modules of the
//! folder that this code imports. Code of other repositories (`owner/name--module.Class`) is not in the folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::ModelError;
use crate::lora::{adapter_base, is_adapter};

/// Files of processors, and what belongs to generation.
const FILES: [&str; 6] = [
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "generation_config.json",
];

/// Configuration files that may name code.
const NAMING: [&str; 4] = [
    "config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
];

/// Copies the companions of `source` to `folder`, where files that are there already stay.
///
/// # Errors
/// A file that cannot be copied.
pub fn copy_aux_files(source: &Path, folder: &Path) -> Result<(), ModelError> {
    let mut names: BTreeSet<String> = FILES.iter().map(|&name| name.to_owned()).collect();
    let mut open: Vec<String> = NAMING
        .iter()
        .filter_map(|name| fs::read(source.join(name)).ok())
        .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
        .flat_map(|config: Value| modules(&config))
        .collect();
    while let Some(module) = open.pop() {
        let name = format!("{module}.py");
        // What is imported may be a name of the package itself.
        if let Ok(code) = fs::read_to_string(source.join(&name))
            && names.insert(name)
        {
            open.extend(imported(&code));
        }
    }
    for name in names {
        let (from, to) = (source.join(&name), folder.join(&name));
        if from.is_file() && !to.exists() {
            fs::copy(&from, &to).map_err(ModelError::io(&from))?;
        }
    }
    // An adapter goes with its base's.
    match is_adapter(source).then(|| adapter_base(source)) {
        Some(Ok(base)) if !is_adapter(&base) => copy_aux_files(&base, folder),
        _ => Ok(()),
    }
}

/// The modules that any `auto_map` in a configuration names.
fn modules(config: &Value) -> Vec<String> {
    match config {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match key == "auto_map" {
                true => classes(value),
                false => modules(value),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The modules of `module.Class`, in lists and objects too.
fn classes(value: &Value) -> Vec<String> {
    match value {
        Value::String(class) => {
            let module = class.split_once('.').map(|(module, _)| module);
            module
                .filter(|m| is_name(m))
                .map(str::to_owned)
                .into_iter()
                .collect()
        }
        Value::Array(several) => several.iter().flat_map(classes).collect(),
        Value::Object(map) => map.values().flat_map(classes).collect(),
        _ => Vec::new(),
    }
}

/// The modules beside it that a module imports: `from .a import b`, `from . import a, b`.
fn imported(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in code.lines() {
        let Some(rest) = line.trim_start().strip_prefix("from .") else {
            continue;
        };
        let Some((module, names)) = rest.split_once("import") else {
            continue;
        };
        match module.trim() {
            "" => found.extend(names.split([',', '(', ')']).filter_map(|name| {
                let name = name.split_whitespace().next()?;
                is_name(name).then(|| name.to_owned())
            })),
            module => found.extend(is_name(module).then(|| module.to_owned())),
        }
    }
    found
}

/// Whether it is a module's name and no path.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_travels_with_what_it_imports_and_nothing_else() {
        let [source, folder] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let write = |name: &str, text: &str| fs::write(source.path().join(name), text).unwrap();
        write(
            "config.json",
            r#"{"auto_map": {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.X", "AutoTokenizer": ["other/repo--tok.T", null], "AutoProcessor": "../../etc/passwd.X"}, "llm_config": {"auto_map": {"AutoConfig": "configuration_y.Y"}}}"#,
        );
        write(
            "modeling_x.py",
            "import os\nfrom .conversation import get\ntry:\n    from . import helper, missing\nexcept ImportError:\n    pass\n",
        );
        for name in [
            "configuration_x",
            "configuration_y",
            "conversation",
            "tok",
            "unused",
        ] {
            write(
                &format!("{name}.py"),
                "from .configuration_x import XConfig\n",
            );
        }
        write("helper.py", "from .modeling_x import X\n");
        write("video_preprocessor_config.json", "{}");
        write("preprocessor_config.json", "{\"a\": 1}");
        write("model.safetensors", "weights");
        fs::write(folder.path().join("preprocessor_config.json"), "{}").unwrap();
        copy_aux_files(source.path(), folder.path()).unwrap();
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [
                "configuration_x.py",
                "configuration_y.py",
                "conversation.py",
                "helper.py",
                "modeling_x.py",
                "preprocessor_config.json",
                "video_preprocessor_config.json"
            ]
        );
        let kept = fs::read_to_string(folder.path().join("preprocessor_config.json")).unwrap();
        assert_eq!(kept, "{}");
    }
}
