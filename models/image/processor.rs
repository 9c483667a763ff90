//! From a decoded picture to what a vision tower takes: resized, cut, in the tower's order, and
//! the text and places of its tokens.
//!
//! Follows the Hugging Face processors with the PIL backend: equal pixels before normalisation.
//! Their torchvision backend differs by a level or two, at sharp edges by up to 24.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use svg::Filter;
use tch::{Device, Kind, Tensor};

use super::ImageBounds;
use super::patches::Patches;
use super::patchify::{Patchify, TileSize, intern_tiles, qwen_patches};
use super::picture::ProcessedPicture;
use super::placeholders::{INTERN, INTERN_CHAT, Placeholders, QWEN};
use super::prompt::{PromptImages, PromptLayout};
use super::rgb8::Rgb8;
use crate::ModelError;
use crate::input::ImagePositions;
use crate::json_section::{Keys, read_object};

/// The families of towers, as far as pictures are cut differently for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TowerFamily {
    /// Patches of the whole picture.
    Qwen,
    /// Tiles of one size.
    InternVl {
        /// Side of a tile, in pixels.
        side: i64,
        /// Whether it is the layout as first published.
        chat: bool,
    },
}

/// What a processor must know of the tower behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TowerInput {
    /// Its family.
    pub(crate) family: TowerFamily,
    /// Side of a patch, in pixels.
    pub(crate) patch_size: i64,
    /// Patches along each side that become one token.
    pub(crate) merge: i64,
    /// The id that stands for a piece of a picture.
    pub(crate) image_token: i64,
}

/// A picture processor.
#[derive(Debug, Clone, PartialEq)]
pub struct Processor {
    /// How pictures are cut.
    pub patchify: Patchify,
    filter: Filter,
    /// Mean and deviation of each channel.
    normal: [(f32, f32); 3],
    /// Factor before them.
    rescale: f64,
    placeholders: Placeholders,
    layout: PromptLayout,
    /// preprocessor_config.json as it was read, for export; `None` where it stands elsewhere.
    source: Option<Map<String, Value>>,
}

