//! The YAML of `svgrl eval SUITE --config`.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bootstrap::Bootstrap;
use super::eval_judge::EvalJudgeConfig;
use crate::config::DeviceName;

/// What a suite is judged with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SuiteConfig {
    /// The suite's folder as it is published; relative to this file, as all paths here. Where predictions are judged,
    /// VectorGym needs none: they bring their references.
    pub data: PathBuf,
    /// The networks that judge. Metrics whose network is absent are left out, and it is said.
    pub encoders: SuiteEncoders,
    /// A folder with the tokenizer.json whose tokens are counted; absent: tokens are not counted.
    pub tokenizer: Option<PathBuf>,
    /// Where encoders compute: `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: DeviceName,
    /// Threads of libtorch on the CPU; 0: all cores.
    pub threads: usize,
    /// Items of one pass of an encoder, 1 to 1024; 0 chooses: 8 on the CPU, 64 on a GPU.
    pub batch: usize,
    /// Which pictures of predictions are judged.
    pub pictures: PredictedPictures,
    /// What drawing one SVG may take, in milliseconds, >= 1.
    pub deadline_ms: u64,
    /// Intervals.
    pub bootstrap: BootstrapConfig,
    /// How a model is sampled, for --model, --run and --endpoint.
    pub sampling: EvalSampling,
    /// What a model is asked in place of a drawing's own question; `{question}` is that, `{instruction}` what follows its
    /// first "Instruction: ". Absent: the question as published.
    pub template: Option<String>,
    /// The server of --endpoint.
    pub server: ServerConfig,
    /// The judge of vectorgym and of sgp-genbench's compositions; absent: nothing is judged by one, and scores that need it
    /// are null.
    pub judge: Option<EvalJudgeConfig>,
}

/// How a model is sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalSampling {
    /// Divides the logits, >= 0; 0 is greedy. Absent: the suite's (0 for SArena and VectorGym, 0.6 for SVG-Sophia, 1 for
    /// SGP-GenBench).
    pub temperature: Option<f64>,
    /// Keeps the smallest set of tokens with this much probability, above 0, at most 1. Absent: the suite's (0.9 for
    /// VectorGym, else 1).
    pub top_p: Option<f64>,
    /// Longest answer, in tokens, >= 1. Absent: the suite's (4000 for SArena, 16384 for SVG-Sophia, 8096 for VectorGym,
    /// 3000 for SGP-GenBench).
    pub max_new_tokens: Option<usize>,
    /// Drawings of each object and scene of sgp-genbench, 1 to 64, of predictions as well. Absent: 8.
    pub samples: Option<usize>,
    /// Sequences decoded at a time by a model of this process; 0: all.
    pub slots: usize,
}

impl Default for EvalSampling {
    fn default() -> Self {
        Self {
            temperature: None,
            top_p: None,
            max_new_tokens: None,
            samples: None,
            slots: 64,
        }
    }
}

/// An OpenAI-compatible server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// The model's name there.
    pub model: String,
    /// Name of the environment variable with the key; absent: none is sent.
    pub api_key_env: Option<String>,
    /// Questions under way at a time, 1 to 256.
    pub connections: usize,
    /// Milliseconds to wait for an answer, >= 1.
    pub timeout_ms: u64,
    /// How often a question that failed is asked again, at most 10.
    pub retries: u32,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            model: "default".into(),
            api_key_env: None,
            connections: 32,
            timeout_ms: 1_000_000,
            retries: 2,
        }
    }
}

/// The networks of suites, each by its path.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SuiteEncoders {
    /// CLIP ViT-L/14 (openai/clip-vit-large-patch14) in Hugging Face layout, or OpenAI's checkpoint: CLIP-T2I and CLIP-I2I;
    /// SGP-GenBench's clip_large.
    pub clip_l14: Option<PathBuf>,
    /// CLIP ViT-B/32 (openai/clip-vit-base-patch32) or OpenAI's checkpoint: FID-C; VectorGym's CLIP score; clip_small.
    pub clip_b32: Option<PathBuf>,
    /// SigLIP base (google/siglip-base-patch16-384): siglip_small.
    pub siglip_base: Option<PathBuf>,
    /// SigLIP large (google/siglip-large-patch16-384): siglip_large.
    pub siglip_large: Option<PathBuf>,
    /// DINOv2 base (facebook/dinov2-base): DINO; dino_base.
    pub dinov2: Option<PathBuf>,
    /// DINOv2 small (facebook/dinov2-small): dino_small.
    pub dinov2_small: Option<PathBuf>,
    /// DINOv2 large (facebook/dinov2-large): dino_large.
    pub dinov2_large: Option<PathBuf>,
    /// DINOv2 giant (facebook/dinov2-giant): dino_giant.
    pub dinov2_giant: Option<PathBuf>,
    /// LPIPS' folder: torchvision's vgg16 beside the lpips package's vgg.pth.
    pub lpips: Option<PathBuf>,
    /// pytorch-fid's Inception (pt_inception-2015-12-05): FID.
    pub inception: Option<PathBuf>,
    /// BGE-M3 (BAAI/bge-m3): captions.
    pub bge_m3: Option<PathBuf>,
}

/// Which pictures of predictions are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PredictedPictures {
    /// `given` where a task's predictions have a folder `images`, else `drawn`.
    #[default]
    Auto,
    /// Those in `images`; an item without one did not render, as the released code counts it.
    Given,
    /// Those drawn here from `svg`, or from the answers.
    Drawn,
}

/// How intervals are made.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapConfig {
    /// Draws, 1 to 100000.
    pub samples: usize,
    /// Share of the draws inside an interval, above 0 and below 1.
    pub confidence: f64,
}

