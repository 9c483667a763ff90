//! What callers may know of the tasks that a service scores: the parts of each, and what tells its scoring
//! from another of the same name.

use super::parse::RequestProblem;
use crate::scoring::TaskScoring;
use axum::http::StatusCode;
use indexmap::IndexMap;

/// All tasks, in the config's order.
pub(crate) struct Tasks {
    /// Digest of each one's scoring.
    pub digests: IndexMap<String, String>,
    /// Names of each one's parts.
    pub parts: IndexMap<String, Vec<String>>,
    /// That of rows which name none.
    pub first: String,
}

impl Tasks {
    pub fn new(tasks: &IndexMap<String, TaskScoring>) -> Self {
        let names = |task: &TaskScoring| -> Vec<String> {
            let rewards = task.rubric.rewards.iter();
            rewards.map(|rule| rule.common().name.to_owned()).collect()
        };
        let digest = |(name, task): (&String, &TaskScoring)| (name.clone(), task.digest());
        Tasks {
            digests: tasks.iter().map(digest).collect(),
            parts: tasks
                .iter()
                .map(|(t, how)| (t.clone(), names(how)))
                .collect(),
            first: tasks.keys().next().cloned().unwrap_or_default(),
        }
    }

    /// Refuses a caller whose tasks of the same names are scored in another way: it got to know a service that
    /// was started again with another config since.
    pub fn agree(&self, theirs: &IndexMap<String, String>) -> Result<(), RequestProblem> {
        let differs =
            |(name, digest): &(&String, &String)| self.digests.get(*name) != Some(*digest);
        match theirs.iter().find(differs) {
            None => Ok(()),
            Some((name, _)) => Err(RequestProblem::new(
                StatusCode::CONFLICT,
                format!(
                    "tasks.{name}: is not scored here as the caller's config has it (start the service with that config)"
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_means_other_scoring_is_refused() {
        let task = |size: u32| -> TaskScoring {
            serde_json::from_value(serde_json::json!({"render": {"size": size}})).unwrap()
        };
        let tasks = Tasks::new(&IndexMap::from([("a".to_owned(), task(32))]));
        let agree = |name: &str, size| {
            let theirs = IndexMap::from([(name.to_owned(), task(size).digest())]);
            tasks
                .agree(&theirs)
                .map_err(|p| (p.status.as_u16(), p.message))
        };
        assert!(tasks.agree(&IndexMap::new()).is_ok() && agree("a", 32).is_ok());
        for (name, size) in [("a", 33), ("b", 32)] {
            let (status, said) = agree(name, size).unwrap_err();
            assert!(
                status == 409 && said.starts_with(&format!("tasks.{name}: ")),
                "{said}"
            );
        }
    }
}
