//! The algorithms that a stage may have, one line each: what their sections hold and what they need.
//!
//! How an algorithm steps is [`crate::algorithm::Algorithm`], which the compiler asks of each.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use super::{GrpoConfig, RolloutConfig, SftConfig, StageCommon};

/// What an algorithm asks of its section, its rows and its policy.
pub trait AlgorithmOptions {
    /// The fields that every stage has, as they are where the config says nothing.
    fn common_defaults(&self) -> StageCommon;

    /// What it cannot do without.
    fn needs(&self) -> Needs;

    /// How completions are sampled, where it samples any.
    fn rollout(&self) -> Option<&RolloutConfig>;

    /// The tokens that its rows may have.
    fn length_bounds(&self) -> LengthBounds;

    /// One sentence of what a stage does, for the plan.
    fn describe(&self, stage: &StageCommon) -> String;

    /// Every how many steps all samples are written; 0: never.
    fn samples_every(&self) -> u64;

    /// Checks the bounds of its own keys.
    ///
    /// # Errors
    /// `key: rule, got value`.
    fn check(&self, stage: &StageCommon) -> Result<(), String>;
}

/// What an algorithm cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Of a row: a text to imitate.
    pub target: bool,
    /// Of a row: what the task's rewards compare with.
    pub reference: bool,
    /// The stage's first policy, frozen.
    pub reference_policy: bool,
}

/// Bounds in tokens, with the keys that set them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LengthBounds {
    /// Of a prompt; longer ones are passed over.
    pub prompt: (&'static str, usize),
    /// Of an answer, the ending token included.
    pub answer: (&'static str, usize),
    /// Whether the bound on answers is on prompt and answer together, and cuts off what is over it.
    pub cuts: bool,
}

macro_rules! algorithms {
    ($($(#[$about:meta])* $variant:ident($options:ty) = $tag:literal;)*) => {
        /// What a stage does, by the key `algorithm`.
        #[derive(Debug, Clone, PartialEq)]
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
}
