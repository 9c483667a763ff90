//! How a picture is cut for a tower, and what configuration files say of it.

use serde_json::{Map, Value};
use svg::Filter;

use super::patches::Patches;
use super::picture::ProcessedPicture;
use super::rgb8::Rgb8;
use super::tiles::Tiles;
use crate::ModelError;
use crate::json_section::Keys;

/// How pictures are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patchify {
    /// Qwen-VL.
    Patches(Patches),
    /// InternVL.
    Tiles(Tiles),
}

impl Patchify {
    /// Resizes a picture with `filter` and cuts it.
    ///
    /// # Errors
    /// A picture more than 200 times as long as wide, for patches.
    pub fn apply(&self, rgb: &Rgb8, filter: Filter) -> Result<ProcessedPicture, ModelError> {
        match self {
            Self::Patches(patches) => patches.cut(rgb, filter),
            Self::Tiles(tiles) => Ok(tiles.cut(rgb, filter)),
        }
    }

    /// The resized picture that [`Self::apply`] cut; `None` where it was cut into tiles.
    pub fn whole(&self, picture: &ProcessedPicture) -> Option<Rgb8> {
        match self {
            Self::Patches(patches) => Some(patches.whole(picture)),
            Self::Tiles(_) => None,
        }
    }

    /// Image tokens of a picture of `(width, height)` pixels.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn tokens(&self, size: (usize, usize)) -> Result<i64, ModelError> {
        match self {
            Self::Patches(patches) => patches.tokens(size),
            Self::Tiles(tiles) => Ok(tiles.tokens * tiles.grid(size).tiles),
        }
    }
}

/// What `keys` of the processor say for a tower of such patches.
pub(super) fn qwen_patches(keys: &Keys, patch: i64, merge: i64) -> Result<Patches, ModelError> {
    for (key, value) in [
        ("patch_size", patch),
        ("merge_size", merge),
        ("temporal_patch_size", 2),
    ] {
        if keys.int(key)?.is_some_and(|got| got != value) {
            return Err(keys.bad(key, format!("must be the vision tower's {value}")));
        }
    }
    let empty = Map::new();
    let size = Keys {
        path: keys.path,
        map: keys
            .value("size")
            .and_then(Value::as_object)
            .unwrap_or(&empty),
    };
    let bound = |old: &str, new: &str, default: i64| -> Result<i64, ModelError> {
        Ok(match (keys.int(old)?, size.int(new)?) {
            (Some(pixels), _) | (None, Some(pixels)) => pixels,
            (None, None) => default,
        })
    };
    let least = bound("min_pixels", "shortest_edge", 56 * 56)?;
    let most = bound("max_pixels", "longest_edge", 28 * 28 * 1280)?;
    if least > most {
        return Err(keys.bad(
            "min_pixels",
            format!("must not exceed max_pixels {most}, got {least}"),
        ));
    }
    Ok(Patches {
        patch,
        merge,
        min_pixels: least,
        max_pixels: most,
    })
}

/// The tiles of a tower.
pub(super) struct TileSize {
    /// Side of a tile, in pixels.
    pub(super) side: i64,
    /// Tokens along a side.
    pub(super) across: i64,
}

/// What `keys` of the processor and `whole`, config.json, say of the number of tiles.
pub(super) fn intern_tiles(keys: &Keys, whole: &Keys, tile: TileSize) -> Result<Tiles, ModelError> {
    let TileSize { side, across } = tile;
    if let Some(size) = keys.value("size").and_then(Value::as_object) {
        for key in ["height", "width"] {
            if size
                .get(key)
                .and_then(Value::as_i64)
                .is_some_and(|got| got != side)
            {
                return Err(keys.bad("size", format!("{key} must be the vision tower's {side}")));
            }
        }
    }
    let dynamic = whole.flag("dynamic_image_size", true)?;
    let most = match whole.int("max_dynamic_patch")? {
        Some(most) => most,
        None => keys.int("max_patches")?.unwrap_or(12),
    };
    let least = match whole.int("min_dynamic_patch")? {
        Some(least) => least,
        None => keys.int("min_patches")?.unwrap_or(1),
    };
    let (least, most) = match dynamic {
        true => (least.min(most), most),
        false => (1, 1),
    };
    Ok(Tiles {
        side,
        tokens: across * across,
        least,
        most,
        thumbnail: whole.flag("use_thumbnail", true)?,
    })
}
