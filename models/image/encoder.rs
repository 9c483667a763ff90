//! What an image encoder's processor does with a picture: resize, centre crop, rescale, normalise, as
//! the PIL processors of transformers do them (preprocessor_config.json), or as torchvision does
//! for the networks that are published with a transform instead.
//!
//! The first half ([`ImageProcessor::fit`]) stays in bytes and may run on any thread; the second makes
//! the tensor.

use std::path::Path;

use serde_json::{Map, Value};
use svg::Filter;
use tch::{Device, Kind, Tensor};

use super::rgb8::Rgb8;
use crate::ModelError;
use crate::json_section::read_object;

/// ImageNet's channel means and deviations.
pub(crate) const IMAGENET: [[f64; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
/// Those of OpenAI's CLIP.
pub(crate) const CLIP: [[f64; 3]; 2] = [
    [0.481_454_66, 0.457_827_5, 0.408_210_73],
    [0.268_629_54, 0.261_302_58, 0.275_777_11],
];
/// Half and half: to -1..1.
pub(crate) const HALF: [[f64; 3]; 2] = [[0.5; 3]; 2];

/// How a picture is brought to size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Left as it is.
    Keep,
    /// The shorter side becomes this long, the longer one follows, rounded down.
    Shortest(usize),
    /// Exactly width and height.
    Exact(usize, usize),
}

/// Where an odd rest goes in a centre crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Centre {
    /// `(side - crop) / 2` rounded down: transformers.
    Floor,
    /// Rounded to the nearest, a half to the even one: torchvision.
    HalfEven,
}

/// A processor's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageProcessor {
    pub(crate) resize: Resize,
    pub(crate) filter: Filter,
    /// Width and height.
    pub(crate) crop: Option<(usize, usize)>,
    pub(crate) centre: Centre,
    /// Factor of the bytes, 1/255 as a rule.
    pub(crate) rescale: f64,
    /// Channel means and deviations.
    pub(crate) normalise: Option<[[f64; 3]; 2]>,
    /// The shortest side that the network takes.
    pub(crate) least: usize,
}

/// The longest side a picture may have after resizing; one of extreme shape would need more memory
/// than any reward is worth.
const MAX_SIDE: usize = 16_384;

impl ImageProcessor {
    /// One that resizes to a square by `filter` and normalises.
    pub(crate) fn square(side: usize, filter: Filter, normalise: Option<[[f64; 3]; 2]>) -> Self {
        Self {
            resize: Resize::Exact(side, side),
            filter,
            crop: None,
            centre: Centre::Floor,
            rescale: 1.0 / 255.0,
            normalise,
            least: 1,
        }
    }

    /// One that resizes the shorter side to `side` and cuts out the middle `crop`.
    pub(crate) fn cropping(side: usize, crop: usize, normalise: [[f64; 3]; 2]) -> Self {
        Self {
            resize: Resize::Shortest(side),
            filter: Filter::Bicubic,
            crop: Some((crop, crop)),
            centre: Centre::Floor,
            rescale: 1.0 / 255.0,
            normalise: Some(normalise),
            least: 1,
        }
    }

    /// The same output by torchvision's `Resize(side)`, bilinear, and `CenterCrop(side)`.
    ///
    /// # Errors
    /// [`ModelError::Image`] where the output is not a square.
    pub(crate) fn as_torchvision(&self) -> Result<Self, ModelError> {
        match self.output() {
            Some((width, height)) if width == height => Ok(Self {
                resize: Resize::Shortest(width),
                filter: Filter::Bilinear,
                crop: Some((width, height)),
                centre: Centre::HalfEven,
                ..self.clone()
            }),
            got => Err(ModelError::Image(format!(
                "torchvision's transform needs pictures of a square, the processor gives {got:?}"
            ))),
        }
    }

    /// Reads preprocessor_config.json (or what processor_config.json says of images) of `folder`; keys
    /// that are absent are as in `default`, which is all where there is neither file.
    ///
    /// # Errors
    /// A malformed file, and settings that are not built, by key.
    pub(crate) fn read(folder: Option<&Path>, default: Self) -> Result<Self, ModelError> {
        let Some(folder) = folder else {
            return Ok(default);
        };
        let own = folder.join("preprocessor_config.json");
        if own.exists() {
            return default.with(&own, &read_object(&own)?);
        }
        let shared = folder.join("processor_config.json");
        if shared.exists()
            && let Some(Value::Object(map)) = read_object(&shared)?.get("image_processor")
        {
            return default.with(&shared, map);
        }
        Ok(default)
    }

