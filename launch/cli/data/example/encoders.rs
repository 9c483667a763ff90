//! Tiny encoders with random weights, each in the layout of its publication. Their features mean nothing; rewards that
//! use them only show that the machinery works.

use models::encoder::write_random_encoder;
use models::write_random_tensors;
use serde_json::{Value, json};

use super::super::super::CliFailure;
use super::byte_tokenizer::ByteTokenizer;
use super::folder::ExampleFolder;

const CLIP_TOKENS: ByteTokenizer = ByteTokenizer {
    special: &[("<|startoftext|>", 256), ("<|endoftext|>", 257)],
    start: Some("<|startoftext|>"),
    end: "<|endoftext|>",
};
const SIGLIP_TOKENS: ByteTokenizer = ByteTokenizer {
    special: &[("<pad>", 0), ("</s>", 1)],
    start: None,
    end: "</s>",
};
const BGE_TOKENS: ByteTokenizer = ByteTokenizer {
    special: &[("<s>", 0), ("<pad>", 1), ("</s>", 2), ("<unk>", 3)],
    start: Some("<s>"),
    end: "</s>",
};

/// Writes DINOv2 to `name`.
pub fn dinov2(folder: &ExampleFolder, name: &str) -> Result<(), CliFailure> {
    let config = json!({
        "architectures": ["Dinov2Model"], "model_type": "dinov2", "dtype": "float32", "hidden_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 14, "image_size": 56,
        "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": true, "use_swiglu_ffn": false, "num_channels": 3,
        "layerscale_value": 1.0,
    });
    let normal = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
    let processor = cropping("BitImageProcessor", (64, 56), normal);
    write(folder, name, (config, Some(processor), None))
}

/// Writes CLIP with Long-CLIP's 248 positions to `name`.
pub fn long_clip(folder: &ExampleFolder, name: &str) -> Result<(), CliFailure> {
    let block = json!({
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": 32,
    });
    let mut text = block.clone();
    text["model_type"] = json!("clip_text_model");
    text["vocab_size"] = json!(CLIP_TOKENS.len());
    text["max_position_embeddings"] = json!(248);
    text["bos_token_id"] = json!(256);
    text["eos_token_id"] = json!(257);
    let mut vision = block;
    vision["model_type"] = json!("clip_vision_model");
    vision["image_size"] = json!(32);
    vision["patch_size"] = json!(16);
    let config = json!({
        "architectures": ["CLIPModel"], "model_type": "clip", "dtype": "float32", "projection_dim": 32,
        "text_config": text, "vision_config": vision,
    });
    let normal = [
        [0.481_454_66, 0.457_827_5, 0.408_210_73],
        [0.268_629_54, 0.261_302_58, 0.275_777_11],
    ];
    let processor = cropping("CLIPImageProcessor", (32, 32), normal);
    write(folder, name, (config, Some(processor), Some(&CLIP_TOKENS)))
}

/// Writes SigLIP to `name`.
pub fn siglip(folder: &ExampleFolder, name: &str) -> Result<(), CliFailure> {
    let block = json!({
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
    });
    let mut text = block.clone();
    text["model_type"] = json!("siglip_text_model");
    text["vocab_size"] = json!(SIGLIP_TOKENS.len());
    text["max_position_embeddings"] = json!(64);
    text["projection_size"] = json!(32);
    let mut vision = block;
    vision["model_type"] = json!("siglip_vision_model");
    vision["image_size"] = json!(48);
    vision["patch_size"] = json!(16);
    let config = json!({
        "architectures": ["SiglipModel"], "model_type": "siglip", "dtype": "float32", "text_config": text,
        "vision_config": vision,
    });
    let processor = json!({
        "image_processor_type": "SiglipImageProcessor", "do_resize": true, "do_rescale": true, "do_normalize": true,
        "do_convert_rgb": true, "resample": 3, "rescale_factor": 1.0 / 255.0, "size": {"height": 48, "width": 48},
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    });
    write(
        folder,
        name,
        (config, Some(processor), Some(&SIGLIP_TOKENS)),
    )
}

/// Writes XLM-RoBERTa, which BGE-M3 is, to `name`.
pub fn bge_m3(folder: &ExampleFolder, name: &str) -> Result<(), CliFailure> {
    let config = json!({
        "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "dtype": "float32", "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu",
        "layer_norm_eps": 1e-5, "max_position_embeddings": 514, "pad_token_id": 1, "bos_token_id": 0,
        "eos_token_id": 2, "type_vocab_size": 1, "vocab_size": BGE_TOKENS.len(),
    });
    write(folder, name, (config, None, Some(&BGE_TOKENS)))
}

