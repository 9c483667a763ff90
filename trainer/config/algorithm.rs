//! The algorithms that a stage may have, one line each: what their sections hold and what they need.
//!
//! How an algorithm steps is the trait `Algorithm`, which the compiler asks of each.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::dpo::DpoConfig;
use super::grpo::GrpoConfig;
use super::options::AlgorithmOptions;
use super::sft::SftConfig;

macro_rules! algorithms {
    ($($(#[$about:meta])* $variant:ident($options:ty) = $tag:literal;)*) => {
        /// What a stage does, by the key `algorithm`.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(clippy::large_enum_variant, reason = "a run has a handful of stages")]
        pub enum AlgorithmConfig {
            $($(#[$about])* $variant($options),)*
        }

        impl AlgorithmConfig {
            /// The values of `algorithm`.
            pub const TAGS: &'static [&'static str] = &[$($tag),*];

            /// Its value of `algorithm`.
            pub fn tag(&self) -> &'static str {
                match self { $(Self::$variant(_) => $tag,)* }
            }

            /// What is asked of every algorithm's section.
            pub fn options(&self) -> &dyn AlgorithmOptions {
                match self { $(Self::$variant(options) => options,)* }
            }

            /// The algorithm `tag` with its default options; `None` for an unknown one.
            pub(super) fn by_tag(tag: &str) -> Option<Self> {
                match tag {
                    $($tag => Some(Self::$variant(<$options>::default())),)*
                    _ => None,
                }
            }

            /// The same algorithm with the options of `section`.
            pub(super) fn read(&self, section: Value) -> Result<Self, serde_json::Error> {
                match self { $(Self::$variant(_) => serde_json::from_value(section).map(Self::$variant),)* }
            }

            /// Its options as a section.
            pub(super) fn write(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$variant(options) => serde_json::to_value(options),)* }
            }

            /// The schema of its section.
            pub(super) fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
                match self { $(Self::$variant(_) => <$options>::json_schema(generator),)* }
            }
        }
    };
}

algorithms! {
    /// Supervised fine-tuning on the sources' targets.
    Sft(SftConfig) = "sft";
    /// Group-relative policy optimisation on scored completions.
    Grpo(GrpoConfig) = "grpo";
    /// Direct preference optimisation on pairs of answers.
    Dpo(DpoConfig) = "dpo";
}
