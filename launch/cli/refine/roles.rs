//! The words of the three roles.

use std::path::Path;

use indexmap::IndexMap;
use serde::Deserialize;

use super::super::CliFailure;

const OWN: &str = include_str!("../../../configs/templates/refine.yaml");

/// What the policy is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It draws.
    Draft,
    /// It looks at the drawing and judges.
    Critique,
    /// It draws again.
    Correct,
}

/// A template for each role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleTemplates {
    draft: String,
    critique: String,
    correct: String,
}

impl RoleTemplates {
    /// Those of a file, or our own.
    ///
    /// # Errors
    /// A file that is not there or names other roles; a critique that shows no drawing.
    pub fn read(path: Option<&Path>) -> Result<Self, CliFailure> {
        let name = path.map_or("refine.yaml".to_owned(), |path| path.display().to_string());
        let wrong = |error: &dyn std::fmt::Display| {
            CliFailure::input(format!("--templates {name}: {error}"))
        };
        let text = match path {
            Some(path) => std::fs::read_to_string(path).map_err(|error| wrong(&error))?,
            None => OWN.to_owned(),
        };
        let read: Self = serde_saphyr::from_str(&text).map_err(|error| wrong(&error))?;
        for (role, template, needed) in [
            ("draft", &read.draft, "{prompt}"),
            ("critique", &read.critique, "{image}"),
            ("correct", &read.correct, "{draft}"),
        ] {
            if !template.contains(needed) {
                return Err(wrong(&format!("{role}: {needed} is missing")));
            }
        }
        Ok(read)
    }

    /// The role's template.
    pub fn of(&self, role: Role) -> &str {
        match role {
            Role::Draft => &self.draft,
            Role::Critique => &self.critique,
            Role::Correct => &self.correct,
        }
    }
}

/// `template` with `fields` in their places, in one pass: what a field holds is not looked at again.
pub fn filled(template: &str, fields: &IndexMap<&str, &str>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        let found = fields.iter().find_map(|(name, value)| {
            let end = rest[at + 1..].strip_prefix(name)?.strip_prefix('}')?;
            Some((value, end))
        });
        match found {
            Some((value, end)) => {
                out.push_str(value);
                rest = end;
            }
            None => {
                out.push('{');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_put_in_once() {
        let fields = IndexMap::from([("prompt", "a {draft} {"), ("draft", "<svg/>")]);
        let text = filled("{prompt}: {draft} {\"score\": 1} {image}", &fields);
        assert_eq!(text, "a {draft} {: <svg/> {\"score\": 1} {image}");
    }

    #[test]
    fn our_own_words_have_their_places() {
        assert!(RoleTemplates::read(None).is_ok());
    }
}
