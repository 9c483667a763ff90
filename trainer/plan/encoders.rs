//! What the reward encoders of a run hold.

use std::fs;
use std::path::Path;

use rewards::{EncoderConfig, EncoderDtype, EncoderInit};
use serde_json::Value;

/// Bytes of an encoder's weights, and of a pass of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncoderMemory {
    /// Its weights.
    pub weights: i64,
    /// What a pass needs besides.
    pub pass: i64,
}

/// EncoderSizes of a vision transformer.
struct EncoderSizes {
    width: i64,
    inner: i64,
    /// Tokens of a picture.
    tokens: i64,
}

/// Of an encoder that runs on a GPU or not. A network whose config does not say its sizes is taken to need a tenth of
/// its weights for a pass.
pub fn encoder_memory(config: &EncoderConfig, gpu: bool) -> EncoderMemory {
    let half = gpu && config.dtype != EncoderDtype::Float32;
    let width = if half { 2 } else { 4 };
    let (parameters, sizes) = match config.init {
        Some(EncoderInit::Dinov2Base) => (86_600_000, Some(vit(768, 3072, 224, 14))),
        Some(EncoderInit::LongClipLarge) => (427_600_000, Some(vit(1024, 4096, 224, 14))),
        None => (file_bytes(&config.path) / 4, sizes(&config.path)),
    };
    let rows = match (config.batch, gpu) {
        (0, false) => 4,
        (0, true) => 32,
        (rows, _) => rows as i64,
    };
    let weights = width * parameters;
    let of_row = |sizes: EncoderSizes| sizes.tokens * (2 * sizes.inner + 4 * sizes.width);
    EncoderMemory {
        weights,
        pass: sizes.map_or(weights / 10, |sizes| width * rows * of_row(sizes)),
    }
}

fn vit(width: i64, inner: i64, side: i64, patch: i64) -> EncoderSizes {
    EncoderSizes {
        width,
        inner,
        tokens: (side / patch.max(1)).pow(2) + 1,
    }
}

/// Bytes of the files of weights at `path`, a folder or a file; of several formats side by side the largest.
fn file_bytes(path: &Path) -> i64 {
    let size = |path: &Path| fs::metadata(path).map_or(0, |data| data.len() as i64);
    let Ok(entries) = fs::read_dir(path) else {
        return size(path);
    };
    let mut formats = [("safetensors", 0), ("bin", 0), ("pt", 0), ("pth", 0)];
    for entry in entries.flatten() {
        let path = entry.path();
        let ends = path.extension().unwrap_or_default();
        for (format, bytes) in &mut formats {
            if ends == *format {
                *bytes += size(&path);
            }
        }
    }
    formats.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0)
}

fn sizes(path: &Path) -> Option<EncoderSizes> {
    let read = |name: &str| -> Option<Value> {
        let text = fs::read_to_string(path.join(name)).ok()?;
        serde_json::from_str(&text).ok()
    };
    let whole = read("config.json")?;
    let own = whole.get("vision_config").unwrap_or(&whole);
    let number = |key: &str| own.get(key).and_then(Value::as_i64);
    let width = number("hidden_size")?;
    let inner = number("intermediate_size").or_else(|| {
        let ratio = own.get("mlp_ratio").and_then(Value::as_f64)?;
        Some((ratio * width as f64) as i64)
    })?;
    let crop = read("preprocessor_config.json").and_then(|processor| {
        let crop = processor.get("crop_size")?;
        crop.as_i64().or_else(|| crop.get("height")?.as_i64())
    });
    let side = crop.or_else(|| number("image_size"))?;
    Some(vit(width, inner, side, number("patch_size")?))
}
