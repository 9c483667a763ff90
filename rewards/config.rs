//! The configuration of scoring: the top-level `rewards` section, what a task adds, and the list of
//! reward types. Each type's options live beside its formula.

use crate::choice::Choice;
use crate::completion::CompletionConfig;
use crate::edges::L2Canny;
use crate::improvement::Improvement;
use crate::judge::JudgeReward;
use crate::length::{CodeEfficiency, LengthLinear, LengthRatio, SvgLength};
use crate::perceptual::{Dino, DreamSim, ImageText, Lpips, TextSimilarity};
use crate::pixel::{L2, Mse, MseForeground, Psnr};
use crate::reference::Reference;
use crate::remote::{RemoteConfig, check_endpoint};
use crate::rubric::{Format, RubricConfig};
use crate::service::ServiceConfig;
use crate::shape::{Aspect, BlankPenalty};
use crate::ssim::Ssim;
use crate::text::{BertScore, Bleu, Chrf, RougeL};
use crate::weight::Weight;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How scoring runs (`rewards`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RewardsConfig {
    /// Address of a scoring service (`svgrl serve-rewards`, started with this config), such as `http://host:8700`; absent: this process scores itself.
    pub endpoint: Option<String>,
    /// How the service at `endpoint` is called.
    pub remote: RemoteConfig,
    /// What a scoring service started from this config takes in.
    pub service: ServiceConfig,
    /// Scoring threads; 0 means one per processor core. As many more wait for SVGs that only a worker process may draw, and as many again for those that it does not draw in a quarter of a second.
    pub workers: usize,
    /// Milliseconds, at least 1, that one SVG may take in a worker process before it counts as unrenderable.
    pub deadline_ms: u64,
    /// References whose renderings are kept, at least 1; the least recently used leaves first.
    pub reference_cache: usize,
}

impl Default for RewardsConfig {
    fn default() -> Self {
        RewardsConfig {
            endpoint: None,
            remote: RemoteConfig::default(),
            service: ServiceConfig::default(),
            workers: 0,
            deadline_ms: 2000,
            reference_cache: 512,
        }
    }
}

impl RewardsConfig {
    /// The first value out of bounds, as `key: rule, got value`.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(endpoint)?;
        }
        self.remote.validate().map_err(|e| format!("remote.{e}"))?;
        self.service
            .validate()
            .map_err(|e| format!("service.{e}"))?;
        if self.deadline_ms == 0 {
            return Err("deadline_ms: must be >= 1, got 0".into());
        }
        if self.reference_cache == 0 {
            return Err("reference_cache: must be >= 1, got 0".into());
        }
        Ok(())
    }
}

/// What a task adds to scoring: the shape of its completions, how they are drawn, how they are judged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskScoring {
    /// The shape a completion must have.
    pub completion: CompletionConfig,
    /// How SVGs become pictures.
    pub render: svg::RenderConfig,
    /// The rewards and how they combine.
    pub rubric: RubricConfig,
    /// What is measured besides, for the record: it is in no total.
    pub metrics: Vec<RewardConfig>,
    /// When it is measured.
    pub measured: Measured,
}

/// When a task's metrics are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Measured {
    /// In held-out evaluations and by `svgrl reward --metrics`: training does not pay for it.
    #[default]
    HeldOut,
    /// For training's completions as well, and by a scoring service.
    Always,
}

impl TaskScoring {
    /// The first value out of bounds, as `key: rule, got value`.
    pub fn validate(&self) -> Result<(), String> {
        self.render.validate().map_err(|e| format!("render.{e}"))?;
        let text = self.completion.is_text();
        for (i, reward) in self.rubric.rewards.iter().enumerate() {
            reward
                .suits(text)
                .map_err(|e| format!("rubric.rewards.{i}.{e}"))?;
        }
        self.rubric.validate().map_err(|e| format!("rubric.{e}"))?;
        for (i, metric) in self.metrics.iter().enumerate() {
            let at = |e: String| format!("metrics.{i}.{e}");
            metric.suits(text).map_err(at)?;
            metric.validate().map_err(at)?;
            let Common { name, weight, .. } = metric.common();
            if *weight != Weight::default() {
                return Err(at(
                    "weight: a metric is added to nothing (list it under rubric.rewards to reward it)"
                        .into(),
                ));
            }
            if self.metrics[..i].iter().any(|m| m.common().name == name) {
                return Err(at(format!(
                    "name: {name:?} is taken by another metric (give this one a name)"
                )));
            }
        }
        Ok(())
    }

    /// Whether a rule judges what this task's completions are.
    pub fn takes(&self, rule: &RewardConfig) -> bool {
        rule.suits(self.completion.is_text()).is_ok()
    }

    /// The rewards, then the metrics, each with its key.
    pub fn rules(&self) -> impl Iterator<Item = (String, &RewardConfig)> {
        let keyed = |key: &'static str, rules: &'static str| {
            move |(i, rule)| (format!("{key}{rules}.{i}"), rule)
        };
        let rewards = self.rubric.rewards.iter().enumerate();
        let metrics = self.metrics.iter().enumerate();
        rewards
            .map(keyed("rubric.", "rewards"))
            .chain(metrics.map(keyed("", "metrics")))
    }
}