const CLIP: ([f64; 3], [f64; 3]) = (
    [0.481_454_66, 0.457_827_5, 0.408_210_73],
    [0.268_629_54, 0.261_302_58, 0.275_777_11],
);
const IMAGENET: ([f64; 3], [f64; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

impl Processor {
    /// Reads preprocessor_config.json of `folder` (or the section of processor_config.json) for
    /// `tower`; what is not there is the family's default. `whole` is config.json.
    ///
    /// # Errors
    /// A key that asks for another processing, by name.
    pub(crate) fn read(folder: &Path, tower: TowerInput, whole: &Keys) -> Result<Self, ModelError> {
        let path = folder.join("preprocessor_config.json");
        let joint = folder.join("processor_config.json");
        let (path, map, own) = if path.exists() {
            let map = read_object(&path)?;
            (path, map, true)
        } else if joint.exists() {
            match read_object(&joint)?.remove("image_processor") {
                Some(Value::Object(map)) => (joint, map, false),
                _ => (joint, Map::new(), false),
            }
        } else {
            (path, Map::new(), false)
        };
        let keys = Keys {
            path: &path,
            map: &map,
        };
        let mut processor = Self::from_keys(&keys, tower, whole)?;
        processor.source = own.then(|| map.clone());
        Ok(processor)
    }

    /// The defaults for `tower`.
    pub(crate) fn fresh(tower: TowerInput) -> Result<Self, ModelError> {
        let (path, map) = (Path::new("model.init"), Map::new());
        let keys = Keys { path, map: &map };
        Self::from_keys(&keys, tower, &keys)
    }

    /// A processor of `patchify` with CLIP's normalisation and no tokens: for measuring.
    pub fn plain(patchify: Patchify) -> Self {
        let (mean, std) = CLIP;
        Self {
            patchify,
            filter: Filter::Bicubic,
            normal: [0, 1, 2].map(|channel| (mean[channel] as f32, std[channel] as f32)),
            rescale: 1.0 / 255.0,
            placeholders: QWEN,
            layout: PromptLayout {
                image_token: -1,
                merge: match patchify {
                    Patchify::Patches(patches) => Some(patches.merge),
                    Patchify::Tiles(_) => None,
                },
            },
            source: None,
        }
    }

    fn from_keys(keys: &Keys, tower: TowerInput, whole: &Keys) -> Result<Self, ModelError> {
        for key in ["do_resize", "do_rescale", "do_normalize"] {
            if !keys.flag(key, true)? {
                return Err(keys.bad(key, "must be true"));
            }
        }
        let filter = match keys.value("resample").and_then(Value::as_i64) {
            None | Some(3) => Filter::Bicubic,
            Some(2) => Filter::Bilinear,
            Some(other) => {
                return Err(keys.bad(
                    "resample",
                    format!("must be 3 (bicubic) or 2 (bilinear), got {other}"),
                ));
            }
        };
        let (patchify, placeholders, (mean, std)) = match tower.family {
            TowerFamily::InternVl { side, chat } => {
                let across = side / tower.patch_size / tower.merge;
                let tiles = intern_tiles(keys, whole, TileSize { side, across })?;
                match chat {
                    true => (Patchify::Tiles(tiles), INTERN_CHAT, IMAGENET),
                    false => (Patchify::Tiles(tiles), INTERN, CLIP),
                }
            }
            TowerFamily::Qwen => {
                let patches = qwen_patches(keys, tower.patch_size, tower.merge)?;
                (Patchify::Patches(patches), QWEN, CLIP)
            }
        };
        let (mean, std) = (
            three(keys, "image_mean", mean)?,
            three(keys, "image_std", std)?,
        );
        if std.iter().any(|deviation| *deviation <= 0.0) {
            return Err(keys.bad("image_std", format!("must be above 0, got {std:?}")));
        }
        Ok(Self {
            patchify,
            filter,
            normal: [0, 1, 2].map(|channel| (mean[channel] as f32, std[channel] as f32)),
            rescale: keys.float("rescale_factor", 1.0 / 255.0)?,
            placeholders,
            layout: PromptLayout {
                image_token: tower.image_token,
                merge: match tower.family {
                    TowerFamily::Qwen => Some(tower.merge),
                    TowerFamily::InternVl { .. } => None,
                },
            },
            source: None,
        })
    }

    /// Narrows the area of pictures (Qwen-VL) or the number of tiles (InternVL). What is exported says the
    /// new area, so that others see pictures as the policy learnt to.
    ///
    /// # Errors
    /// A bound that this family does not have, or bounds that exclude each other.
    pub fn bound(&mut self, bounds: &ImageBounds) -> Result<(), String> {
        match &mut self.patchify {
            Patchify::Patches(Patches {
                min_pixels,
                max_pixels,
                ..
            }) => {
                if bounds.max_tiles.is_some() {
                    return Err("max_tiles: this model takes no tiles; set max_pixels".into());
                }
                *min_pixels = bounds.min_pixels.unwrap_or(*min_pixels);
                *max_pixels = bounds.max_pixels.unwrap_or(*max_pixels);
                if !(1..=*max_pixels).contains(min_pixels) {
                    return Err(format!(
                        "min_pixels: must be from 1 to max_pixels {max_pixels}, got {min_pixels}"
                    ));
                }
                if let Some(source) = &mut self.source {
                    write_area(source, (*min_pixels, *max_pixels));
                }
            }
            Patchify::Tiles(tiles) => {
                if bounds.min_pixels.or(bounds.max_pixels).is_some() {
                    return Err("max_pixels: this model takes tiles; set max_tiles".into());
                }
                let most = bounds.max_tiles.unwrap_or(tiles.most);
                if most < 1 {
                    return Err(format!("max_tiles: must be >= 1, got {most}"));
                }
                (tiles.least, tiles.most) = (tiles.least.min(most), most);
            }
        }
        Ok(())
    }

    /// preprocessor_config.json for export.
    pub(crate) fn export(&self) -> Option<Value> {
        if let Some(source) = &self.source {
            return Some(Value::Object(source.clone()));
        }
        let Patchify::Patches(Patches {
            patch,
            merge,
            min_pixels,
            max_pixels,
        }) = self.patchify
        else {
            return None;
        };
        Some(serde_json::json!({
            "image_processor_type": "Qwen2VLImageProcessor",
            "patch_size": patch, "merge_size": merge, "temporal_patch_size": 2,
            "size": {"shortest_edge": min_pixels, "longest_edge": max_pixels},
            "image_mean": self.normal.map(|(mean, _)| mean),
            "image_std": self.normal.map(|(_, std)| std),
            "do_resize": true, "do_rescale": true, "do_normalize": true, "do_convert_rgb": true,
            "rescale_factor": self.rescale, "resample": 3,
        }))
    }

    /// Cuts a picture.
    ///
    /// # Errors
    /// A picture more than 200 times as long as wide.
    pub fn picture(&self, rgb: &Rgb8) -> Result<ProcessedPicture, ModelError> {
        self.patchify.apply(rgb, self.filter)
    }

    /// The normalised numbers of `pictures`, `[rows, D]`; patches twice, once for each of the two
    /// frames that a still picture stands for.
    pub fn tensor(&self, pictures: &[&ProcessedPicture], (kind, device): (Kind, Device)) -> Tensor {
        let tables = self.normal.map(|(mean, std)| {
            let level = |level: u8| ((f64::from(level) * self.rescale) as f32 - mean) / std;
            std::array::from_fn::<f32, 256, _>(|at| level(at as u8))
        });
        let (side, frames) = match self.patchify {
            Patchify::Patches(patches) => (patches.patch as usize, 2),
            Patchify::Tiles(tiles) => (tiles.side as usize, 1),
        };
        let count = pictures.iter().map(|one| one.pixels.len()).sum();
        let mut numbers = Vec::with_capacity(count);
        let planes = pictures
            .iter()
            .flat_map(|one| one.pixels.chunks_exact(side * side));
        for (index, plane) in planes.enumerate() {
            let table = &tables[index % 3];
            numbers.extend(plane.iter().map(|level| table[usize::from(*level)]));
        }
        let (rows, area) = ((count / (3 * side * side)) as i64, (side * side) as i64);
        Tensor::from_slice(&numbers)
            .view([rows, 3, 1, area])
            .expand([rows, 3, frames, area], false)
            .reshape([rows, 3 * frames * area])
            .to_kind(kind)
            .to_device(device)
    }

    /// What stands for a picture in a prompt that no chat template places it in.
    pub fn mark(&self) -> &'static str {
        self.placeholders.alone
    }

    /// What a chat template that knows no pictures is given for one.
    pub fn writes_placeholders(&self) -> bool {
        self.placeholders.placeholder == INTERN_CHAT.placeholder
    }

    /// `text` with the placeholder of each picture repeated for its `tokens`.
    ///
    /// # Errors
    /// More or fewer placeholders than pictures.
    pub fn expand(&self, text: &str, tokens: &[i64]) -> Result<String, String> {
        let placeholder = self.placeholders.placeholder;
        self.placeholders.expand(text, placeholder, tokens)
    }

    /// [`Self::expand`] where `place` stands for the placeholder: words may hold the placeholder's own.
    ///
    /// # Errors
    /// More or fewer places than pictures.
    pub fn expand_at(&self, place: &str, text: &str, tokens: &[i64]) -> Result<String, String> {
        self.placeholders.expand(text, place, tokens)
    }

    /// The placeholder of a picture in text.
    pub fn placeholder(&self) -> &'static str {
        self.placeholders.placeholder
    }

    /// The pictures of a prompt in their places among its `ids`, image tokens expanded; `None`
    /// without pictures.
    ///
    /// # Errors
    /// Tokens that do not fit the pictures.
    pub fn prompt_images(
        &self,
        ids: &[i64],
        pictures: Vec<ProcessedPicture>,
    ) -> Result<Option<Arc<PromptImages>>, String> {
        let positions = self.image_positions(ids, &pictures)?;
        Ok((!pictures.is_empty()).then(|| {
            Arc::new(PromptImages {
                pictures,
                positions,
            })
        }))
    }

    /// Where `pictures` are among `ids`, whose image tokens stand expanded.
    ///
    /// # Errors
    /// A picture whose tokens are not all there, or tokens of none.
    pub fn image_positions(
        &self,
        ids: &[i64],
        pictures: &[ProcessedPicture],
    ) -> Result<ImagePositions, String> {
        self.layout.image_positions(ids, pictures)
    }
}