    fn with(mut self, path: &Path, map: &Map<String, Value>) -> Result<Self, ModelError> {
        let bad = |key: &str, reason: String| ModelError::unsupported(path, key, reason);
        let value = |key: &str| map.get(key).filter(|value| !value.is_null());
        let on = |key: &str| match value(key) {
            None => Ok(true),
            Some(Value::Bool(on)) => Ok(*on),
            Some(other) => Err(bad(key, format!("must be true or false, got {other}"))),
        };
        let pixels =
            |value: Option<&Value>| value.and_then(Value::as_u64).map(|side| side as usize);
        let sides = |size: &Value| -> Option<(usize, usize)> {
            match size {
                Value::Number(side) => side.as_u64().map(|side| (side as usize, side as usize)),
                size => Some((pixels(size.get("width"))?, pixels(size.get("height"))?)),
            }
        };
        if let Some(size) = value("size") {
            let shortest = match size {
                // The older layout: a number is the shorter side where a crop follows.
                Value::Number(_) if map.contains_key("crop_size") => pixels(Some(size)),
                size => pixels(size.get("shortest_edge")),
            };
            self.resize = match (shortest, size.get("longest_edge"), sides(size)) {
                (Some(side), None, _) => Resize::Shortest(side),
                (None, None, Some((width, height))) => Resize::Exact(width, height),
                _ => {
                    return Err(bad(
                        "size",
                        format!("must be {{shortest_edge}} or {{height, width}}, got {size}"),
                    ));
                }
            };
        }
        if !on("do_resize")? {
            self.resize = Resize::Keep;
        }
        if let Some(filter) = value("resample") {
            self.filter = match filter.as_u64() {
                Some(2) => Filter::Bilinear,
                Some(3) => Filter::Bicubic,
                _ => {
                    return Err(bad(
                        "resample",
                        format!("must be 2 (bilinear) or 3 (bicubic), got {filter}"),
                    ));
                }
            };
        }
        if let Some(crop) = value("crop_size") {
            let crop = sides(crop).ok_or_else(|| {
                bad(
                    "crop_size",
                    format!("must be {{height, width}}, got {crop}"),
                )
            })?;
            self.crop = Some(crop);
        }
        if !on("do_center_crop")? {
            self.crop = None;
        }
        if let Some(factor) = value("rescale_factor") {
            self.rescale = factor
                .as_f64()
                .ok_or_else(|| bad("rescale_factor", format!("must be a number, got {factor}")))?;
        }
        if !on("do_rescale")? {
            self.rescale = 1.0;
        }
        let mut moments = self.normalise.unwrap_or(HALF);
        for (key, own) in ["image_mean", "image_std"].into_iter().zip(&mut moments) {
            if let Some(list) = value(key) {
                let numbers: Vec<f64> = list
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_f64)
                    .collect();
                let three: [f64; 3] = numbers
                    .try_into()
                    .map_err(|_| bad(key, format!("must be three numbers, got {list}")))?;
                *own = three;
            }
        }
        self.normalise = on("do_normalize")?.then_some(moments);
        if value("do_pad").is_some() && on("do_pad")? {
            return Err(bad("do_pad", "padding is not supported".into()));
        }
        let extent = |side: usize| (1..=MAX_SIDE).contains(&side);
        let sizes = match self.resize {
            Resize::Keep => true,
            Resize::Shortest(side) => extent(side),
            Resize::Exact(width, height) => extent(width) && extent(height),
        };
        let crop = self.crop.is_none_or(|(w, h)| extent(w) && extent(h));
        for (key, fits) in [("size", sizes), ("crop_size", crop)] {
            if !fits {
                return Err(bad(key, format!("sides must be from 1 to {MAX_SIDE}")));
            }
        }
        Ok(self)
    }

    /// Width and height of what comes out, where they do not depend on the picture.
    pub fn output(&self) -> Option<(usize, usize)> {
        self.crop.or(match self.resize {
            Resize::Exact(width, height) => Some((width, height)),
            _ => None,
        })
    }

    /// The picture resized and cropped, still in bytes.
    ///
    /// # Errors
    /// Without a crop, [`ModelError::Image`] for a picture so long and narrow that it would become more than 16,384
    /// pixels on a side, or of less than the network takes; with one, what is cut away is never made.
    pub fn fit(&self, picture: &Rgb8) -> Result<Rgb8, ModelError> {
        let (width, height) = (picture.width, picture.height);
        let (new_width, new_height) = match self.resize {
            Resize::Keep => (width, height),
            Resize::Exact(width, height) => (width, height),
            Resize::Shortest(side) => {
                let (short, long) = (width.min(height), width.max(height));
                let longer = (side as f64 * long as f64 / short as f64) as usize;
                if width <= height {
                    (side, longer)
                } else {
                    (longer, side)
                }
            }
        };
        let new = (new_width, new_height);
        match self.crop {
            Some(crop) => Ok(self.fit_cropped(picture, new, crop)),
            None if new_width.max(new_height) > MAX_SIDE => Err(ModelError::Image(format!(
                "{width}x{height} pixels would become {new_width}x{new_height}, at most {MAX_SIDE} on a side are supported"
            ))),
            None if new_width.min(new_height) < self.least => Err(ModelError::Image(format!(
                "{new_width}x{new_height} pixels are less than one patch of {}",
                self.least
            ))),
            None => Ok(picture
                .resized(new_width, new_height, self.filter)
                .into_owned()),
        }
    }

    /// The middle of the picture at its new size, black where that is too small, as transformers pads.
    fn fit_cropped(
        &self,
        picture: &Rgb8,
        new: (usize, usize),
        (width, height): (usize, usize),
    ) -> Rgb8 {
        // Along one side: the part that is kept, and where it goes.
        let kept = |side: usize, crop: usize| {
            let first = place(side, crop, self.centre);
            let start = first.max(0) as usize;
            let end = side.min((first + crop as isize).max(0) as usize);
            ((start, end), first.min(0).unsigned_abs())
        };
        let (columns, left) = kept(new.0, width);
        let (rows, top) = kept(new.1, height);
        let part = picture.resized_part(new, [columns, rows], self.filter);
        if (part.width, part.height) == (width, height) {
            return part;
        }
        let mut data = vec![0u8; width * height * 3];
        for (row, source) in part.data.chunks_exact(part.width * 3).enumerate() {
            let target = ((row + top) * width + left) * 3;
            data[target..target + source.len()].copy_from_slice(source);
        }
        Rgb8 {
            width,
            height,
            data,
        }
    }

    /// `[N, 3, H, W]` of pictures of one size, as [`Self::fit`] makes them.
    ///
    /// # Errors
    /// [`ModelError::Image`] when their sizes differ.
    pub fn tensor(
        &self,
        pictures: &[&Rgb8],
        (kind, device): (Kind, Device),
    ) -> Result<Tensor, ModelError> {
        let Some(first) = pictures.first() else {
            return Err(ModelError::Image("no picture at all".into()));
        };
        let (width, height) = (first.width, first.height);
        let pixels = width * height;
        let [mean, deviation] = self
            .normalise
            .unwrap_or([[0.0; 3], [1.0; 3]])
            .map(|row| row.map(|value| value as f32));
        let table: [[f32; 256]; 3] = std::array::from_fn(|channel| {
            std::array::from_fn(|byte| {
                let unit = (byte as f64 * self.rescale) as f32;
                (unit - mean[channel]) / deviation[channel]
            })
        });
        let mut values = vec![0f32; pictures.len() * 3 * pixels];
        for (picture, out) in pictures.iter().zip(values.chunks_exact_mut(3 * pixels)) {
            if (picture.width, picture.height) != (width, height) {
                return Err(ModelError::Image(format!(
                    "pictures of one batch must have one size, got {width}x{height} and {}x{}",
                    picture.width, picture.height
                )));
            }
            for (channel, plane) in out.chunks_exact_mut(pixels).enumerate() {
                for (value, pixel) in plane.iter_mut().zip(picture.data.as_chunks::<3>().0) {
                    *value = table[channel][usize::from(pixel[channel])];
                }
            }
        }
        let shape = [pictures.len() as i64, 3, height as i64, width as i64];
        Ok(Tensor::from_slice(&values)
            .view(shape)
            .to_device(device)
            .to_kind(kind))
    }
}

/// First pixel of a crop along one side; negative where the picture is too small.
fn place(side: usize, crop: usize, centre: Centre) -> isize {
    let rest = side as isize - crop as isize;
    match centre {
        // Rounded down: transformers pads one more before than behind.
        _ if rest < 0 => -((1 - rest) / 2),
        Centre::Floor => rest / 2,
        Centre::HalfEven => (rest as f64 / 2.0).round_ties_even() as isize,
    }
}
