//! Chat templates of Hugging Face folders, rendered as transformers renders them: the same
//! whitespace rules, `tojson` without HTML escapes, `raise_exception`, `strftime_now`, loop
//! controls and Python's string methods. What the engine does not know is an error with its line. A
//! `generation` block renders its body.
//!
//! Left out: the mask of assistant tokens (completions are rendered apart from their
//! prompt, so their lengths are known) and templates chosen by tool use.

mod clock;
mod json;
mod python;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use indexmap::IndexMap;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as Jinja};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;
use serde_json::Value;

/// Name under which the one template of an environment is kept; it shows in messages.
const NAME: &str = "chat_template";
/// Tokens that templates may name, such as `bos_token`.
const SPECIAL: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// A folder's chat template that cannot be read or rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A file that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The template's syntax.
    #[error("chat template, line {line}: {problem}")]
    Syntax {
        /// Line of the template, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// The template refuses the messages (`raise_exception`) or fails on them.
    #[error("chat template, line {line}: {problem}")]
    Render {
        /// Line of the template, from 1; 0 where it is not known.
        line: usize,
        /// The template's own sentence, or the engine's.
        problem: String,
    },
}

/// A compiled chat template together with its folder's special tokens.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: IndexMap<String, String>,
}

impl ChatTemplate {
    /// The template of a folder: `chat_template.jinja`, else `chat_template` in
    /// `chat_template.json` or `tokenizer_config.json` (a string, or a list of named ones with a `default`).
    /// `None` when the folder has neither.
    ///
    /// # Errors
    /// An unreadable or malformed file, or a template that does not compile.
    pub fn load(folder: &Path) -> Result<Option<Self>, TemplateError> {
        let folder = &models::text_folder(folder);
        let mut special = IndexMap::new();
        let mut source = None;
        let config_path = folder.join("tokenizer_config.json");
        for path in [folder.join("special_tokens_map.json"), config_path.clone()] {
            if let Some(config) = read_json(&path)? {
                special.extend(special_tokens(&config));
                if path == config_path {
                    source = default_template(&config, &path)?;
                }
            }
        }
        // A processor's file goes before the tokenizer's, the newer form before the older.
        let older = folder.join("chat_template.json");
        if let Some(config) = read_json(&older)? {
            source = default_template(&config, &older)?.or(source);
        }
        if let Some(text) = read(&folder.join("chat_template.jinja"))? {
            source = Some(text);
        }
        source.map(|text| Self::compile(&text, special)).transpose()
    }

    /// Compiles a template; `special` holds the tokens it may name (`bos_token`, ...).
    ///
    /// # Errors
    /// A syntax error, with its line.
    pub fn compile(source: &str, special: IndexMap<String, String>) -> Result<Self, TemplateError> {
        Self::compile_at(source, special, SystemTime::now)
    }

    fn compile_at(
        source: &str,
        special: IndexMap<String, String>,
        now: fn() -> SystemTime,
    ) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .map_err(|error| syntax(&error))?,
        );
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        python::add_to(&mut environment);
        environment.add_filter("tojson", json::tojson);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", move |format: &str| {
            clock::strftime(format, now())
        });
        environment
            .add_template_owned(NAME, without_generation_blocks(&one_newline(source)))
            .map_err(|error| syntax(&error))?;
        Ok(Self {
            environment,
            special,
        })
    }

    /// The text of a conversation. `messages` serialise to objects with `role` and
    /// `content`; `variables` are further names that the template may use (`tools`,
    /// `enable_thinking`, ...).
    ///
    /// # Errors
    /// What the template raises, or an operation it cannot do on these messages.
    pub fn render<M: Serialize>(
        &self,
        messages: &[M],
        add_generation_prompt: bool,
        variables: &IndexMap<String, Value>,
    ) -> Result<String, TemplateError> {
        let mut context: IndexMap<&str, Jinja> = IndexMap::new();
        for (name, token) in &self.special {
            context.insert(name, Jinja::from(token.as_str()));
        }
        context.insert("tools", Jinja::from(()));
        context.insert("documents", Jinja::from(()));
        for (name, value) in variables {
            context.insert(name, Jinja::from(Serde(value)));
        }
        context.insert("messages", Jinja::from(Serde(messages)));
        context.insert("add_generation_prompt", Jinja::from(add_generation_prompt));
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Jinja::from_pairs(context)))
            .map_err(|error| TemplateError::Render {
                line: error.line().unwrap_or(0),
                problem: own_words(&error),
            })
    }
}

fn raise_exception(message: &str) -> Result<Jinja, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

fn syntax(error: &Error) -> TemplateError {
    TemplateError::Syntax {
        line: error.line().unwrap_or(0),
        problem: own_words(error),
    }
}

/// The sentence of an error without its kind and place.
fn own_words(error: &Error) -> String {
    match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.to_string(),
    }
}

/// The source with the line ends that Jinja reads: files written on Windows carry others.
fn one_newline(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// Blocks that mark the assistant's text, turned into blocks that are always rendered:
/// whitespace control at either end stays as it is.
fn without_generation_blocks(source: &str) -> String {
    let mut rest = source;
    let mut out = String::with_capacity(source.len());
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (open, close) = (start + 2, start + length);
        out.push_str(&rest[..open]);
        let tag = &rest[open..close];
        let word = tag.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str(&match word {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        });
        rest = &rest[close..];
    }
    out.push_str(rest);
    out
}

fn read(path: &Path) -> Result<Option<String>, TemplateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TemplateError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

fn read_json(path: &Path) -> Result<Option<Value>, TemplateError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|error| TemplateError::Format {
            path: path.to_owned(),
            problem: error.to_string(),
        })
}

/// A special token stands as a string or as an object with `content`.
fn special_tokens(config: &Value) -> Vec<(String, String)> {
    SPECIAL
        .iter()
        .filter_map(|name| {
            let token = config.get(name)?;
            let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
            Some(((*name).to_owned(), text.to_owned()))
        })
        .collect()
}

fn default_template(config: &Value, path: &Path) -> Result<Option<String>, TemplateError> {
    let format = |problem: &str| TemplateError::Format {
        path: path.to_owned(),
        problem: problem.to_owned(),
    };
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Array(named)) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(|text| Some(text.to_owned()))
            .ok_or_else(|| format("chat_template: the list has none named `default`")),
        Some(_) => Err(format(
            "chat_template: must be a string or a list of named templates",
        )),
    }
}

#[cfg(test)]
mod tests;
