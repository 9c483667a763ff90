//! The run's configuration: what the YAML file may say, with defaults and bounds.
//!
//! Each crate owns its section; this one composes them. [`Config::validate`] checks what types
//! cannot say; later code sees only valid values.

mod algorithm;
mod bounds;
mod common;
mod correction;
mod dpo;
mod grpo;
mod held_out;
mod learnt_samples;
mod metrics;
mod optimizer;
mod options;
mod pairs;
mod paths;
mod ranks;
mod sampling;
mod sft;
mod sharding;
mod stage;
mod suite;
mod task;
mod tracking;
mod validate;

use std::path::PathBuf;

use indexmap::IndexMap;
use models::ModelConfig;
use rewards::{DeviceChoice, EncoderConfig, EncoderSet, RewardsConfig};
use rollout::data::DataConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use algorithm::AlgorithmConfig;
pub use common::{
    BatchConfig, BestCheckpoint, BestMode, CheckpointConfig, EvalConfig, StageCommon,
};
pub use correction::{CorrectionConfig, CorrectionLevel, CorrectionMethod, OldLogprobs};
pub use dpo::{DpoConfig, DpoLoss, DpoReference};
pub use grpo::{
    AdvantageConfig, Aggregation, GrpoConfig, KlConfig, KlEstimator, KlPlace, LossConfig, MeanOver,
    SamplesConfig, StdOf, StdOver, Truncated, ZeroSpread,
};
pub use learnt_samples::LearntSamplesConfig;
pub use optimizer::{OptimizerConfig, Schedule};
pub use options::{AlgorithmNeeds, AlgorithmOptions, LengthBounds};
pub(crate) use pairs::ScoredBy;
pub use pairs::{JudgeSees, PairsConfig};
pub use paths::FolderOf;
pub use ranks::RanksConfig;
pub use sampling::RolloutConfig;
pub use sft::{AnswerSelection, SftConfig};
pub use sharding::ShardingConfig;
pub use stage::StageConfig;
pub use suite::StageSuite;
pub use task::{TaskConfig, TaskType, scoring};
pub use tracking::{MetricsConfig, TrackingConfig, WandbConfig};

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Another config, relative to this file's folder, that this one is written over: sections merge, single values
    /// and lists of this file replace the base's, a section with another `type`, `format` or `algorithm` replaces the
    /// base's whole, and `stages` change the base's stages of the same `name` (those not named stay). The base may
    /// have a base itself. Paths are relative to the folder of the file that holds them. The run folder keeps every
    /// file: config.yaml, base_1.yaml for its base, base_2.yaml for the base's, ...; config.resolved.yaml stands alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<PathBuf>,
    /// Name of the run and of its folder under `output_dir`.
    pub name: String,
    /// Seed of everything random: fresh weights, data order, sampling.
    pub seed: u64,
    /// `auto` (a GPU when there is one), `cpu`, `cuda` or `cuda:N`.
    pub device: DeviceName,
    /// Kind the policy computes in. With bfloat16 the optimizer keeps float32 master weights.
    pub dtype: Dtype,
    /// Threads libtorch computes with on the CPU; 0: OMP_NUM_THREADS, else the cores shared among
    /// this machine's ranks.
    pub threads: usize,
    /// Asks the GPU for kernels that repeat bit for bit, so that a resume is exact there too; without
    /// them some steps are faster. The CPU's always repeat.
    pub deterministic: bool,
    /// What the device computes at most, in TFLOP/s, for `perf/mfu`. 0: what is known of the GPU in
    /// bfloat16; no `perf/mfu` where nothing is.
    pub peak_tflops: f64,
    /// Folder of run folders, relative to the working directory.
    pub output_dir: OutputDir,
    /// Seconds a step in flight may take to finish after SIGTERM or SIGINT before it is dropped.
    pub grace_s: f64,
    /// The policy.
    pub model: ModelConfig,
    /// Where examples come from.
    pub data: DataConfig,
    /// The networks that rewards use, by name.
    pub encoders: IndexMap<String, EncoderConfig>,
    /// The processes of a run of several.
    pub ranks: RanksConfig,
    /// What they share out among them.
    pub sharding: ShardingConfig,
    /// How scoring runs.
    pub rewards: RewardsConfig,
    /// How metrics are written.
    pub metrics: MetricsConfig,
    /// Trackers that the finished run is replayed into.
    pub tracking: TrackingConfig,
    /// The tasks by name: how a prompt is put and how a completion is scored.
    pub tasks: IndexMap<String, TaskConfig>,
    /// What is done, in order, each stage from the last one's weights.
    pub stages: Vec<StageConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            base: None,
            name: "run".into(),
            seed: 0,
            device: DeviceName::default(),
            dtype: Dtype::default(),
            threads: 0,
            deterministic: true,
            peak_tflops: 0.0,
            output_dir: OutputDir::default(),
            grace_s: 30.0,
            model: ModelConfig::default(),
            data: DataConfig::default(),
            encoders: IndexMap::new(),
            ranks: RanksConfig::default(),
            sharding: ShardingConfig::default(),
            rewards: RewardsConfig::default(),
            metrics: MetricsConfig::default(),
            tracking: TrackingConfig::default(),
            tasks: IndexMap::new(),
            stages: Vec::new(),
        }
    }
}

