//! A stage of a run: what every stage has (steps, batch, optimizer, cadence), and its algorithm.
//!
//! In a file both stand side by side, `algorithm` naming the second part; so a stage is read and
//! written by hand here: serde's `flatten` would let unknown keys through.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::algorithm::AlgorithmConfig;
use super::common::StageCommon;

/// The key that names a stage's algorithm.
const ALGORITHM: &str = "algorithm";

/// One stage; `algorithm` says which kind.
#[derive(Debug, Clone, PartialEq)]
pub struct StageConfig {
    /// What every stage has.
    pub common: StageCommon,
    /// What it does.
    pub algorithm: AlgorithmConfig,
}

impl StageConfig {
    /// A stage of `algorithm` with that algorithm's defaults.
    pub fn new(algorithm: AlgorithmConfig) -> Self {
        Self {
            common: algorithm.options().common_defaults(),
            algorithm,
        }
    }

    /// Its name, in metrics and folders.
    pub fn name(&self) -> &str {
        &self.common.name
    }
}

impl Serialize for StageConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let section = |value: Result<Value, serde_json::Error>| match value {
            Ok(Value::Object(keys)) => Ok(keys),
            Ok(_) => Err(S::Error::custom("a section is a mapping")),
            Err(error) => Err(S::Error::custom(error)),
        };
        let mut keys = Map::from_iter([(ALGORITHM.to_owned(), json!(self.algorithm.tag()))]);
        keys.extend(section(serde_json::to_value(&self.common))?);
        keys.extend(section(self.algorithm.write())?);
        keys.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StageConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = Map::<String, Value>::deserialize(deserializer)?;
        let tag = given.shift_remove(ALGORITHM);
        let tag = tag.as_ref().and_then(Value::as_str);
        let known = || format!("{ALGORITHM}: must be one of {:?}", AlgorithmConfig::TAGS);
        let Self { common, algorithm } = tag
            .and_then(AlgorithmConfig::by_tag)
            .map(Self::new)
            .ok_or_else(|| D::Error::custom(known()))?;
        let mut keys = serde_json::to_value(&common).map_err(D::Error::custom)?;
        // What epochs come to is known with the data.
        if given.get("epochs").is_some_and(|epochs| !epochs.is_null()) {
            keys["steps"] = json!(0);
        }
        for (key, place) in keys.as_object_mut().into_iter().flatten() {
            if let Some(value) = given.shift_remove(key) {
                *place = value;
            }
        }
        Ok(Self {
            common: serde_json::from_value(keys).map_err(D::Error::custom)?,
            algorithm: algorithm
                .read(Value::Object(given))
                .map_err(D::Error::custom)?,
        })
    }
}

impl JsonSchema for StageConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StageConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let branches: Vec<Value> = AlgorithmConfig::TAGS
            .iter()
            .filter_map(|tag| AlgorithmConfig::by_tag(tag))
            .map(|algorithm| branch(Self::new(algorithm), generator))
            .collect();
        json_schema!({
            "description": "One stage; `algorithm` says which kind.",
            "oneOf": branches,
        })
    }
}

/// The keys of a stage of one algorithm, with its defaults.
fn branch(stage: StageConfig, generator: &mut SchemaGenerator) -> Value {
    let own = stage.algorithm.schema(generator).to_value();
    let common = StageCommon::json_schema(generator).to_value();
    let defaults = serde_json::to_value(&stage.common).unwrap_or_default();
    let keys = |schema: &Value| {
        schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let tag = json!({"type": "string", "const": stage.algorithm.tag()});
    let mut properties = Map::from_iter([(ALGORITHM.to_owned(), tag)]);
    for (key, mut property) in keys(&common) {
        property["default"] = defaults[&key].clone();
        properties.insert(key, property);
    }
    properties.extend(keys(&own));
    json!({
        "type": "object",
        "description": own["description"],
        "properties": properties,
        "required": [ALGORITHM],
        "additionalProperties": false,
    })
}

#[cfg(test)]
mod tests {
    use super::super::OptimizerConfig;
    use super::*;

    #[test]
    fn what_is_not_said_is_the_algorithm_s_own_default() {
        let read = |text: &str| serde_saphyr::from_str::<StageConfig>(text).unwrap();
        let sft = read("algorithm: sft\nsteps: 7\nmax_tokens: 9");
        assert_eq!((sft.name(), sft.common.steps), ("sft", 7));
        assert_eq!(sft.common.optimizer.learning_rate, 1e-4);
        // A section that is given has its own defaults, whatever the algorithm.
        let sft = read("algorithm: sft\noptimizer: {beta1: 0.5}");
        let plain = OptimizerConfig::default().learning_rate;
        assert_eq!(sft.common.optimizer.learning_rate, plain);
        assert_eq!(read("algorithm: grpo").common.batch.size, 8);
        for stage in [sft, read("algorithm: grpo\nkl: {coefficient: 0.1}")] {
            let text = serde_json::to_string(&stage).unwrap();
            assert_eq!(serde_json::from_str::<StageConfig>(&text).unwrap(), stage);
        }
    }

    #[test]
    fn keys_of_another_algorithm_are_refused() {
        for text in ["algorithm: sft\nkl: {}", "algorithm: ppo", "steps: 3"] {
            assert!(
                serde_saphyr::from_str::<StageConfig>(text).is_err(),
                "{text}"
            );
        }
    }
}
