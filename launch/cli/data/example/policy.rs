//! Tiny policies in the layout of the published folders: config.json, processor, tokenizer with the family's special
//! tokens and a chat template, fresh weights.

use models::write_fresh_policy;
use serde_json::{Value, json};

use super::super::super::CliFailure;
use super::folder::ExampleFolder;

/// The quickstart's tokenizer: bytes, a few words, numbers and SVG.
const TOKENIZER: &str = include_str!("../../../../configs/quickstart_tokenizer/tokenizer.json");

/// What the families add to it; ids follow the tokenizer's own.
const ADDED: [(&str, bool); 10] = [
    ("<|vision_start|>", true),
    ("<|vision_end|>", true),
    ("<|image_pad|>", true),
    ("<|video_pad|>", true),
    ("<img>", true),
    ("</img>", true),
    ("<IMG_CONTEXT>", true),
    ("<video>", true),
    ("<think>", false),
    ("</think>", false),
];

/// Families of policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFamily {
    /// Qwen2.5: text alone.
    Qwen25,
    /// Qwen2.5-VL.
    Qwen25Vl,
    /// Qwen3-VL.
    Qwen3Vl,
    /// InternVL3 as transformers has it.
    InternVl3,
}

/// Writes the policy to `name` of `folder`.
///
/// # Errors
/// Whatever the file system says.
pub fn write(folder: &ExampleFolder, name: &str, family: PolicyFamily) -> Result<(), CliFailure> {
    let tokens = AddedTokens::read()?;
    let file = |end: &str| format!("{name}/{end}");
    folder.json(&file("tokenizer.json"), &tokens.tokenizer)?;
    folder.json(&file("tokenizer_config.json"), &tokenizer_config(family))?;
    let ends = json!({"eos_token_id": [tokens.id("<|im_end|>"), tokens.id("<|endoftext|>")]});
    folder.json(&file("generation_config.json"), &ends)?;
    if let Some(processor) = processor(family) {
        folder.json(&file("preprocessor_config.json"), &processor)?;
    }
    folder.json(&file("config.json"), &config(family, &tokens))?;
    write_fresh_policy(&folder.join(name), folder.seed).map_err(CliFailure::other)
}

struct AddedTokens {
    tokenizer: Value,
}

impl AddedTokens {
    fn read() -> Result<Self, CliFailure> {
        let mut tokenizer: Value = serde_json::from_str(TOKENIZER).map_err(CliFailure::other)?;
        if let Some(tokens) = tokenizer["added_tokens"].as_array_mut() {
            let last = tokens.iter().filter_map(|token| token["id"].as_i64()).max();
            for (id, (text, special)) in (last.unwrap_or(-1) + 1..).zip(ADDED) {
                tokens.push(json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": special,
                }));
            }
        }
        Ok(Self { tokenizer })
    }

    fn tokens(&self) -> impl Iterator<Item = &Value> {
        self.tokenizer["added_tokens"]
            .as_array()
            .into_iter()
            .flatten()
    }

    fn id(&self, text: &str) -> Option<i64> {
        self.tokens().find(|token| token["content"] == text)?["id"].as_i64()
    }

    /// Rows of the embedding.
    fn rows(&self) -> i64 {
        let last = self.tokens().filter_map(|token| token["id"].as_i64()).max();
        last.unwrap_or(0) + 1
    }
}

/// A user's turn, with pictures as the family writes them.
fn template(family: PolicyFamily) -> String {
    let picture = match family {
        PolicyFamily::Qwen25 => "",
        PolicyFamily::Qwen25Vl | PolicyFamily::Qwen3Vl => {
            "<|vision_start|><|image_pad|><|vision_end|>"
        }
        PolicyFamily::InternVl3 => "<IMG_CONTEXT>\n",
    };
    let opening = match family {
        PolicyFamily::Qwen25Vl => {
            "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
        }
        _ => "",
    };
    let picture = picture.replace('\n', "\\n");
    format!(
        "{opening}{{%- for message in messages %}}{{{{- '<|im_start|>' + message.role + '\\n' }}}}\
         {{%- if message.content is string %}}{{{{- message.content }}}}\
         {{%- else %}}{{%- for part in message.content %}}\
         {{%- if part.type == 'image' %}}{{{{- '{picture}' }}}}\
         {{%- else %}}{{{{- part.text }}}}{{%- endif %}}{{%- endfor %}}{{%- endif %}}\
         {{{{- '<|im_end|>\\n' }}}}{{%- endfor %}}\
         {{%- if add_generation_prompt %}}{{{{- '<|im_start|>assistant\\n' }}}}{{%- endif %}}"
    )
}

fn tokenizer_config(family: PolicyFamily) -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": null,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": false,
        "model_max_length": 4096,
        "chat_template": template(family),
    })
}

/// The decoder, as `text_config` or at the top.
fn decoder(model_type: &str, tokens: &AddedTokens) -> Value {
    json!({
        "model_type": model_type,
        "vocab_size": tokens.rows(),
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 24,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "initializer_range": 0.06,
        "rms_norm_eps": 1e-6,
        "eos_token_id": tokens.id("<|im_end|>"),
        "tie_word_embeddings": true,
    })
}

