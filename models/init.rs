//! The `model` section: a Hugging Face folder, or a fresh network from a shape and a tokenizer.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::image::ImageBounds;
use crate::init_vision::InitVision;
use crate::lora::{LoraConfig, adapter_base, is_adapter};
use crate::open_folder::{
    AdapterStart, load_adapted, load_merged, load_with_fresh_adapters, policy_config,
};
use crate::svg_tokens::SvgVocabulary;
use crate::vision::WeightNaming;
use crate::weights_folder::LoadOptions;
use crate::{Architecture, Component, Decoder, DecoderConfig, ModelError, Tokenizer};

/// Where the policy comes from: `path`, or `init` and `tokenizer`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Folder in Hugging Face layout: config.json, safetensors and tokenizer files; or a LoRA adapter as PEFT or a run
    /// writes it, whose base is merged with it.
    pub path: Option<PathBuf>,
    /// Shape of a freshly initialised network, in place of `path`.
    pub init: Option<InitConfig>,
    /// Folder with the tokenizer files; default: `path`.
    pub tokenizer: Option<PathBuf>,
    /// Parts that stay as they are: `vision` (the tower that sees pictures), `projector` (what
    /// maps its features to the decoder), `decoder`; not all of them.
    pub freeze: Vec<Component>,
    /// Tensors of `path` that the network has no place for and that are left out: names, in which `*` stands
    /// for anything (`v_head.*`). Without it an unknown tensor is refused by name.
    pub ignore: Vec<String>,
    /// Adds SVG tokens to the vocabulary before the run's first stage: `ctrl-s` (49 tags, 35 attributes) or `internsvg`
    /// (53 tags with those of animation, 42 attributes), each with integers from -128 to 128 and fractions of one and two
    /// digits. Rows of embedding and head begin as means of the pieces that a token used to be split into. The folder is
    /// written once as RUN/model_extended (what `svgrl extend-tokens` writes, with extend_report.json) and is what the
    /// run starts from; `path` stays as it is. One that has the tokens already is used as it is. Needs `path`.
    pub extend_tokens: Option<SvgVocabulary>,
    /// How large pictures are shown to the policy.
    pub images: ImageBounds,
}

/// The shape of a fresh decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InitConfig {
    /// Family: `qwen2` or `qwen3`.
    pub architecture: Architecture,
    /// Rows of the embedding; 0 takes the tokenizer's size.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward.
    pub intermediate_size: i64,
    /// Number of blocks.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; must divide `num_attention_heads`.
    pub num_key_value_heads: i64,
    /// Width of a head, even; 0 takes hidden_size / num_attention_heads.
    pub head_dim: i64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Epsilon of the RMS norms.
    pub rms_norm_eps: f64,
    /// Standard deviation of the fresh matrices.
    pub initializer_range: f64,
    /// Whether the head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Longest sequence, written to config.json.
    pub max_position_embeddings: i64,
    /// A vision tower of Qwen3-VL's kind before a `qwen3` decoder; text alone when absent. The
    /// tokenizer must have <|image_pad|>, <|video_pad|>, <|vision_start|> and <|vision_end|>.
    pub vision: Option<InitVision>,
}

impl Default for InitConfig {
    fn default() -> Self {
        Self {
            architecture: Architecture::Qwen3,
            vocab_size: 0,
            hidden_size: 256,
            intermediate_size: 768,
            num_hidden_layers: 6,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 0,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-6,
            initializer_range: 0.02,
            tie_word_embeddings: true,
            max_position_embeddings: 32_768,
            vision: None,
        }
    }
}

