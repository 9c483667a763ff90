//! What templates take from Python and the engine lacks: string methods beyond pycompat's, and
//! the tests whose answer differs.

use minijinja::value::{Value as Jinja, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// Adds methods, a test and a function to `environment`.
pub(super) fn add_to(environment: &mut Environment) {
    environment.set_unknown_method_callback(method);
    // A string is a sequence of characters, as Jinja has it.
    environment.add_test("sequence", |value: &Jinja| {
        matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::Map | ValueKind::String
        )
    });
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
}

fn method(state: &mut State, value: &Jinja, name: &str, args: &[Jinja]) -> Result<Jinja, Error> {
    match value.as_str() {
        Some(text) => match of_string(text, name, args)? {
            Some(answer) => Ok(answer),
            None => pycompat::unknown_method_callback(state, value, name, args),
        },
        None => pycompat::unknown_method_callback(state, value, name, args),
    }
}

/// What the method `name` of a string gives; `None` where pycompat knows it, or nobody does.
fn of_string(text: &str, name: &str, args: &[Jinja]) -> Result<Option<Jinja>, Error> {
    let cut = |found: Option<(&str, &str)>, whole: [&str; 3]| -> Result<Jinja, Error> {
        let (separator,): (&str,) = from_args(args)?;
        let parts = match found {
            Some((before, after)) => [before, separator, after],
            None => whole,
        };
        Ok(Jinja::from(minijinja::value::Tuple::from(
            parts.map(Jinja::from),
        )))
    };
    Ok(Some(match name {
        "removeprefix" => {
            let (part,): (&str,) = from_args(args)?;
            Jinja::from(text.strip_prefix(part).unwrap_or(text))
        }
        "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            Jinja::from(text.strip_suffix(part).unwrap_or(text))
        }
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            cut(text.split_once(separator), [text, "", ""])?
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            cut(text.rsplit_once(separator), ["", "", text])?
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            Jinja::from(split_from_the_end(text, separator, most))
        }
        "index" => {
            let (part,): (&str,) = from_args(args)?;
            let at = text.find(part).ok_or_else(|| {
                Error::new(ErrorKind::InvalidOperation, "index: substring not found")
            })?;
            Jinja::from(text[..at].chars().count())
        }
        "swapcase" => {
            let swapped = text.chars().flat_map(|c| match c.is_uppercase() {
                true => c.to_lowercase().collect::<Vec<_>>(),
                false => c.to_uppercase().collect(),
            });
            Jinja::from(swapped.collect::<String>())
        }
        _ => return Ok(None),
    }))
}

/// Python's `rsplit`: `most` cuts at most, from the right; without a separator at runs of
/// whitespace, none of which stays at either end.
fn split_from_the_end(text: &str, separator: Option<&str>, most: Option<i64>) -> Vec<String> {
    let most = usize::try_from(most.unwrap_or(-1)).unwrap_or(usize::MAX);
    let mut parts: Vec<String> = Vec::new();
    let mut rest = match separator {
        Some(_) => text,
        None => text.trim(),
    };
    while parts.len() < most {
        let cut = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rsplit_once(char::is_whitespace),
        };
        let Some((before, after)) = cut else { break };
        parts.push(after.to_owned());
        rest = match separator {
            Some(_) => before,
            None => before.trim_end(),
        };
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    parts.reverse();
    parts
}