/// What every reward has: how it is called, what it weighs, where it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Common<'a> {
    pub name: &'a str,
    pub weight: &'a Weight,
    pub clip: Option<[f64; 2]>,
}

/// Declares a reward's options: the three every reward has, and its own with their defaults.
macro_rules! reward_options {
    ($(#[$doc:meta])* $name:ident (clip $clip:expr) { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// The part's name in metrics and files; its type when absent.
            pub name: Option<String>,
            /// Its weight in the total: a number, or a schedule `[[step, weight], ..]` joined by straight lines.
            pub weight: $crate::weight::Weight,
            /// Lower and upper bound the value is cut to, before it is weighted; null for none.
            pub clip: Option<[f64; 2]>,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { name: None, weight: Default::default(), clip: $clip, $($field: $default,)* }
            }
        }
    };
}
pub(crate) use reward_options;

/// Scores of the papers that need models nobody can have; each is refused with what to use instead.
const REFUSED: [(&str, &str); 12] = [
    (
        "tifa",
        "TIFA asks a question-answering model that is not published as weights; use `judge` with your own vision-language model",
    ),
    (
        "vqa",
        "the papers' VQA score is TIFA's, whose model is not published as weights; use `judge` with your own vision-language model",
    ),
    (
        "hps",
        "HPSv2's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    (
        "hpsv2",
        "HPSv2's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    (
        "aesthetic",
        "the aesthetic predictor's head is not read here; use `judge` with a question about how well the picture is made",
    ),
    (
        "image_reward",
        "ImageReward's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    (
        "pick_score",
        "PickScore's weights are not read here; use `image_text` with CLIP or SigLIP, or `judge`",
    ),
    ("gpt", CLOSED),
    ("gemini", CLOSED),
    ("claude", CLOSED),
    ("vlm", CLOSED),
    ("closed_judge", CLOSED),
];

/// What is said of judges by the names that papers give them.
const CLOSED: &str = "a closed judge is reached over its OpenAI-compatible endpoint; use `judge` with its `endpoint`, `model` and `api_key_env`";

fn with_refused(schema: &mut schemars::Schema) {
    let refused: serde_json::Map<String, serde_json::Value> = REFUSED
        .iter()
        .map(|(name, why)| ((*name).to_owned(), (*why).into()))
        .collect();
    schema.insert("x-refused".to_owned(), refused.into());
}

/// One reward of a rubric, by its `type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(transform = with_refused)]
pub enum RewardConfig {
    Format(Format),
    CodeEfficiency(CodeEfficiency),
    LengthRatio(LengthRatio),
    LengthLinear(LengthLinear),
    #[serde(rename = "length")]
    SvgLength(SvgLength),
    Mse(Mse),
    L2(L2),
    L2Canny(L2Canny),
    #[serde(rename = "mse_fg")]
    MseForeground(MseForeground),
    Ssim(Ssim),
    Psnr(Psnr),
    Improvement(Improvement),
    Aspect(Aspect),
    BlankPenalty(BlankPenalty),
    Dino(Dino),
    ImageText(ImageText),
    Lpips(Lpips),
    #[serde(rename = "dreamsim")]
    DreamSim(DreamSim),
    TextSimilarity(TextSimilarity),
    Choice(Choice),
    RougeL(RougeL),
    Bleu(Bleu),
    Chrf(Chrf),
    BertScore(BertScore),
    Judge(JudgeReward),
}