fn three(keys: &Keys, key: &str, default: [f64; 3]) -> Result<[f64; 3], ModelError> {
    let Some(value) = keys.value(key) else {
        return Ok(default);
    };
    let numbers: Option<Vec<f64>> = value
        .as_array()
        .and_then(|items| items.iter().map(Value::as_f64).collect());
    numbers
        .and_then(|numbers| <[f64; 3]>::try_from(numbers).ok())
        .ok_or_else(|| keys.bad(key, format!("must be three numbers, got {value}")))
}

/// Puts the bounds of the area in both places where preprocessor_config.json may have them.
fn write_area(source: &mut Map<String, Value>, (least, most): (i64, i64)) {
    for (key, pixels) in [("min_pixels", least), ("max_pixels", most)] {
        if source.get(key).is_some_and(Value::is_number) {
            source.insert(key.into(), pixels.into());
        }
    }
    let size = source
        .entry("size")
        .or_insert_with(|| Value::Object(Map::new()));
    if !size.is_object() {
        *size = Value::Object(Map::new());
    }
    if let Some(size) = size.as_object_mut() {
        size.insert("shortest_edge".into(), least.into());
        size.insert("longest_edge".into(), most.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrower_bounds_are_exported_where_the_file_had_them() {
        let written = |text: &str| {
            let mut source = serde_json::from_str(text).unwrap();
            write_area(&mut source, (784, 3136));
            Value::Object(source)
        };
        assert_eq!(
            written(r#"{"size": {"longest_edge": 9, "shortest_edge": 4}, "min_pixels": null}"#),
            serde_json::json!({"size": {"longest_edge": 3136, "shortest_edge": 784}, "min_pixels": null})
        );
        assert_eq!(
            written(r#"{"min_pixels": 4, "max_pixels": 9}"#),
            serde_json::json!({"min_pixels": 784, "max_pixels": 3136, "size": {"shortest_edge": 784, "longest_edge": 3136}})
        );
    }
}
