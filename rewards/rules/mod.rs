//! The rewards: a file each, with its options, its formula and its tests.
//!
//! A new reward is its file, which implements `RewardFn` ([`rule`](self)) for its options, and a line in the list of
//! [`RewardConfig`] beside its `mod`. Whatever else must be decided about it the compiler asks for.

mod own;
mod refused;
mod rule;
mod scale;
mod unit;
mod value;
mod words;

pub mod aspect;
pub mod bert_score;
pub mod blank_penalty;
pub mod bleu;
pub mod choice;
pub mod chrf;
pub mod code_efficiency;
pub mod command;
pub mod dino;
pub mod dists;
pub mod dreamsim;
pub mod format;
pub mod http;
pub mod image_text;
pub mod improvement;
pub mod judge;
pub mod l2;
pub mod l2_canny;
pub mod length;
pub mod length_linear;
pub mod length_ratio;
pub mod lpips;
pub mod mse;
pub mod mse_fg;
pub mod psnr;
pub mod python;
pub mod rouge_l;
pub mod ssim;
pub mod text_similarity;
pub mod think_steps;

#[cfg(test)]
mod picture_parity;
#[cfg(test)]
mod text_parity;

pub use rule::Setting;
pub(crate) use rule::{
    AnyKept, AnyReward, CompletionPictures, Drawn, OfInvalid, ReferencePictures, ScoreContext,
    ScoringCase, Tools,
};
pub use scale::Scale;
pub use unit::Unit;
pub(crate) use value::{Value, Waited, Waiter};

use crate::options::Common;
use crate::reference::Reference;
use crate::variant::Variant;
use refused::with_refused;
use rule::Subject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Declares [`RewardConfig`] by one line a reward: the type of its options and its `type` in a config.
macro_rules! rewards {
    ($($file:ident::$reward:ident = $name:literal,)*) => {
        $(pub use $file::$reward;)*

        /// One reward of a rubric, by its `type`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "type")]
        #[schemars(transform = with_refused)]
        #[allow(missing_docs, reason = "the options of each say it")]
        pub enum RewardConfig {
            $(#[serde(rename = $name)] $reward($reward),)*
        }

        impl RewardConfig {
            /// Name, weight and clip range.
            pub fn common(&self) -> Common<'_> {
                match self {
                    $(RewardConfig::$reward(reward) => Common {
                        name: reward.name.as_deref().unwrap_or($name),
                        weight: &reward.weight,
                        clip: reward.clip,
                    },)*
                }
            }

            /// What it does.
            pub(crate) fn reward(&self) -> &dyn AnyReward {
                match self {
                    $(RewardConfig::$reward(reward) => reward,)*
                }
            }

            /// The same, to change it.
            fn reward_mut(&mut self) -> &mut dyn AnyReward {
                match self {
                    $(RewardConfig::$reward(reward) => reward,)*
                }
            }

            /// Every type with its default options.
            fn every() -> Vec<RewardConfig> {
                vec![$(RewardConfig::$reward(Default::default())),*]
            }
        }
    };
}

rewards! {
    format::Format = "format",
    code_efficiency::CodeEfficiency = "code_efficiency",
    length_ratio::LengthRatio = "length_ratio",
    length_linear::LengthLinear = "length_linear",
    length::SvgLength = "length",
    think_steps::ThinkSteps = "think_steps",
    mse::Mse = "mse",
    l2::L2 = "l2",
    l2_canny::L2Canny = "l2_canny",
    mse_fg::MseForeground = "mse_fg",
    ssim::Ssim = "ssim",
    psnr::Psnr = "psnr",
    improvement::Improvement = "improvement",
    aspect::Aspect = "aspect",
    blank_penalty::BlankPenalty = "blank_penalty",
    dino::Dino = "dino",
    image_text::ImageText = "image_text",
    lpips::Lpips = "lpips",
    dists::Dists = "dists",
    dreamsim::DreamSim = "dreamsim",
    text_similarity::TextSimilarity = "text_similarity",
    choice::Choice = "choice",
    rouge_l::RougeL = "rouge_l",
    bleu::Bleu = "bleu",
    chrf::Chrf = "chrf",
    bert_score::BertScore = "bert_score",
    judge::Judge = "judge",
    http::HttpReward = "http",
    python::PythonReward = "python",
    command::CommandReward = "command",
}

impl RewardConfig {
    /// The first value out of bounds, as `key: rule, got value`.
    pub(crate) fn validate(&self) -> Result<(), String> {
        self.common().check()?;
        if self.encoder_name().is_some_and(str::is_empty) {
            return Err("encoder: is needed: a name under `encoders`".into());
        }
        self.reward().check()
    }

    /// Makes its paths, which are relative to the config's `folder`, independent of it.
    pub fn resolve_paths(&mut self, folder: &Path) {
        self.reward_mut().resolve_paths(folder);
    }

