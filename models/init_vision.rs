//! A fresh vision tower of Qwen3-VL's kind before a fresh decoder.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::image::Processor;
use crate::layers::Activation;
use crate::vision::{ImageTokens, VisionConfig, VisionNetwork, VisionSetup, WeightNaming};
use crate::{DecoderConfig, ModelError, Tokenizer};

/// The shape of a fresh vision tower.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InitVision {
    /// Number of blocks.
    pub depth: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward.
    pub intermediate_size: i64,
    /// Attention heads; a head's width must be a multiple of 4.
    pub num_heads: i64,
    /// Side of a patch, in pixels.
    pub patch_size: i64,
    /// Patches along each side that become one token.
    pub spatial_merge_size: i64,
    /// Learned positions along each side, interpolated to a picture's patches.
    pub grid: i64,
    /// Blocks whose output is added to the decoder's first blocks (DeepStack), ascending; no more
    /// than the decoder has blocks.
    pub deepstack: Vec<i64>,
}

impl Default for InitVision {
    fn default() -> Self {
        Self {
            depth: 4,
            hidden_size: 128,
            intermediate_size: 384,
            num_heads: 4,
            patch_size: 16,
            spatial_merge_size: 2,
            grid: 16,
            deepstack: vec![1],
        }
    }
}

impl InitVision {
    /// What is wrong with it, as `key: bound`, before a decoder of `blocks`.
    pub fn check(&self, blocks: i64) -> Result<(), String> {
        let positive = [
            ("depth", self.depth),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_heads", self.num_heads),
            ("patch_size", self.patch_size),
            ("spatial_merge_size", self.spatial_merge_size),
            ("grid", self.grid),
        ];
        for (key, value) in positive {
            if value < 1 {
                return Err(format!("{key}: must be >= 1, got {value}"));
            }
        }
        if self.hidden_size % (4 * self.num_heads) != 0 {
            return Err(format!(
                "num_heads: hidden_size {} must be a multiple of 4 times it, got {}",
                self.hidden_size, self.num_heads
            ));
        }
        let rising = self.deepstack.windows(2).all(|pair| pair[0] < pair[1]);
        let inside = self.deepstack.iter().all(|at| (0..self.depth).contains(at));
        match rising && inside && self.deepstack.len() as i64 <= blocks {
            true => Ok(()),
            false => Err(format!(
                "deepstack: must be ascending blocks below depth {}, at most {blocks}, got {:?}",
                self.depth, self.deepstack
            )),
        }
    }

    /// The ids of <|image_pad|>, <|video_pad|>, <|vision_start|> and <|vision_end|>.
    pub(crate) fn tokens(tokenizer: &Tokenizer) -> Result<[i64; 4], ModelError> {
        let token = |text: &str| {
            tokenizer.id(text).ok_or_else(|| {
                ModelError::unsupported(
                    "model",
                    "init.vision",
                    format!("the tokenizer has no token {text}"),
                )
            })
        };
        let [image, video] = [token("<|image_pad|>")?, token("<|video_pad|>")?];
        let [start, end] = [token("<|vision_start|>")?, token("<|vision_end|>")?];
        Ok([image, video, start, end])
    }

    /// Puts the tower before `config`, which becomes a Qwen3-VL whose tokens about pictures are
    /// those of <|image_pad|>, <|video_pad|>, <|vision_start|> and <|vision_end|>.
    ///
    /// # Errors
    /// A patch size that pictures cannot be cut to.
    pub fn attach(
        &self,
        config: &mut DecoderConfig,
        [image, video, start, end]: [i64; 4],
    ) -> Result<(), ModelError> {
        let tower = VisionConfig {
            network: VisionNetwork::Qwen3Vl {
                positions: self.grid * self.grid,
                taps: self.deepstack.clone(),
                activation: Activation::GeluTanh,
            },
            depth: self.depth,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_heads: self.num_heads,
            patch_size: self.patch_size,
            merge: self.spatial_merge_size,
            tokens: ImageTokens {
                image,
                suppress: vec![image, video, start, end],
            },
        };
        let processor = Processor::fresh(tower.input())?;
        // The frequencies in turns: time, row, column, as Qwen3-VL's sections say it.
        let half = config.head_dim / 2;
        let third = half / 3;
        let sections = [half - 2 * third, third, third];
        config.rope_axes = (0..half)
            .map(|at| if at < 3 * third { at % 3 } else { 0 })
            .collect();
        config.names = WeightNaming::Nested;
        config.source = self.source(config, &tower.tokens, sections);
        config.vision = Some(VisionSetup { tower, processor });
        Ok(())
    }

    /// config.json.
    fn source(
        &self,
        config: &DecoderConfig,
        tokens: &ImageTokens,
        sections: [i64; 3],
    ) -> Map<String, Value> {
        let eos = config.source.get("eos_token_id").cloned();
        let mut text = json!({
            "model_type": "qwen3_vl_text",
            "vocab_size": config.vocab_size,
            "hidden_size": config.hidden_size,
            "intermediate_size": config.intermediate_size,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.num_kv_heads,
            "head_dim": config.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": config.rms_norm_eps,
            "initializer_range": config.initializer_range,
            "tie_word_embeddings": config.tied,
            "max_position_embeddings": config.max_positions,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": config.rope_theta,
                "mrope_section": sections, "mrope_interleaved": true,
            },
            "dtype": "float32",
        });
        if let Some(eos) = eos {
            text["eos_token_id"] = eos;
        }
        let whole = json!({
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "tie_word_embeddings": config.tied,
            "image_token_id": tokens.image,
            "video_token_id": tokens.suppress[1],
            "vision_start_token_id": tokens.suppress[2],
            "vision_end_token_id": tokens.suppress[3],
            "dtype": "float32",
            "text_config": text,
            "vision_config": {
                "model_type": "qwen3_vl_vision",
                "depth": self.depth,
                "hidden_size": self.hidden_size,
                "intermediate_size": self.intermediate_size,
                "num_heads": self.num_heads,
                "in_channels": 3,
                "patch_size": self.patch_size,
                "spatial_merge_size": self.spatial_merge_size,
                "temporal_patch_size": 2,
                "out_hidden_size": config.hidden_size,
                "num_position_embeddings": self.grid * self.grid,
                "deepstack_visual_indexes": self.deepstack,
                "hidden_act": "gelu_pytorch_tanh",
            },
        });
        match whole {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}
