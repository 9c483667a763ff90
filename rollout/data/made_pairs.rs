//! A catalog of pairs that were made in this run, from rows of `format: dpo` in memory.

use std::collections::HashMap;
use std::hash::BuildHasher;

use indexmap::IndexMap;
use serde_json::Value;

use super::catalog::Catalog;
use super::error::DataError;
use super::example::Example;
use super::files::PairReader;

impl Catalog {
    /// The pairs among `rows`, each with the name of its task: one source for each task, all called `name`. Rows
    /// that are no pair are passed over. `inserted` are the names that a task's templates insert.
    ///
    /// # Errors
    /// A row that is none of the format; no pair at all.
    pub fn of_pairs<S: BuildHasher>(
        name: &str,
        rows: &[(String, Value)],
        inserted: &HashMap<String, Vec<String>, S>,
    ) -> Result<Self, DataError> {
        let mut tasks: IndexMap<String, Vec<Example>> = IndexMap::new();
        for (at, (task, row)) in rows.iter().enumerate() {
            let reader = PairReader::new(inserted.get(task).map_or(&[], Vec::as_slice));
            let read = reader.read(row, at);
            let read = read.map_err(|problem| {
                let problem = format!("row {}: {problem}", at + 1);
                DataError::config(format!("pairs of {name}"), problem)
            })?;
            if let Some(example) = read {
                tasks.entry(task.clone()).or_default().push(example);
            }
        }
        if tasks.is_empty() {
            let problem = format!("none of {} prompts gave a pair", rows.len());
            return Err(DataError::config(format!("pairs of {name}"), problem));
        }
        Ok(Self::in_memory(name, tasks))
    }
}