impl Config {
    /// The encoders as the scorer takes them; those that name no device compute on `device`.
    pub fn encoder_set(&self, device: tch::Device) -> EncoderSet {
        EncoderSet {
            encoders: self.encoders.clone(),
            device: device_choice(device),
        }
    }
}

/// Folder of run folders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct OutputDir(pub PathBuf);

impl Default for OutputDir {
    fn default() -> Self {
        Self("runs".into())
    }
}

/// What the policy computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// 32-bit floats.
    #[default]
    Float32,
    /// 16-bit brain floats.
    Bfloat16,
}

impl Dtype {
    /// libtorch's name of it.
    pub fn kind(self) -> tch::Kind {
        match self {
            Self::Float32 => tch::Kind::Float,
            Self::Bfloat16 => tch::Kind::BFloat16,
        }
    }
}

impl std::str::FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "float32" => Ok(Self::Float32),
            "bfloat16" => Ok(Self::Bfloat16),
            _ => Err(format!("must be float32 or bfloat16, got `{text}`")),
        }
    }
}

/// A device as the user names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeviceName(pub String);

impl Default for DeviceName {
    fn default() -> Self {
        Self("auto".into())
    }
}

impl DeviceName {
    /// Whether it is a device's name at all, answering or not.
    ///
    /// # Errors
    /// `rule, got name`.
    pub fn check(&self) -> Result<(), String> {
        self.0.parse::<DeviceChoice>().map(drop)
    }

    /// The device, `local_rank` choosing among GPUs when none is named.
    ///
    /// # Errors
    /// An unknown name, or a GPU that is not there.
    pub fn resolve(&self, local_rank: usize) -> Result<tch::Device, String> {
        let choice = self.0.parse()?;
        let available = tch::Cuda::is_available();
        let gpu = |index: usize| match available && (index as i64) < tch::Cuda::device_count() {
            true => Ok(tch::Device::Cuda(index)),
            false => Err(format!(
                "device: {choice}: no such GPU answers; use cpu, or build with the CUDA libtorch (`make setup CUDA=1`)"
            )),
        };
        match choice {
            DeviceChoice::Cpu => Ok(tch::Device::Cpu),
            DeviceChoice::Auto if !available => Ok(tch::Device::Cpu),
            DeviceChoice::Auto | DeviceChoice::Cuda(None) => gpu(local_rank),
            DeviceChoice::Cuda(Some(index)) => gpu(index),
        }
    }
}

/// A device as encoders' sections name it.
pub(crate) fn device_choice(device: tch::Device) -> DeviceChoice {
    match device {
        tch::Device::Cuda(index) => DeviceChoice::Cuda(Some(index)),
        _ => DeviceChoice::Cpu,
    }
}
