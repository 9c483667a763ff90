//! How a task's SVG is rendered: the `render` section of a task and its limits.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// How an SVG becomes a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RenderConfig {
    /// Which canvas a prediction is drawn on.
    pub canvas: CanvasRule,
    /// Pixels, 1 to `limits.max_side`: the longer side with `reference`, both sides with `fixed`, the cap of the longer side with `intrinsic`.
    pub size: u32,
    /// What lies behind the picture: `white`, `none` (transparent) or `#rrggbb`.
    pub background: Background,
    /// Whether malformed XML is refused or repaired first.
    pub mode: ParseMode,
    /// Whether text may use the fonts of the machine besides the bundled ones; results then differ between machines.
    pub system_fonts: bool,
    /// What an SVG may ask for before it is refused.
    pub limits: Limits,
}

impl Default for RenderConfig {
    fn default() -> Self {
        RenderConfig {
            canvas: CanvasRule::Reference,
            size: 224,
            background: Background::White,
            mode: ParseMode::Strict,
            system_fonts: false,
            limits: Limits::default(),
        }
    }
}

impl RenderConfig {
    /// The first value out of bounds, as `key: rule, got value`.
    pub fn validate(&self) -> Result<(), String> {
        let max = self.limits.max_side;
        if self.size < 1 || self.size > max {
            return Err(format!(
                "size: must be from 1 to limits.max_side = {max}, got {}",
                self.size
            ));
        }
        if !(1..=16_384).contains(&max) {
            return Err(format!(
                "limits.max_side: must be from 1 to 16384, got {max}"
            ));
        }
        if !(1..=512).contains(&self.limits.max_depth) {
            return Err(format!(
                "limits.max_depth: must be from 1 to 512, got {}",
                self.limits.max_depth
            ));
        }
        Ok(())
    }
}

/// Which canvas a prediction is drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CanvasRule {
    /// The reference's canvas: its aspect ratio, its longer side `size` pixels; a prediction cannot choose its own.
    Reference,
    /// A square of `size` pixels for both.
    Fixed,
    /// The SVG's own width and height, shrunk so that the longer side is at most `size`.
    Intrinsic,
}

/// Whether malformed XML is refused or repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParseMode {
    /// Malformed XML does not render.
    Strict,
    /// Repairs what a recovering parser repairs: open elements are closed, a broken last tag or attribute is dropped.
    Recover,
}

/// What lies behind the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Background {
    /// Opaque white.
    White,
    /// Transparent.
    None,
    /// Red, green, blue.
    Colour([u8; 3]),
}

impl Background {
    /// Its colour, or nothing when transparent.
    pub fn rgb(self) -> Option<[u8; 3]> {
        match self {
            Background::White => Some([255; 3]),
            Background::None => None,
            Background::Colour(rgb) => Some(rgb),
        }
    }
}

impl std::str::FromStr for Background {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |s: &str| {
            let value = u32::from_str_radix(s, 16).ok()?;
            let is_hex = s.len() == 6 && s.bytes().all(|b| b.is_ascii_hexdigit());
            is_hex.then_some([(value >> 16) as u8, (value >> 8) as u8, value as u8])
        };
        match text {
            "white" => Ok(Background::White),
            "none" => Ok(Background::None),
            _ => text
                .strip_prefix('#')
                .and_then(hex)
                .map(Background::Colour)
                .ok_or_else(|| format!("must be white, none or #rrggbb, got {text:?}")),
        }
    }
}

impl std::fmt::Display for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Background::White => f.write_str("white"),
            Background::None => f.write_str("none"),
            Background::Colour([r, g, b]) => write!(f, "#{r:02x}{g:02x}{b:02x}"),
        }
    }
}

impl Serialize for Background {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Background {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl JsonSchema for Background {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Background".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^(white|none|#[0-9a-fA-F]{6})$"})
    }
}

/// What an SVG may ask for before it is refused with a reason. Counts are taken after `use` is expanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of source.
    pub max_bytes: usize,
    /// Elements.
    pub max_elements: u64,
    /// Nesting depth, 1 to 512.
    pub max_depth: u32,
    /// Bytes of path and point data.
    pub max_path_bytes: u64,
    /// Off-screen layers: opacity, clips, masks, blending.
    pub max_layers: u64,
    /// Filter primitives, each weighted by the radius it is given.
    pub max_filter_work: u64,
    /// Style rules times elements.
    pub max_style_work: u64,
    /// Pixels on the longer side of any canvas, 1 to 16384.
    pub max_side: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_bytes: 1 << 18,
            max_elements: 20_000,
            max_depth: 128,
            max_path_bytes: 1 << 20,
            max_layers: 2_000,
            max_filter_work: 2_000,
            max_style_work: 2_000_000,
            max_side: 4096,
        }
    }
}
