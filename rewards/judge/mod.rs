//! Asking a judge elsewhere: questions with pictures go out over an OpenAI-compatible HTTP endpoint, no faster than
//! allowed, and numbers come back. What is asked and how a number is read is the business of the reward `judge`;
//! what it costs is counted here. Without the feature `client` a judge is refused by name.

#[cfg(feature = "client")]
mod count;
#[cfg(not(feature = "client"))]
mod disabled;
#[cfg(feature = "client")]
mod enabled;
mod score_rule;
mod setup;

#[cfg(not(feature = "client"))]
pub(crate) use disabled::JudgeClient;
#[cfg(feature = "client")]
pub(crate) use enabled::JudgeClient;
pub use score_rule::{JsonRule, RegexRule, ScoreRule};
pub use setup::JudgeCount;
pub(crate) use setup::{JudgeLimits, JudgeSetup, Question};