fn config(family: PolicyFamily, tokens: &AddedTokens) -> Value {
    let rope = |more: Value| {
        let mut rope = json!({"rope_type": "default", "rope_theta": 10000.0});
        merge(&mut rope, more);
        json!({"rope_parameters": rope})
    };
    let qwen_ids = json!({
        "image_token_id": tokens.id("<|image_pad|>"),
        "video_token_id": tokens.id("<|video_pad|>"),
        "vision_start_token_id": tokens.id("<|vision_start|>"),
        "vision_end_token_id": tokens.id("<|vision_end|>"),
        "tie_word_embeddings": true,
        "dtype": "float32",
    });
    let qwen_tower = json!({
        "depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "in_channels": 3,
        "out_hidden_size": 96, "spatial_merge_size": 2, "temporal_patch_size": 2,
    });
    match family {
        PolicyFamily::Qwen25 => {
            let mut whole = json!({"architectures": ["Qwen2ForCausalLM"], "dtype": "float32"});
            merge(&mut whole, decoder("qwen2", tokens));
            merge(&mut whole, rope(json!({})));
            whole
        }
        PolicyFamily::Qwen25Vl => {
            let mut text = decoder("qwen2_5_vl_text", tokens);
            merge(&mut text, rope(json!({"mrope_section": [4, 4, 4]})));
            let mut tower = qwen_tower;
            merge(
                &mut tower,
                json!({
                    "model_type": "qwen2_5_vl_vision", "hidden_act": "silu", "patch_size": 14, "window_size": 56,
                    "fullatt_block_indexes": [1], "tokens_per_second": 4,
                }),
            );
            let mut whole = json!({
                "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl",
                "text_config": text, "vision_config": tower,
            });
            merge(&mut whole, qwen_ids);
            whole
        }
        PolicyFamily::Qwen3Vl => {
            let mut text = decoder("qwen3_vl_text", tokens);
            let sections = json!({"mrope_section": [4, 4, 4], "mrope_interleaved": true});
            merge(&mut text, rope(sections));
            merge(&mut text, json!({"attention_bias": false}));
            let mut tower = qwen_tower;
            merge(
                &mut tower,
                json!({
                    "model_type": "qwen3_vl_vision", "hidden_act": "gelu_pytorch_tanh", "patch_size": 16,
                    "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
                }),
            );
            let mut whole = json!({
                "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
                "text_config": text, "vision_config": tower,
            });
            merge(&mut whole, qwen_ids);
            whole
        }
        PolicyFamily::InternVl3 => {
            let mut text = decoder("qwen2", tokens);
            merge(&mut text, rope(json!({})));
            json!({
                "architectures": ["InternVLForConditionalGeneration"], "model_type": "internvl", "dtype": "float32",
                "downsample_ratio": 0.5, "image_seq_length": 4, "image_token_id": tokens.id("<IMG_CONTEXT>"),
                "projector_hidden_act": "gelu", "tie_word_embeddings": true,
                "vision_feature_layer": -1, "vision_feature_select_strategy": "default",
                "text_config": text,
                "vision_config": {
                    "model_type": "internvl_vision", "hidden_size": 32, "intermediate_size": 64,
                    "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": [56, 56], "patch_size": [14, 14],
                    "hidden_act": "gelu", "attention_bias": true, "use_qk_norm": false, "norm_type": "layer_norm",
                    "layer_norm_eps": 1e-6, "layer_scale_init_value": 0.1, "use_mean_pooling": true,
                    "use_absolute_position_embeddings": true, "use_mask_token": false, "num_channels": 3,
                },
            })
        }
    }
}

fn processor(family: PolicyFamily) -> Option<Value> {
    let shared = json!({
        "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true, "resample": 3,
        "rescale_factor": 1.0 / 255.0,
    });
    let (own, patch) = match family {
        PolicyFamily::Qwen25 => return None,
        PolicyFamily::InternVl3 => (
            json!({
                "image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": false, "min_patches": 1,
                "max_patches": 12, "size": {"height": 56, "width": 56},
                "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            }),
            None,
        ),
        PolicyFamily::Qwen25Vl => (
            json!({
                "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
                "image_std": [0.268_629_54, 0.261_302_58, 0.275_777_11],
            }),
            Some(14),
        ),
        PolicyFamily::Qwen3Vl => (
            json!({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}),
            Some(16),
        ),
    };
    let mut whole = shared;
    merge(&mut whole, own);
    if let Some(patch) = patch {
        let side: i64 = 2 * patch;
        let area = |across: i64| (across * side).pow(2);
        merge(
            &mut whole,
            json!({
                "image_processor_type": "Qwen2VLImageProcessor", "patch_size": patch, "merge_size": 2,
                "temporal_patch_size": 2, "size": {"shortest_edge": area(1), "longest_edge": area(3)},
            }),
        );
    }
    Some(whole)
}

/// Puts the keys of `more` into `map`.
fn merge(map: &mut Value, more: Value) {
    if let (Some(map), Value::Object(more)) = (map.as_object_mut(), more) {
        map.extend(more);
    }
}
