//! Rewards for completions that hold an SVG: format rules, rendering beside the reference, picture
//! and length rewards, and the rubric that combines them. A bad completion is a value and a reason,
//! never an error.
//!
//! The way in is the [`Scorer`]: it is made of tasks ([`TaskScoring`], whose [`RubricConfig`] lists
//! [rewards](RewardConfig)), takes a [`ScoreJob`] for each completion and gives a [`Reward`] back, whose
//! [`Invalid`] says why a completion is none.
//!
//! | room | holds |
//! |---|---|
//! | [`rules`] | the rewards, a file each, and the list of them |
//! | `scoring` | the rubric, one completion's judgement, the threads that judge many |
//! | `encode` | encoder networks beside those threads (feature `perceptual`) |
//! | `judge` | questions to vision-language models elsewhere (feature `client`) |
//! | [`service`] | scoring for others over HTTP (feature `service`) |
//! | `own` | rewards of the user's own: services, Python functions, commands |
//! | `remote` | having a service score (feature `client`) |
//!
//! Nothing here knows tokens (a caller's counter gives lengths), policies or training.

mod cache;
#[cfg(feature = "client")]
mod chat;
mod completion;
mod config;
mod device;
mod edges;
mod encode;
mod endpoint;
mod error;
mod failures;
#[cfg(feature = "client")]
mod http;
mod invalid;
mod judge;
mod options;
mod own;
mod picture;
mod poll;
mod reference;
mod remote;
mod request;
pub mod rules;
mod scores;
mod scoring;
pub mod service;
mod surrogates;
mod types;
mod variant;
mod weight;
mod wire;
mod word_or_number;

#[cfg(feature = "client")]
pub use chat::{ChatFailure, ChatQuestion, ChatServer};
pub use completion::{CompletionConfig, CtrlS, PlainSvg, PlainText, Sgp, ShapeFault};
pub use config::RewardsConfig;
pub use device::DeviceChoice;
pub use encode::{
    EncoderConfig, EncoderCount, EncoderDtype, EncoderInit, EncoderSet, PictureFeature,
    PictureInput, Preprocess,
};
pub use error::RewardError;
pub use failures::PartFailures;
#[cfg(feature = "client")]
pub use http::{CallError, Caller, is_local};
pub use invalid::{Invalid, ReferenceFault};
pub use judge::{JsonRule, JudgeCount, RegexRule, ScoreRule};
pub use options::Common;
pub use poll::Stopped;
pub use reference::{ImageSource, Reference};
pub use remote::RemoteConfig;
pub use rules::RewardConfig;
pub use scoring::{
    Composition, MeasureWhen, Normalise, RubricConfig, Scorer, TaskScoring, TruncatedTotal,
    Unscored,
};
pub use service::ServiceConfig;
pub use surrogates::mended_json;
pub use types::{Candidate, Reward, ScoreJob, Scored, TokenCounter};
pub use variant::Variant;
pub use weight::Weight;
pub use wire::{ScoreRow, ScoredRow};
