//! Rewards for completions that hold an SVG: format rules, rendering beside the reference, picture
//! and length rewards, and the rubric that combines them. A bad completion is a value and a reason,
//! never an error.
//!
//! Nothing here knows tokens (a caller's counter gives lengths), policies or training. Encoder networks
//! come with the feature `perceptual` and run beside the scoring threads.

mod cache;
mod choice;
mod compare;
mod completion;
mod config;
mod device;
mod edges;
mod encode;
mod error;
mod finish;
mod halves;
#[cfg(feature = "client")]
mod http;
mod improvement;
mod judge;
mod length;
#[cfg(test)]
mod parity;
mod pending;
mod perceptual;
mod picture;
mod pixel;
mod reference;
mod remote;
mod round;
mod rubric;
mod score;
mod scorer;
pub mod service;
mod shape;
mod ssim;
pub mod text;
mod weight;
mod wire;

pub use choice::Choice;
pub use completion::{CompletionConfig, CtrlS, PlainSvg, PlainText, Sgp};
pub use config::{Common, Measured, RewardConfig, RewardsConfig, TaskScoring};
pub use device::DeviceChoice;
pub use edges::L2Canny;
pub use encode::{EncoderConfig, EncoderCount, EncoderDtype, EncoderInit, EncoderSet, Preprocess};
pub use error::RewardError;
pub use halves::whole_characters;
pub use improvement::{Improvement, Likeness};
pub use judge::{JsonRule, JudgeCount, JudgeReward, RegexRule, ScoreRule};
pub use length::{CodeEfficiency, LengthLinear, LengthRatio, SvgLength, Unit};
pub use perceptual::{
    Dino, DreamSim, ImageText, Lpips, LpipsScale, PictureFeature, Scale, TextSimilarity,
};
pub use pixel::{L2, Mse, MseForeground, Psnr};
pub use reference::{Candidate, ImageSource, Reference};
pub use remote::RemoteConfig;
pub use round::Stopped;
pub use rubric::{Composition, Format, Normalise, RubricConfig, Truncated};
pub use score::Reward;
pub use scorer::{ScoreJob, Scored, Scorer, TokenCounter};
pub use service::ServiceConfig;
pub use shape::{Aspect, BlankPenalty};
pub use ssim::{Ssim, Window};
pub use text::{BertMeasure, BertScore, Bleu, Chrf, RougeL};
pub use weight::Weight;
pub use wire::{ScoreRow, ScoredRow};
