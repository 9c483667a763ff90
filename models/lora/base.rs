//! Which folder is a LoRA adapter, and where its base is.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// PEFT's description of an adapter.
pub(super) const CONFIG: &str = "adapter_config.json";
/// PEFT's weights of one.
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";

/// Folders of a run that an adapter's base may be in.
const OF_RUN: [&str; 3] = ["checkpoints", "lora_base", "model_extended"];

/// Whether `folder` holds an adapter and no weights of its own.
pub fn is_adapter(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    has(CONFIG) && !has("model.safetensors") && !has("model.safetensors.index.json")
}

/// The folder that the adapter in `folder` belongs to: a relative path is looked for beside the adapter, then below
/// the working directory; that of a run folder which was moved, in its new place.
///
/// # Errors
/// What is wrong, as a sentence that begins with the adapter's file: a file that says none; a folder that is not
/// there, by its name.
pub fn adapter_base(folder: &Path) -> Result<PathBuf, String> {
    let path = folder.join(CONFIG);
    let said = |reason: String| format!("{}: {reason}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|error| said(error.to_string()))?;
    let config: Value = serde_json::from_str(&text).map_err(|error| said(error.to_string()))?;
    let Some(named) = config["base_model_name_or_path"].as_str() else {
        return Err(said(
            "base_model_name_or_path names no base of the LoRA adapter: write the path of its folder there"
                .into(),
        ));
    };
    let given = Path::new(named);
    let places = [folder.join(given), given.to_owned()];
    let found = places.into_iter().find(|place| place.is_dir());
    found.or_else(|| moved(given, folder)).ok_or_else(|| {
        said(format!(
            "base_model_name_or_path: the LoRA adapter's base {named} is not there; svgrl does not download: write the path of its folder there"
        ))
    })
}

/// Where `base`, a folder within a run, is in the run folder that `adapter` is in now.
fn moved(base: &Path, adapter: &Path) -> Option<PathBuf> {
    let parts: Vec<_> = base.components().collect();
    let of_run = |part: &std::path::Component| OF_RUN.iter().any(|name| part.as_os_str() == *name);
    let from = parts.iter().rposition(of_run)?;
    let inner: PathBuf = parts[from..].iter().collect();
    let adapter = adapter.canonicalize().ok()?;
    let within = |above: &&Path| above.file_name().is_some_and(|name| name == "checkpoints");
    let run = adapter.ancestors().find(within)?.parent()?;
    Some(run.join(inner)).filter(|place| place.is_dir())
}

/// The folder whose tokenizer, template and generation_config.json go with `folder`: its base where it is an adapter
/// without a tokenizer, else itself.
pub fn text_folder(folder: &Path) -> PathBuf {
    let own = folder.join("tokenizer.json").exists() || !is_adapter(folder);
    let base = (!own).then(|| adapter_base(folder).ok()).flatten();
    base.unwrap_or_else(|| folder.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn adapter(folder: &Path, base: &str) {
        fs::create_dir_all(folder).unwrap();
        let text = format!("{{\"base_model_name_or_path\": {base}}}");
        fs::write(folder.join(CONFIG), text).unwrap();
    }

    #[test]
    fn a_base_is_found_beside_the_adapter_and_in_a_run_that_was_moved() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        fs::create_dir_all(at("base")).unwrap();
        adapter(&at("adapter"), "\"../base\"");
        assert!(is_adapter(&at("adapter")) && !is_adapter(&at("base")));
        let found = adapter_base(&at("adapter")).unwrap();
        assert_eq!(
            found.canonicalize().unwrap(),
            at("base").canonicalize().unwrap()
        );
        fs::create_dir_all(at("run/checkpoints/sft/final")).unwrap();
        adapter(
            &at("run/checkpoints/rl/final"),
            "\"/gone/run/checkpoints/sft/final\"",
        );
        let found = adapter_base(&at("run/checkpoints/rl/final")).unwrap();
        assert!(found.ends_with("run/checkpoints/sft/final"), "{found:?}");
        // A folder with weights of its own is no adapter.
        fs::write(at("adapter/model.safetensors"), "").unwrap();
        assert!(!is_adapter(&at("adapter")));
    }

    #[test]
    fn a_base_that_is_not_there_is_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("adapter");
        for (base, named) in [
            ("\"/gone/base\"", "/gone/base is not there"),
            (
                "\"/gone/checkpoints/a\"",
                "/gone/checkpoints/a is not there",
            ),
            ("null", "names no base"),
        ] {
            adapter(&folder, base);
            let error = adapter_base(&folder).unwrap_err();
            assert!(error.contains(named) && error.contains(CONFIG), "{error}");
        }
    }

    #[test]
    fn texts_are_the_base_s_where_the_adapter_has_none() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("adapter");
        fs::create_dir_all(root.path().join("base")).unwrap();
        adapter(&folder, "\"../base\"");
        assert!(text_folder(&folder).ends_with("base"));
        fs::write(folder.join("tokenizer.json"), "{}").unwrap();
        assert_eq!(text_folder(&folder), folder);
    }
}