impl RewardConfig {
    /// Name, weight and clip range.
    pub fn common(&self) -> Common<'_> {
        macro_rules! common {
            ($($variant:ident = $default:literal),*) => {
                match self {
                    $(RewardConfig::$variant(r) => Common {
                        name: r.name.as_deref().unwrap_or($default),
                        weight: &r.weight,
                        clip: r.clip,
                    },)*
                }
            };
        }
        common!(
            Format = "format",
            CodeEfficiency = "code_efficiency",
            LengthRatio = "length_ratio",
            LengthLinear = "length_linear",
            SvgLength = "length",
            Mse = "mse",
            L2 = "l2",
            L2Canny = "l2_canny",
            MseForeground = "mse_fg",
            Ssim = "ssim",
            Psnr = "psnr",
            Improvement = "improvement",
            Aspect = "aspect",
            BlankPenalty = "blank_penalty",
            Dino = "dino",
            ImageText = "image_text",
            Lpips = "lpips",
            DreamSim = "dreamsim",
            TextSimilarity = "text_similarity",
            Choice = "choice",
            RougeL = "rouge_l",
            Bleu = "bleu",
            Chrf = "chrf",
            BertScore = "bert_score",
            Judge = "judge"
        )
    }

    /// Whether it judges what the completions are: words, or SVGs.
    fn suits(&self, text: bool) -> Result<(), String> {
        let (words, any) = match self {
            RewardConfig::TextSimilarity(_)
            | RewardConfig::RougeL(_)
            | RewardConfig::Bleu(_)
            | RewardConfig::Chrf(_)
            | RewardConfig::BertScore(_)
            | RewardConfig::Choice(_) => (true, false),
            RewardConfig::Format(_)
            | RewardConfig::LengthLinear(_)
            | RewardConfig::SvgLength(_) => (false, true),
            _ => (false, false),
        };
        match (any || words == text, text) {
            (true, _) => Ok(()),
            (false, true) => Err("type: judges SVGs, but completion.format is `text`".into()),
            (false, false) => Err("type: judges words: completion.format must be `text`".into()),
        }
    }

    /// Whether it needs the reference's words.
    pub(crate) fn needs_reference_text(&self) -> bool {
        use RewardConfig::*;
        matches!(
            self,
            TextSimilarity(_) | RougeL(_) | Bleu(_) | Chrf(_) | BertScore(_) | Choice(_)
        )
    }

    /// Whether it needs the reference's SVG text.
    pub(crate) fn needs_reference_svg(&self) -> bool {
        matches!(
            self,
            RewardConfig::CodeEfficiency(_) | RewardConfig::LengthRatio(_)
        )
    }

    /// Whether it needs the reference as a picture.
    pub(crate) fn needs_reference_picture(&self) -> bool {
        use RewardConfig::*;
        matches!(
            self,
            Mse(_)
                | L2(_)
                | L2Canny(_)
                | MseForeground(_)
                | Ssim(_)
                | Psnr(_)
                | Improvement(_)
                | Aspect(_)
                | Dino(_)
                | Lpips(_)
                | DreamSim(_)
        ) || matches!(self, Judge(r) if r.with_reference)
    }

    /// Whether it needs the SVG that the prompt showed.
    pub(crate) fn needs_draft(&self) -> bool {
        matches!(self, RewardConfig::Improvement(_))
    }

    /// What it needs of a reference and this one has not, as `key: needed by ..`.
    pub(crate) fn lacks(&self, reference: &Reference) -> Option<String> {
        let none = |text: &Option<String>| text.as_deref().is_none_or(|s| s.trim().is_empty());
        let no_picture = reference.svg.is_none() && reference.image.is_none();
        let lacking = [
            (
                self.needs_reference_svg() && none(&reference.svg),
                "reference.svg:",
            ),
            (
                self.needs_reference_text() && none(&reference.text),
                "reference.text:",
            ),
            (
                self.needs_draft() && none(&reference.draft),
                "reference.draft:",
            ),
            (
                self.needs_reference_picture() && no_picture,
                "reference: svg or image",
            ),
        ];
        let (_, what) = lacking.into_iter().find(|(lacks, _)| *lacks)?;
        Some(format!(
            "{what} needed by the reward {:?}",
            self.common().name
        ))
    }

    /// Pixels of the longer side at which it compares, when not the rendering's own.
    pub(crate) fn size(&self) -> Option<u32> {
        match self {
            RewardConfig::Mse(r) => r.size,
            RewardConfig::L2(r) => r.size,
            RewardConfig::L2Canny(r) => r.size,
            RewardConfig::MseForeground(r) => r.size,
            RewardConfig::Ssim(r) => r.size,
            RewardConfig::Psnr(r) => r.size,
            RewardConfig::Improvement(r) => r.size,
            _ => None,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), String> {
        let common = self.common();
        common
            .weight
            .validate()
            .map_err(|e| format!("weight: {e}"))?;
        if let Some([low, high]) = common.clip
            && (low > high || low.is_nan() || high.is_nan())
        {
            return Err(format!(
                "clip: the lower bound must not exceed the upper, got [{low}, {high}]"
            ));
        }
        if matches!(common.name, "" | "total") || common.name.contains('/') {
            return Err(format!(
                "name: must not be empty, \"total\" or hold a slash, got {:?}",
                common.name
            ));
        }
        if self.size().is_some_and(|s| !(1..=4096).contains(&s)) {
            return Err("size: must be from 1 to 4096".into());
        }
        if self.encoder().is_some_and(|(name, _)| name.is_empty()) {
            return Err("encoder: is needed: a name under `encoders`".into());
        }
        match self {
            RewardConfig::Lpips(r) if !(32..=4096).contains(&r.size) => {
                Err(format!("size: must be from 32 to 4096, got {}", r.size))
            }
            RewardConfig::Dino(Dino {
                squash_reference: Some(side),
                ..
            }) if !(1..=4096).contains(side) => Err(format!(
                "squash_reference: must be from 1 to 4096, got {side}"
            )),
            RewardConfig::Ssim(r) => r.check(),
            RewardConfig::L2(r) => r.check(),
            RewardConfig::LengthLinear(r) => r.check(),
            RewardConfig::BertScore(r) => r.check(),
            RewardConfig::Judge(r) => r.check(),
            _ => Ok(()),
        }
    }

    pub(crate) fn unit(&self) -> Option<crate::length::Unit> {
        match self {
            RewardConfig::CodeEfficiency(r) => Some(r.unit),
            RewardConfig::LengthRatio(r) => Some(r.unit),
            RewardConfig::LengthLinear(r) => Some(r.unit),
            RewardConfig::SvgLength(r) => Some(r.unit),
            _ => None,
        }
    }
}
