//! A JSON object of a configuration file, read key by key: every error names file and key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::ModelError;

/// Typed access to one JSON object with errors that name file and key.
pub(crate) struct Keys<'a> {
    pub(crate) path: &'a Path,
    pub(crate) map: &'a Map<String, Value>,
}

impl Keys<'_> {
    pub(crate) fn bad(&self, key: &str, reason: impl Into<String>) -> ModelError {
        ModelError::unsupported(self.path, key, reason)
    }

    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn int(&self, key: &str) -> Result<Option<i64>, ModelError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) if (1..=i64::from(i32::MAX)).contains(&number) => Ok(Some(number)),
                _ => Err(self.bad(
                    key,
                    format!("must be a positive integer of 31 bits at most, got {value}"),
                )),
            },
        }
    }

    pub(crate) fn need(&self, key: &str) -> Result<i64, ModelError> {
        self.int(key)?.ok_or_else(|| self.bad(key, "is missing"))
    }

    pub(crate) fn float(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(self.bad(key, format!("must be a positive number, got {value}"))),
            },
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.bad(key, format!("must be true or false, got {other}"))),
        }
    }
}

/// Reads a JSON object from `path`.
pub(crate) fn read_object(path: &Path) -> Result<Map<String, Value>, ModelError> {
    let text = std::fs::read_to_string(path).map_err(ModelError::io(path))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ModelError::malformed(path, "is not a JSON object")),
        Err(error) => Err(ModelError::malformed(path, error)),
    }
}