    /// Takes the task's variant where it has variants and names none.
    pub fn take_variant(&mut self, variant: Variant) {
        self.reward_mut().take_variant(variant);
    }

    /// Leaves out where its files lie, so that the same reward is the same on every machine.
    pub(crate) fn without_place(&mut self) {
        self.reward_mut().without_place();
    }

    /// Whether it judges what completions are: words, or SVGs.
    ///
    /// # Errors
    /// Why not, as `key: rule`.
    pub(crate) fn applies_to(&self, words: bool) -> Result<(), String> {
        match (self.reward().needs().subject, words) {
            (Subject::Any, _) | (Subject::Words, true) | (Subject::Svg, false) => Ok(()),
            (Subject::Svg, true) => {
                Err("type: judges SVGs, but completion.format is `text`".into())
            }
            (Subject::Words, false) => {
                Err("type: judges words: completion.format must be `text`".into())
            }
        }
    }

    /// What it needs of a reference and this one has not, as `key: needed by ..`.
    pub(crate) fn missing(&self, reference: &Reference) -> Option<String> {
        let none = |text: &Option<String>| text.as_deref().is_none_or(|s| s.trim().is_empty());
        let no_picture = reference.svg.is_none() && reference.image.is_none();
        let needs = self.reward().needs();
        let missing = [
            (
                needs.reference_svg && none(&reference.svg),
                "reference.svg:",
            ),
            (
                needs.reference_text && none(&reference.text),
                "reference.text:",
            ),
            (needs.draft && none(&reference.draft), "reference.draft:"),
            (
                needs.reference_picture && no_picture,
                "reference: svg or image",
            ),
        ];
        let (_, what) = missing.into_iter().find(|(missing, _)| *missing)?;
        Some(format!(
            "{what} needed by the reward {:?}",
            self.common().name
        ))
    }

    /// Name of the encoder that it asks, for those who check configs.
    pub fn encoder_name(&self) -> Option<&str> {
        self.reward().needs().encoder.map(|(name, _)| name)
    }

    /// Whether a setting's literature reports it.
    pub fn is_reported_by(&self, setting: Setting) -> bool {
        let mut reported = self.reward().reported().iter();
        reported.any(|reported| reported.by == setting)
    }

    /// The rewards that a setting's literature reports and that ask no encoder, in its order, with their defaults.
    pub fn reported_by(setting: Setting) -> Vec<RewardConfig> {
        let place = |reward: RewardConfig| {
            let mut reported = reward.reward().reported().iter();
            let place = reported.find(|reported| reported.by == setting)?.place;
            reward.encoder_name().is_none().then_some((place, reward))
        };
        let mut rewards: Vec<_> = Self::every().into_iter().filter_map(place).collect();
        rewards.sort_by_key(|(place, _)| *place);
        rewards.into_iter().map(|(_, reward)| reward).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::{EncoderSet, Encoders};

    /// A reward that says that it needs no picture of a reference is asked for what it keeps without one.
    #[test]
    fn what_needs_no_picture_is_prepared_without() {
        let encoders = Encoders::open(&EncoderSet::default(), &[]).unwrap();
        let tools = Tools {
            encoders: &encoders,
            tokens: None,
            judge: None,
            own: None,
        };
        let all = RewardConfig::every();
        let without = |reward: &&RewardConfig| !reward.reward().needs().reference_picture;
        let without: Vec<_> = all.iter().filter(without).collect();
        for reward in &without {
            reward
                .reward()
                .prepare(&ReferencePictures::default(), &tools);
        }
        assert!((1..all.len()).contains(&without.len()));
    }

    #[test]
    fn every_type_is_named_once_and_says_what_it_judges() {
        let mut names = Vec::new();
        for reward in RewardConfig::every() {
            let name = reward.common().name.to_owned();
            let tag = serde_json::to_value(&reward).unwrap()["type"].clone();
            assert_eq!(tag, name.as_str());
            let accepted = [true, false].map(|words| reward.applies_to(words).is_ok());
            assert!(accepted.contains(&true), "{name} judges nothing");
            let asks_text = reward.reward().needs().reference_text;
            assert!(!asks_text || accepted[0], "{name} compares words of SVGs");
            names.push(name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn literature_reports_in_its_own_order() {
        let names = |setting| -> Vec<String> {
            let rewards = RewardConfig::reported_by(setting);
            rewards.iter().map(|r| r.common().name.to_owned()).collect()
        };
        assert_eq!(names(Setting::TextToSvg), ["length"]);
        assert_eq!(
            names(Setting::ImageToSvg),
            ["ssim", "mse", "psnr", "length"]
        );
        assert_eq!(
            names(Setting::Refinement),
            ["improvement", "ssim", "mse", "length"]
        );
        assert_eq!(
            names(Setting::Caption),
            ["rouge_l", "bleu", "chrf", "length"]
        );
        assert_eq!(names(Setting::Understanding), ["choice"]);
    }
}