impl InitConfig {
    /// What is wrong with it, as `key: bound`.
    pub fn check(&self) -> Result<(), String> {
        let positive = [
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, value) in positive {
            if value < 1 {
                return Err(format!("{key}: must be >= 1, got {value}"));
            }
        }
        if self.num_attention_heads % self.num_key_value_heads != 0 {
            return Err(format!(
                "num_key_value_heads: must divide num_attention_heads {}, got {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if self.head_dim < 0 || self.resolved_head_dim() % 2 != 0 || self.resolved_head_dim() == 0 {
            return Err(format!(
                "head_dim: must be even and positive (or 0 for hidden_size / heads), got {}",
                self.resolved_head_dim()
            ));
        }
        for (key, value) in [
            ("rope_theta", self.rope_theta),
            ("rms_norm_eps", self.rms_norm_eps),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{key}: must be > 0, got {value}"));
            }
        }
        match &self.vision {
            None => Ok(()),
            Some(_) if !self.architecture.traits().fresh_vision => {
                Err("vision: a tower needs architecture qwen3".into())
            }
            Some(vision) => vision
                .check(self.num_hidden_layers)
                .map_err(|error| format!("vision.{error}")),
        }
    }

    fn resolved_head_dim(&self) -> i64 {
        if self.head_dim == 0 {
            self.hidden_size / self.num_attention_heads
        } else {
            self.head_dim
        }
    }

    /// The shape for a tokenizer: its size where `vocab_size` is 0, its image tokens, its end ids
    /// for export.
    ///
    /// # Errors
    /// A tower for a tokenizer without image tokens.
    pub fn shape(&self, tokenizer: &Tokenizer) -> Result<DecoderConfig, ModelError> {
        let mut config = self.decoder(tokenizer.len() as i64, tokenizer.eos());
        if let Some(vision) = &self.vision {
            vision.attach(&mut config, InitVision::tokens(tokenizer)?)?;
        }
        Ok(config)
    }

    /// The decoder's shape alone with `tokens` rows where `vocab_size` is 0, and `eos` for export.
    pub fn decoder(&self, tokens: i64, eos: &[i64]) -> DecoderConfig {
        let mut source = serde_json::Map::new();
        if let [id] = eos {
            source.insert("eos_token_id".into(), (*id).into());
        } else if !eos.is_empty() {
            source.insert("eos_token_id".into(), eos.into());
        }
        DecoderConfig {
            architecture: self.architecture,
            vocab_size: if self.vocab_size == 0 {
                tokens
            } else {
                self.vocab_size
            },
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_layers: self.num_hidden_layers,
            num_heads: self.num_attention_heads,
            num_kv_heads: self.num_key_value_heads,
            head_dim: self.resolved_head_dim(),
            rope_theta: self.rope_theta,
            rms_norm_eps: self.rms_norm_eps,
            initializer_range: self.initializer_range,
            tied: self.tie_word_embeddings,
            max_positions: self.max_position_embeddings,
            kind: Kind::Float,
            rope_axes: Vec::new(),
            vision: None,
            names: WeightNaming::Text,
            source,
        }
    }
}

impl ModelConfig {
    /// The folder the tokenizer is read from.
    pub fn tokenizer_folder(&self) -> Option<&Path> {
        self.tokenizer.as_deref().or(self.path.as_deref())
    }

    /// The tokenizer of [`Self::tokenizer_folder`], with the tokens that `extend_tokens` adds.
    ///
    /// # Errors
    /// A section that names none; whatever [`Tokenizer::read`] refuses.
    pub fn read_tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let lacks = "a fresh network (`init`) needs a tokenizer folder";
        let folder = self.tokenizer_folder();
        let folder = folder.ok_or_else(|| ModelError::unsupported("model", "tokenizer", lacks))?;
        Tokenizer::read_extended(folder, self.extend_tokens)
    }

    /// The network's shape, without its weights.
    ///
    /// # Errors
    /// Whatever [`DecoderConfig::read`] refuses; a section with neither `path` nor `init`; bounds
    /// of pictures that the network's processor does not have.
    pub fn shape(&self, tokenizer: &Tokenizer) -> Result<DecoderConfig, ModelError> {
        let mut shape = match (&self.path, &self.init) {
            (Some(path), _) => DecoderConfig::read(&shape_folder(path)?)?,
            (None, Some(init)) => init.shape(tokenizer)?,
            (None, None) => {
                return Err(ModelError::unsupported(
                    "model",
                    "path",
                    "either `path` or `init` is needed",
                ));
            }
        };
        self.apply_overrides(&mut shape)?;
        Ok(shape)
    }

    /// Applies `images`, and checks `freeze`.
    fn apply_overrides(&self, shape: &mut DecoderConfig) -> Result<(), ModelError> {
        let refuse = |key: &str, reason: String| ModelError::unsupported("model", key, reason);
        let blind = "this model reads text only";
        match &mut shape.vision {
            Some(setup) => setup
                .processor
                .bound(&self.images)
                .map_err(|error| refuse("images", error))?,
            None if self.images != ImageBounds::default() => {
                return Err(refuse("images", blind.into()));
            }
            None => {}
        }
        let parts: &[Component] = match shape.vision {
            Some(_) => &[Component::Vision, Component::Projector, Component::Decoder],
            None => &[Component::Decoder],
        };
        if let Some(part) = self.freeze.iter().find(|part| !parts.contains(part)) {
            return Err(refuse("freeze", format!("{part:?}: {blind}")));
        }
        match parts.iter().all(|part| self.freeze.contains(part)) {
            true => Err(refuse("freeze", "at least one part must learn".into())),
            false => Ok(()),
        }
    }