/// Writes LPIPS' AlexNet and its channel weights to `name`, in the shapes of the originals.
pub fn lpips(folder: &ExampleFolder, name: &str) -> Result<(), CliFailure> {
    let convolutions: [(i64, [i64; 4]); 5] = [
        (0, [64, 3, 11, 11]),
        (3, [192, 64, 5, 5]),
        (6, [384, 192, 3, 3]),
        (8, [256, 384, 3, 3]),
        (10, [256, 256, 3, 3]),
    ];
    let trunk = convolutions.iter().flat_map(|(index, shape)| {
        [
            (format!("features.{index}.weight"), shape.to_vec()),
            (format!("features.{index}.bias"), vec![shape[0]]),
        ]
    });
    let heads = convolutions.iter().enumerate().map(|(index, (_, shape))| {
        (
            format!("lin{index}.model.1.weight"),
            vec![1, shape[0], 1, 1],
        )
    });
    tensors(
        folder,
        &format!("{name}/alexnet.safetensors"),
        trunk.collect(),
    )?;
    tensors(folder, &format!("{name}/alex.safetensors"), heads.collect())
}

/// Writes DreamSim's three networks, a block of one head each, and a low-rank update to `name`.
pub fn dreamsim(folder: &ExampleFolder, name: &str) -> Result<(), CliFailure> {
    const WIDTH: i64 = 64;
    const EMBED: i64 = 32;
    let linear = |name: &str, out: i64, inner: i64| {
        [
            (format!("{name}.weight"), vec![out, inner]),
            (format!("{name}.bias"), vec![out]),
        ]
    };
    let norm = |name: &str| {
        [
            (format!("{name}.weight"), vec![WIDTH]),
            (format!("{name}.bias"), vec![WIDTH]),
        ]
    };
    for (stem, clip) in [
        ("dino_vitbase16_pretrain", false),
        ("clip_vitb16_pretrain", true),
        ("open_clip_vitb16_pretrain", true),
    ] {
        let mut shapes = vec![
            ("cls_token".to_owned(), vec![1, 1, WIDTH]),
            ("pos_embed".to_owned(), vec![1, 197, WIDTH]),
            ("patch_embed.proj.weight".to_owned(), vec![WIDTH, 3, 16, 16]),
            ("patch_embed.proj.bias".to_owned(), vec![WIDTH]),
        ];
        shapes.extend(norm("blocks.0.norm1"));
        shapes.extend(linear("blocks.0.attn.qkv", 3 * WIDTH, WIDTH));
        shapes.extend(linear("blocks.0.attn.proj", WIDTH, WIDTH));
        shapes.extend(norm("blocks.0.norm2"));
        shapes.extend(linear("blocks.0.mlp.fc1", 2 * WIDTH, WIDTH));
        shapes.extend(linear("blocks.0.mlp.fc2", WIDTH, 2 * WIDTH));
        shapes.extend(norm("norm"));
        if clip {
            shapes.extend(norm("pos_drop"));
            shapes.push(("proj".to_owned(), vec![WIDTH, EMBED]));
        }
        tensors(folder, &format!("{name}/{stem}.safetensors"), shapes)?;
    }
    let adapter = json!({
        "peft_type": "LORA", "r": 2, "lora_alpha": 1, "bias": "none", "fan_in_fan_out": false,
        "target_modules": ["qkv"],
    });
    folder.json(
        &format!("{name}/ensemble_lora/adapter_config.json"),
        &adapter,
    )?;
    let updates = (0..3).flat_map(|member| {
        let place = format!("base_model.model.extractor_list.{member}.model.blocks.0.attn.qkv");
        [
            (format!("{place}.lora_A.weight"), vec![2, WIDTH]),
            (format!("{place}.lora_B.weight"), vec![3 * WIDTH, 2]),
        ]
    });
    let file = format!("{name}/ensemble_lora/adapter_model.safetensors");
    tensors(folder, &file, updates.collect())
}

fn cropping(class: &str, (resized, cropped): (i64, i64), [mean, std]: [[f64; 3]; 2]) -> Value {
    json!({
        "image_processor_type": class, "do_resize": true, "do_center_crop": true, "do_rescale": true,
        "do_normalize": true, "do_convert_rgb": true, "resample": 3, "rescale_factor": 1.0 / 255.0,
        "size": {"shortest_edge": resized}, "crop_size": {"height": cropped, "width": cropped},
        "image_mean": mean, "image_std": std,
    })
}

/// config.json, the processor's file and the tokenizer, then weights for them.
fn write(
    folder: &ExampleFolder,
    name: &str,
    (config, processor, tokens): (Value, Option<Value>, Option<&ByteTokenizer>),
) -> Result<(), CliFailure> {
    folder.json(&format!("{name}/config.json"), &config)?;
    if let Some(processor) = processor {
        folder.json(&format!("{name}/preprocessor_config.json"), &processor)?;
    }
    if let Some(tokens) = tokens {
        folder.json(&format!("{name}/tokenizer.json"), &tokens.json())?;
        let pad = tokens.special.iter().find(|(text, _)| text.contains("pad"));
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": tokens.end,
            "pad_token": pad.map_or(tokens.end, |(text, _)| text),
        });
        folder.json(&format!("{name}/tokenizer_config.json"), &config)?;
    }
    write_random_encoder(&folder.join(name), folder.seed).map_err(CliFailure::other)
}

fn tensors(
    folder: &ExampleFolder,
    name: &str,
    shapes: Vec<(String, Vec<i64>)>,
) -> Result<(), CliFailure> {
    // The folder is made by writing something there.
    folder.bytes(name, b"")?;
    write_random_tensors(&folder.join(name), &shapes, folder.seed).map_err(CliFailure::other)
}