impl Default for BootstrapConfig {
    fn default() -> Self {
        Self {
            samples: 1000,
            confidence: 0.95,
        }
    }
}

impl BootstrapConfig {
    /// With a seed.
    pub fn seeded(self, seed: u64) -> Bootstrap {
        Bootstrap {
            samples: self.samples,
            confidence: self.confidence,
            seed,
        }
    }
}

impl Default for SuiteConfig {
    fn default() -> Self {
        Self {
            data: PathBuf::new(),
            encoders: SuiteEncoders::default(),
            tokenizer: None,
            device: DeviceName::default(),
            threads: 0,
            batch: 0,
            pictures: PredictedPictures::default(),
            deadline_ms: 10_000,
            bootstrap: BootstrapConfig::default(),
            sampling: EvalSampling::default(),
            template: None,
            server: ServerConfig::default(),
            judge: None,
        }
    }
}

impl SuiteEncoders {
    /// Each by its key.
    pub fn each(&self) -> [(&'static str, Option<&Path>); 11] {
        [
            ("clip_l14", self.clip_l14.as_deref()),
            ("clip_b32", self.clip_b32.as_deref()),
            ("siglip_base", self.siglip_base.as_deref()),
            ("siglip_large", self.siglip_large.as_deref()),
            ("dinov2", self.dinov2.as_deref()),
            ("dinov2_small", self.dinov2_small.as_deref()),
            ("dinov2_large", self.dinov2_large.as_deref()),
            ("dinov2_giant", self.dinov2_giant.as_deref()),
            ("lpips", self.lpips.as_deref()),
            ("inception", self.inception.as_deref()),
            ("bge_m3", self.bge_m3.as_deref()),
        ]
    }

    fn each_mut(&mut self) -> [(&'static str, &mut Option<PathBuf>); 11] {
        [
            ("clip_l14", &mut self.clip_l14),
            ("clip_b32", &mut self.clip_b32),
            ("siglip_base", &mut self.siglip_base),
            ("siglip_large", &mut self.siglip_large),
            ("dinov2", &mut self.dinov2),
            ("dinov2_small", &mut self.dinov2_small),
            ("dinov2_large", &mut self.dinov2_large),
            ("dinov2_giant", &mut self.dinov2_giant),
            ("lpips", &mut self.lpips),
            ("inception", &mut self.inception),
            ("bge_m3", &mut self.bge_m3),
        ]
    }
}

impl SuiteConfig {
    /// Makes paths, which are relative to the config's `folder`, independent of it.
    pub fn resolve_paths(&mut self, folder: &Path) {
        for (_, path) in self.paths() {
            *path = folder.join(&*path);
        }
    }

    /// The paths that are given, by their keys.
    pub fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let mut all = Vec::new();
        if !self.data.as_os_str().is_empty() {
            all.push(("data".to_owned(), &mut self.data));
        }
        let encoders = self.encoders.each_mut().into_iter();
        let encoders = encoders.map(|(key, path)| (format!("encoders.{key}"), path));
        let tokenizer = ("tokenizer".to_owned(), &mut self.tokenizer);
        let given = encoders.chain([tokenizer]);
        all.extend(given.filter_map(|(key, path)| Some((key, path.as_mut()?))));
        all
    }

    /// The first value out of bounds, as `key: rule, got value`.
    ///
    /// # Errors
    /// The sentence.
    pub fn validate(&self) -> Result<(), String> {
        self.device.check()?;
        if self.batch > 1024 {
            return Err(format!("batch: must be <= 1024, got {}", self.batch));
        }
        if self.deadline_ms == 0 {
            return Err("deadline_ms: must be >= 1, got 0".into());
        }
        let BootstrapConfig {
            samples,
            confidence,
        } = self.bootstrap;
        if !(1..=100_000).contains(&samples) {
            return Err(format!(
                "bootstrap.samples: must be from 1 to 100000, got {samples}"
            ));
        }
        if !(confidence > 0.0 && confidence < 1.0) {
            return Err(format!(
                "bootstrap.confidence: must be above 0 and below 1, got {confidence}"
            ));
        }
        let EvalSampling {
            temperature,
            top_p,
            max_new_tokens,
            samples,
            ..
        } = self.sampling;
        if let Some(temperature) = temperature.filter(|t| !(t.is_finite() && *t >= 0.0)) {
            return Err(format!(
                "sampling.temperature: must be >= 0, got {temperature}"
            ));
        }
        if let Some(top_p) = top_p.filter(|top_p| !(*top_p > 0.0 && *top_p <= 1.0)) {
            return Err(format!(
                "sampling.top_p: must be above 0, at most 1, got {top_p}"
            ));
        }
        if let Some(samples) = samples.filter(|samples| !(1..=64).contains(samples)) {
            return Err(format!(
                "sampling.samples: must be from 1 to 64, got {samples}"
            ));
        }
        if max_new_tokens == Some(0) {
            return Err("sampling.max_new_tokens: must be >= 1, got 0".into());
        }
        if let Some(judge) = &self.judge {
            judge.validate().map_err(|error| format!("judge.{error}"))?;
        }
        let server = &self.server;
        if !(1..=256).contains(&server.connections) {
            let got = server.connections;
            return Err(format!(
                "server.connections: must be from 1 to 256, got {got}"
            ));
        }
        if server.timeout_ms == 0 {
            return Err("server.timeout_ms: must be >= 1, got 0".into());
        }
        if server.retries > 10 {
            return Err(format!(
                "server.retries: must be <= 10, got {}",
                server.retries
            ));
        }
        Ok(())
    }
}