    /// Loads the folder, or makes the fresh network from `seed`; what is frozen lies apart.
    ///
    /// # Errors
    /// Whatever [`crate::load_folder`] and [`Self::shape`] refuse.
    pub fn load(
        &self,
        seed: u64,
        tokenizer: &Tokenizer,
        place: (Kind, Device),
    ) -> Result<Decoder, ModelError> {
        match (&self.path, &self.init) {
            (Some(path), _) => self.reload(path, place),
            (None, Some(_)) => {
                let shape = self.shape(tokenizer)?;
                let model = Decoder::with_frozen(shape, &self.freeze, place.0, place.1);
                model.randomise(seed);
                Ok(model)
            }
            (None, None) => Err(ModelError::unsupported(
                "model",
                "path",
                "either `path` or `init` is needed",
            )),
        }
    }

    /// Loads a folder that this section's network was written to, to learn from there: an adapter is merged into its
    /// base's weights.
    ///
    /// # Errors
    /// Whatever [`crate::load_folder`] and [`Self::shape`] refuse.
    pub fn reload(&self, folder: &Path, place: (Kind, Device)) -> Result<Decoder, ModelError> {
        let options = LoadOptions {
            frozen: &self.freeze,
            ignore: &self.ignore,
        };
        load_merged(self.shape_of(folder)?, folder, options, place)
    }

    /// [`Self::reload`] to sample from: an adapter stays beside its base's weights, as it was trained.
    ///
    /// # Errors
    /// Whatever [`crate::load_folder`] and [`Self::shape`] refuse.
    pub fn open(&self, folder: &Path, place: (Kind, Device)) -> Result<Decoder, ModelError> {
        match is_adapter(folder) {
            false => self.reload(folder, place),
            true => load_adapted(self.shape_of(folder)?, folder, None, (&self.ignore, place)),
        }
    }

    /// The weights of `folder` with adapters to learn: those that are in it, else fresh ones from `seed`.
    ///
    /// # Errors
    /// Whatever [`crate::load_folder`] and [`Self::shape`] refuse; a target that no layer is called.
    pub fn adapted(
        &self,
        folder: &Path,
        (lora, seed): (&LoraConfig, u64),
        place: (Kind, Device),
    ) -> Result<Decoder, ModelError> {
        let (shape, start) = (self.shape_of(folder)?, AdapterStart { lora, seed });
        match is_adapter(folder) {
            true => load_adapted(shape, folder, Some(start), (&self.ignore, place)),
            false => load_with_fresh_adapters(shape, folder, start, (&self.ignore, place)),
        }
    }

    /// The shape of the policy in `folder`, with what this section says of it.
    fn shape_of(&self, folder: &Path) -> Result<DecoderConfig, ModelError> {
        let mut shape = policy_config(folder)?;
        self.apply_overrides(&mut shape)?;
        Ok(shape)
    }
}

/// The folder whose config.json describes the policy in `folder`.
fn shape_folder(folder: &Path) -> Result<PathBuf, ModelError> {
    match is_adapter(folder) {
        true => adapter_base(folder).map_err(ModelError::Folder),
        false => Ok(folder.to_owned()),
    }
}

impl Decoder {
    /// Fresh weights from `seed`: matrices normal with the config's standard deviation, norms 1,
    /// biases 0, as transformers initialises Qwen.
    pub fn randomise(&self, seed: u64) {
        let _turn = torch_ext::seeded(seed);
        tch::no_grad(|| {
            for spec in self.params.specs() {
                let mut view = self.params.view(spec);
                if spec.shape.len() > 1 {
                    let fresh = Tensor::randn(spec.shape.as_slice(), (Kind::Float, Device::Cpu))
                        * self.config.initializer_range;
                    view.copy_(&fresh);
                } else {
                    let _ = view.fill_(if spec.name.ends_with(".bias") {
                        0.0
                    } else {
                        1.0
                    });
                }
            }
        });
    }
}
