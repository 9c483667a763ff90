//! The `lora` section of a stage: which maps get an adapter, and of what size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which linear layers get adapters, and of what size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank of each adapter: width of what lies between its two matrices; >= 1.
    pub rank: i64,
    /// An adapter's output is multiplied by alpha / rank; > 0.
    pub alpha: f64,
    /// `all-linear`: every linear layer but the output head; or a list of layers by the ends of their names, as PEFT
    /// takes them (`[q_proj, v_proj]`).
    pub targets: LoraTargets,
    /// Share of an adapter's inputs that are zero while it learns, the others scaled up, in [0, 1). Which ones depends on
    /// the tokens before them and the update's number alone, not on micro-batches or ranks; for `vision` on the place of a
    /// picture's row in its micro-batch.
    pub dropout: f64,
    /// Whether the tower that sees pictures and the projector behind it get adapters too.
    pub vision: bool,
    /// Whether alpha is divided by the root of the rank instead (rank-stabilised LoRA, arXiv 2312.03732).
    pub rslora: bool,
}

/// Which linear layers get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum LoraTargets {
    /// Every one of them.
    All(AllLinear),
    /// Those with these names, or whose names end with a dot and one of these.
    Names(Vec<String>),
}

/// The word for every linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AllLinear {
    /// Every linear layer but the output head.
    AllLinear,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            targets: LoraTargets::All(AllLinear::AllLinear),
            dropout: 0.0,
            vision: false,
            rslora: false,
        }
    }
}

impl LoraConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// `key: rule, got value`.
    pub fn check(&self) -> Result<(), String> {
        if self.rank < 1 {
            return Err(format!("rank: must be >= 1, got {}", self.rank));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(format!("alpha: must be > 0, got {}", self.alpha));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(format!(
                "dropout: must be in [0, 1), got {} (it is the share that is left out)",
                self.dropout
            ));
        }
        let LoraTargets::Names(names) = &self.targets else {
            return Ok(());
        };
        if names.is_empty() {
            return Err("targets: names no layer; `all-linear` takes every one".into());
        }
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err("targets: a name is empty".into());
            }
            if names[..at].contains(name) {
                return Err(format!("targets: `{name}` stands twice"));
            }
        }
        Ok(())
    }

    /// What an adapter's output is multiplied by.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        match self.rslora {
            true => self.alpha / rank.sqrt(),
            false => self.alpha / rank,
        }
    }

    /// Whether the layer `module` gets an adapter; `sees` says that it is of the tower or the projector.
    pub(crate) fn chooses(&self, module: &str, sees: bool) -> bool {
        let named = match &self.targets {
            LoraTargets::All(AllLinear::AllLinear) => true,
            LoraTargets::Names(names) => names.iter().any(|name| is_called(module, name)),
        };
        named && (self.vision || !sees)
    }
}

/// Whether `name` is the layer `module` or the last parts of its name, as PEFT compares them.
pub(crate) fn is_called(module: &str, name: &str) -> bool {
    let before = module.strip_suffix(name);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_parts_from_the_end() {
        let layer = "model.layers.0.self_attn.q_proj";
        for name in ["q_proj", "self_attn.q_proj", layer] {
            assert!(is_called(layer, name), "{name}");
        }
        for name in ["proj", "_proj", "self_attn", "x.q_proj"] {
            assert!(!is_called(layer, name), "{name}");
        }
    }

    #[test]
    fn a_section_says_either_a_word_or_names() {
        let read = |text: &str| serde_json::from_str::<LoraConfig>(text);
        assert_eq!(read("{}").unwrap(), LoraConfig::default());
        let all = read(r#"{"targets": "all-linear", "rank": 4}"#).unwrap();
        assert!(all.chooses("a.b", false) && !all.chooses("a.b", true));
        let named = read(r#"{"targets": ["b"], "vision": true}"#).unwrap();
        assert!(named.chooses("a.b", true) && !named.chooses("a.c", true));
        for text in [
            r#"{"targets": "some"}"#,
            r#"{"dora": true}"#,
            r#"{"targets": 3}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let written = serde_json::to_value(&all).unwrap();
        assert_eq!(written["targets"], "all-linear");
    }

    #[test]
    fn bounds_are_named() {
        let wrong = |change: &dyn Fn(&mut LoraConfig)| {
            let mut config = LoraConfig::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert!(wrong(&|config| config.rank = 0).starts_with("rank: must be >= 1"));
        assert!(wrong(&|config| config.alpha = 0.0).starts_with("alpha"));
        assert!(wrong(&|config| config.dropout = 1.0).starts_with("dropout"));
        let twice = LoraTargets::Names(vec!["a".into(), "a".into()]);
        assert!(wrong(&|config| config.targets = twice.clone()).contains("twice"));
        assert!(
            wrong(&|config| config.targets = LoraTargets::Names(Vec::new())).contains("no layer")
        );
    }

    #[test]
    fn the_scale_is_by_rank_or_its_root() {
        let config = LoraConfig {
            rank: 4,
            alpha: 8.0,
            ..LoraConfig::default()
        };
        assert_eq!(config.scale(), 2.0);
        let stable = LoraConfig {
            rslora: true,
            ..config
        };
        assert_eq!(stable.scale(), 4.0);
    }
}
