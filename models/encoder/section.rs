//! Typed access to one object of an encoder's `config.json`, with errors that name file and key.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ModelError;
use crate::json_section::read_object;
use crate::layers::Activation;

/// The largest size that is read.
pub(crate) const MOST: i64 = 1_000_000;

/// One JSON object and the dotted prefix of its keys.
#[derive(Clone)]
pub(crate) struct Section {
    path: PathBuf,
    prefix: String,
    map: Map<String, Value>,
}

impl Section {
    /// The object that is the whole file.
    pub fn read(path: &Path) -> Result<Self, ModelError> {
        Ok(Self {
            path: path.to_owned(),
            prefix: String::new(),
            map: read_object(path)?,
        })
    }

    /// An object that lies in no file.
    pub fn of(value: Value) -> Self {
        let map = match value {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        Self {
            path: PathBuf::new(),
            prefix: String::new(),
            map,
        }
    }

    /// The object under `key`; empty when the key is absent or null.
    pub fn inner(&self, key: &str) -> Result<Self, ModelError> {
        let map = match self.value(key) {
            None => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(other) => return Err(self.bad(key, format!("must be an object, got {other}"))),
        };
        Ok(Self {
            path: self.path.clone(),
            prefix: format!("{}{key}.", self.prefix),
            map,
        })
    }

    /// This object with the keys of `other` over its own, as older CLIP folders need it.
    pub fn overlaid(mut self, other: Self) -> Self {
        self.map.extend(other.map);
        self
    }

    /// An error about `key`.
    pub fn bad(&self, key: &str, reason: impl Into<String>) -> ModelError {
        ModelError::unsupported(&self.path, format!("{}{key}", self.prefix), reason)
    }

    /// The value of a key that is there and not null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A string.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(Value::as_str)
    }

    /// An integer from 1 to a million, which no published size exceeds, or `default`.
    pub fn int(&self, key: &str, default: i64) -> Result<i64, ModelError> {
        self.up_to(key, default, MOST)
    }

    /// A number of blocks: an integer from 1 to 1,000, or `default`.
    pub fn blocks(&self, key: &str, default: i64) -> Result<i64, ModelError> {
        self.up_to(key, default, 1000)
    }

    fn up_to(&self, key: &str, default: i64, most: i64) -> Result<i64, ModelError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => match value.as_i64() {
                Some(number) if (1..=most).contains(&number) => Ok(number),
                _ => Err(self.bad(
                    key,
                    format!("must be an integer from 1 to {most}, got {value}"),
                )),
            },
        }
    }

    /// A token's id.
    pub fn id(&self, key: &str, default: i64) -> Result<i64, ModelError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_i64()
                .ok_or_else(|| self.bad(key, format!("must be one token id, got {value}"))),
        }
    }

    /// A side: one number, or two equal ones.
    pub fn side(&self, key: &str, default: i64) -> Result<i64, ModelError> {
        match self.value(key) {
            Some(Value::Array(sides)) => match sides.as_slice() {
                [a, b] if a == b && a.as_i64().is_some_and(|side| (1..=MOST).contains(&side)) => {
                    Ok(a.as_i64().unwrap_or(default))
                }
                _ => Err(self.bad(key, "only squares are supported")),
            },
            _ => self.int(key, default),
        }
    }

    /// A positive number, or `default`.
    pub fn float(&self, key: &str, default: f64) -> Result<f64, ModelError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number > 0.0 => Ok(number),
                _ => Err(self.bad(key, format!("must be a positive number, got {value}"))),
            },
        }
    }

    /// A flag, or `default`.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.bad(key, format!("must be true or false, got {other}"))),
        }
    }

    /// Refuses every value of `key` but `only`.
    pub fn only(&self, key: &str, only: Value) -> Result<(), ModelError> {
        match self.value(key) {
            Some(value) if *value != only => {
                Err(self.bad(key, format!("only {only} is supported, got {value}")))
            }
            _ => Ok(()),
        }
    }

    /// The activation named by `hidden_act`.
    pub fn activation(&self, default: Activation) -> Result<Activation, ModelError> {
        let Some(value) = self.value("hidden_act") else {
            return Ok(default);
        };
        match value.as_str() {
            Some("quick_gelu") => Ok(Activation::QuickGelu),
            Some("gelu") => Ok(Activation::Gelu),
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
            _ => Err(self.bad(
                "hidden_act",
                format!("must be quick_gelu, gelu or gelu_pytorch_tanh, got {value}"),
            )),
        }
    }
}
