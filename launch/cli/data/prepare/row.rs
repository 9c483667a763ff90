//! One row of a corpus: normalised, drawn before and after, compared and measured.

use models::Tokenizer;
use rewards::rules::Ssim;
use rollout::data::{Readable, RecordRow, readable};
use serde_json::{Map, Value};
use svg::{Background, NormaliseOptions, Raster, RenderConfig, Renderer, Target, normalise};

use super::perceptual_hash::{PerceptualHash, colour_entropy, is_blank};

/// Side of the pictures that are compared, pixels.
const SIDE: u32 = 256;
/// Keys that the format `jsonl` reads by name; blank ones would be refused there.
const CONVENTIONAL: [&str; 5] = ["prompt", "draft", "text", "image", "target"];

/// What is asked of every row.
pub struct Rules<'a> {
    pub renderer: &'a Renderer,
    pub tokenizer: Option<&'a Tokenizer>,
    pub form: NormaliseOptions,
    /// Keys that hold the SVG and the prompt.
    pub fields: (&'a str, &'a str),
    pub min_ssim: f64,
    pub min_entropy: f64,
    /// Longer side of the picture that goes with the row, if one does.
    pub pictures: Option<u32>,
    /// Tokens of the SVG, least and most.
    pub tokens: (usize, usize),
}

/// A row that passed.
pub struct Accepted {
    pub row: Value,
    pub svg: String,
    pub hash: PerceptualHash,
    pub ssim: f64,
    pub tokens: Option<usize>,
    /// Characters and bytes of the source.
    pub before: (usize, usize),
    /// Why its coordinates were not taken in, if so.
    pub kept: Option<String>,
    pub asks: bool,
    /// Its drawing, a PNG, where rows get one.
    pub png: Option<Vec<u8>>,
}

/// Why a row is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// A snake-case name.
    pub reason: String,
    pub detail: String,
}

impl Rejection {
    pub fn new(reason: &str, detail: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            detail: detail.into(),
        }
    }
}

impl Rules<'_> {
    /// Judges one row.
    pub fn judge(&self, row: RecordRow) -> Result<Accepted, Rejection> {
        let value = row
            .value
            .map_err(|problem| Rejection::new("bad_row", problem))?;
        let Value::Object(fields) = value else {
            return Err(Rejection::new("bad_row", "a row is a JSON object"));
        };
        let key = self.fields.0;
        let source = match fields.get(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
            Some(Value::String(_)) => {
                return Err(Rejection::new("bad_row", format!("key `{key}` is empty")));
            }
            None | Some(Value::Null) => {
                return Err(Rejection::new("bad_row", format!("key `{key}` is missing")));
            }
            Some(_) => {
                return Err(Rejection::new(
                    "bad_row",
                    format!("key `{key}` must be a string"),
                ));
            }
        };
        let source = source.trim_start_matches('\u{feff}').trim();
        let before = self.draw(source, "")?;
        if is_blank(&before) {
            return Err(Rejection::new("blank", "every pixel is the same"));
        }
        let config = RenderConfig::default();
        let form = normalise(source, &self.form, &config.limits)
            .map_err(|error| Rejection::new(error.name(), error.to_string()))?;
        let after = self.draw(&form.svg, "after normalising: ")?;
        let ssim = similarity(&before, &after);
        if ssim < self.min_ssim {
            let detail = format!("SSIM {ssim:.4}: at least {}", self.min_ssim);
            return Err(Rejection::new("looks_different", detail));
        }
        let entropy = colour_entropy(&after);
        if entropy < self.min_entropy {
            let detail = format!("{entropy:.3} bits: at least {}", self.min_entropy);
            return Err(Rejection::new("colour_entropy", detail));
        }
        let tokens = self.tokenizer.map(|t| t.encode(&form.svg).len());
        let (least, most) = self.tokens;
        match tokens {
            Some(count) if count < least => {
                let detail = format!("{count} tokens: at least {least}");
                return Err(Rejection::new("too_short", detail));
            }
            Some(count) if count > most => {
                let detail = format!("{count} tokens: at most {most}");
                return Err(Rejection::new("too_long", detail));
            }
            _ => {}
        }
        let png = self.pictures.map(|side| self.picture(&form.svg, side));
        let png = png.transpose()?;
        let shown = fields.get("images").or_else(|| fields.get("image"));
        if png.is_some() && shown.is_some_and(|shown| !shown.is_null()) {
            let detail = "--pictures: the row has pictures of its own";
            return Err(Rejection::new("bad_row", detail));
        }
        let written = self.rewritten(fields, &form.svg, &row.default_id)?;
        let asks = match readable(&written) {
            Readable::Yes => true,
            Readable::NothingAsked => png.is_some(),
            Readable::No(problem) => return Err(Rejection::new("bad_row", problem)),
        };
        Ok(Accepted {
            row: written,
            hash: PerceptualHash::of(&after),
            ssim,
            tokens,
            before: (source.chars().count(), source.len()),
            kept: form.kept,
            asks,
            png,
            svg: form.svg,
        })
    }

    fn draw(&self, source: &str, when: &str) -> Result<Raster, Rejection> {
        let config = RenderConfig {
            background: Background::None,
            ..RenderConfig::default()
        };
        let target = Target::Exact {
            width: SIDE,
            height: SIDE,
        };
        let drawn = self.renderer.render(source, target, &config);
        drawn.map(|rendered| rendered.raster).map_err(|failure| {
            Rejection::new(failure.reason.as_str(), format!("{when}{}", failure.detail))
        })
    }

    /// The drawing that a prompt shows.
    fn picture(&self, svg: &str, side: u32) -> Result<Vec<u8>, Rejection> {
        let config = RenderConfig::default();
        let drawn = self.renderer.render(svg, Target::Longest(side), &config);
        let drawn = drawn
            .map_err(|failure| Rejection::new(failure.reason.as_str(), failure.detail.clone()))?;
        let png = drawn.raster.to_png();
        png.map_err(|error| Rejection::new("blank", error.to_string()))
    }

    /// The row under the names that the format `jsonl` knows, with everything else as it was.
    fn rewritten(
        &self,
        fields: Map<String, Value>,
        svg: &str,
        default_id: &str,
    ) -> Result<Value, Rejection> {
        let mut row = Map::new();
        if !fields.contains_key("id") {
            row.insert("id".into(), default_id.into());
        }
        let names = [(self.fields.0, "svg"), (self.fields.1, "prompt")];
        for (theirs, ours) in names {
            if theirs != ours && fields.contains_key(theirs) && fields.contains_key(ours) {
                let detail =
                    format!("both `{theirs}` and `{ours}` are there: which is the {ours}?");
                return Err(Rejection::new("bad_row", detail));
            }
        }
        for (name, value) in fields {
            let known = names.iter().find(|(theirs, _)| *theirs == name);
            let name = known.map_or(name.as_str(), |(_, ours)| ours);
            let blank = match &value {
                Value::Null => true,
                Value::String(text) => text.trim().is_empty(),
                _ => false,
            };
            match name {
                "svg" => drop(row.insert("svg".into(), svg.into())),
                name if blank && CONVENTIONAL.contains(&name) => {}
                name => drop(row.insert(name.to_owned(), value)),
            }
        }
        Ok(Value::Object(row))
    }
}

/// The lesser of the structural similarities over white and over black: what is white, or lets the
/// ground through, is seen over one of them.
fn similarity(a: &Raster, b: &Raster) -> f64 {
    if a == b {
        return 1.0;
    }
    let ssim = Ssim::default();
    let over = |ground: u8| ssim.between(a, b, [ground; 3]);
    over(255).min(over(0))
}
