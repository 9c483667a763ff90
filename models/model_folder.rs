//! Why a path is no folder that a policy or its tokenizer can be read from, in words that say what to do.

use std::path::Path;

use crate::lora::{adapter_base, is_adapter};

/// What a folder is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderUse {
    /// config.json and safetensors of a policy.
    Policy,
    /// tokenizer.json.
    Tokenizer,
    /// An encoder's files, in whichever form it is published.
    Encoder,
}

/// What is wrong with the path that was `given`, which means `folder`; none for a folder that looks right.
pub fn folder_problem(given: &Path, folder: &Path, wanted: FolderUse) -> Option<String> {
    let text = given.to_string_lossy();
    if text.starts_with('~') {
        return Some(format!("{text}: `~` is not expanded; write the whole path"));
    }
    if !folder.exists() {
        return Some(match is_hub_name(&text) {
            true => format!(
                "{text}: is not there; svgrl does not download: run `hf download {text} --local-dir DIR` and name DIR"
            ),
            false => format!("{text}: is not there"),
        });
    }
    if wanted == FolderUse::Encoder {
        return None;
    }
    if !folder.is_dir() {
        return Some(format!(
            "{text}: is a file; name the folder that holds config.json, safetensors and tokenizer.json"
        ));
    }
    let has = |name: &str| folder.join(name).exists();
    let any = |end: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.any(|name| name.ends_with(end))
    };
    let lacks = match wanted {
        FolderUse::Policy => true,
        FolderUse::Tokenizer => !has("tokenizer.json"),
        FolderUse::Encoder => false,
    };
    if lacks && is_adapter(folder) {
        return match adapter_base(folder) {
            Err(problem) => Some(problem),
            Ok(base) if is_adapter(&base) => Some(format!(
                "{text}: is a LoRA adapter on {}, which is one as well: `svgrl merge --model {} --out DIR` writes that one's plain folder",
                base.display(),
                base.display()
            )),
            Ok(base) => folder_problem(&base, &base, wanted),
        };
    }
    let problem = match wanted {
        FolderUse::Tokenizer if !has("tokenizer.json") => {
            "holds no tokenizer.json; in Python, AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) writes it"
        }
        FolderUse::Policy if !has("config.json") => "holds no config.json",
        FolderUse::Policy if !has("model.safetensors") && !has("model.safetensors.index.json") => {
            if any(".bin") || any(".pt") || any(".pth") {
                "has its weights as .bin, and policies are read from safetensors; in Python, AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT) writes them (AutoModelForImageTextToText where it sees)"
            } else if any(".gguf") {
                "has its weights as GGUF, and policies are read from safetensors: take the model's original folder"
            } else {
                "holds neither model.safetensors nor model.safetensors.index.json"
            }
        }
        _ => return None,
    };
    Some(format!("{text}: {problem}"))
}

/// `owner/name`, as hubs call a model.
fn is_hub_name(text: &str) -> bool {
    let is_name = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(known)
    };
    matches!(text.split_once('/'), Some((owner, name)) if is_name(owner) && is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(folder: &Path, files: &[&str], wanted: FolderUse) -> String {
        let folder = folder.join("m");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        for name in files {
            std::fs::write(folder.join(name), "{}").unwrap();
        }
        folder_problem(&folder, &folder, wanted).unwrap_or_default()
    }

    #[test]
    fn each_mistake_says_what_to_do() {
        let scratch = tempfile::tempdir().unwrap();
        let absent = |given: &str| {
            let folder = scratch.path().join("absent");
            folder_problem(Path::new(given), &folder, FolderUse::Policy).unwrap()
        };
        assert!(
            absent("Qwen/Qwen2.5-7B-Instruct").contains("hf download Qwen/Qwen2.5-7B-Instruct")
        );
        assert!(absent("~/models/qwen").contains("not expanded"));
        for path in ["/models/qwen", "../qwen", "./Qwen/Qwen3", "a/b/c"] {
            assert_eq!(absent(path), format!("{path}: is not there"));
        }
        let said = |files: &[&str], wanted| problem(scratch.path(), files, wanted);
        let lora = ["adapter_config.json", "adapter_model.safetensors"];
        assert!(said(&lora, FolderUse::Policy).contains("names no base"));
        let bin = ["config.json", "pytorch_model-00001-of-00002.bin"];
        assert!(said(&bin, FolderUse::Policy).contains(".bin"));
        assert!(said(&["config.json", "q4.gguf"], FolderUse::Policy).contains("GGUF"));
        assert!(said(&["model.safetensors"], FolderUse::Policy).contains("config.json"));
        assert!(said(&["vocab.json"], FolderUse::Tokenizer).contains("AutoTokenizer"));
        assert_eq!(
            said(&["config.json", "model.safetensors"], FolderUse::Policy),
            ""
        );
        assert_eq!(said(&["pytorch_model.bin"], FolderUse::Encoder), "");
    }
}
