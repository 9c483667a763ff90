//! The built-in source `shapes`: one or two coloured shapes, described in words and drawn
//! exactly. An example is a function of seed and number alone, nothing is stored but the
//! lengths that the curriculum sorts by.
//!
//! Prompts whose first shape is yellow are never trained on; the held-out list consists of
//! them. Yellow is seen in second place, so the policy can compose what it has learned.

mod noise;
mod scene;

use std::collections::HashSet;

use indexmap::IndexMap;
use rewards::{ImageSource, Reference};

use super::config::{ShapesConfig, ShapesKind, Split, TeacherNoise};
use super::error::DataError;
use super::example::{Example, Talk};
use super::shuffle::Stream;
use super::source::Opened;
use noise::sloppy;
use scene::{Colour, Scene};

/// Names of the random streams: training scenes, held-out scenes, targets, drafts.
const TRAIN: u64 = 1;
const HELD_OUT: u64 = 2;
const TARGET: u64 = 3;
const DRAFT: u64 = 4;

/// Pixels along each side of an `image_to_svg` picture.
const PICTURE: u32 = 128;

/// More than this many different held-out prompts are refused.
const MAX_HELD_OUT: usize = 2000;

/// The opened source: rows `0..count` are for training, those after it held out.
#[derive(Debug)]
pub(crate) struct Shapes {
    config: ShapesConfig,
    held_out: Vec<Scene>,
    lengths: Vec<u32>,
}

impl Shapes {
    /// Checks the bounds of `config` (found at `key`) and chooses the held-out prompts.
    pub(crate) fn open(config: &ShapesConfig, key: &str) -> Result<Opened<Self>, DataError> {
        check(config, key)?;
        let mut shapes = Self {
            config: config.clone(),
            held_out: held_out_scenes(config),
            lengths: Vec::new(),
        };
        let train = match config.split {
            Split::Train => config.count,
            Split::HeldOut => 0,
        };
        shapes.lengths = (0..train)
            .map(|row| shapes.scene(row).svg().len() as u32)
            .collect();
        let end = config.count + shapes.held_out.len();
        Ok(Opened {
            rows: shapes,
            train: (0..train as u32).collect(),
            held_out: (config.count as u32..end as u32).collect(),
            skipped: Vec::new(),
            filtered: 0,
            videos: 0,
            unused: Vec::new(),
            // All that they are stands in the config.
            digest: "shapes".to_owned(),
        })
    }

    /// Characters of a training row's reference.
    pub(crate) fn length(&self, row: usize) -> u32 {
        self.lengths[row]
    }

    /// The example of a row; source name and task are filled in by the catalog.
    pub(crate) fn example(&self, row: usize) -> Example {
        let scene = self.scene(row);
        let svg = scene.svg();
        let mut fields = IndexMap::from([("prompt".to_owned(), scene.words())]);
        let seed = self.config.seed;
        let draft = (self.config.kind == ShapesKind::Refinement).then(|| {
            let noise = self.config.teacher_noise.clone().unwrap_or_default();
            sloppy(&scene, &noise, &mut Stream::new(&[seed, DRAFT, row as u64]))
        });
        fields.extend(draft.clone().map(|draft| ("draft".to_owned(), draft)));
        let target = match (&self.config.teacher_noise, self.config.kind) {
            (Some(noise), ShapesKind::TextToSvg | ShapesKind::ImageToSvg) => {
                sloppy(&scene, noise, &mut Stream::new(&[seed, TARGET, row as u64]))
            }
            _ => svg.clone(),
        };
        Example {
            id: row.to_string(),
            task: String::new(),
            fields,
            talk: Talk::default(),
            images: self.picture(&svg).into_iter().collect(),
            length: svg.len(),
            reference: Reference {
                svg: Some(svg),
                draft,
                ..Default::default()
            },
            target: Some(target),
            rejected: serde_json::Map::new(),
        }
    }

    /// The drawing as the prompt shows it, if it does.
    fn picture(&self, svg: &str) -> Option<ImageSource> {
        let side = match (self.config.picture, self.config.kind) {
            (None, ShapesKind::ImageToSvg) => PICTURE,
            (side, _) => side?,
        };
        let size = svg::Target::Longest(side);
        let raster = svg::draw_own(svg, size, &svg::RenderConfig::default());
        let png = raster.ok()?.to_png().ok()?;
        Some(ImageSource::Png(png.into()))
    }

    fn scene(&self, row: usize) -> Scene {
        match row.checked_sub(self.config.count) {
            Some(held_out) => self.held_out[held_out].clone(),
            None => {
                let mut stream = Stream::new(&[self.config.seed, TRAIN, row as u64]);
                Scene::drawn(&mut stream, Colour::first_of_training)
            }
        }
    }
}

/// Different prompts with a yellow first shape, in the order in which they come up.
fn held_out_scenes(config: &ShapesConfig) -> Vec<Scene> {
    let mut stream = Stream::new(&[config.seed, HELD_OUT]);
    let mut seen = HashSet::new();
    let mut scenes = Vec::with_capacity(config.held_out);
    while scenes.len() < config.held_out {
        let scene = Scene::drawn(&mut stream, |_| Colour::Yellow);
        if seen.insert(scene.words()) {
            scenes.push(scene);
        }
    }
    scenes
}

fn check(config: &ShapesConfig, key: &str) -> Result<(), DataError> {
    let bound = |name: &str, holds: bool, problem: String| {
        if holds {
            Ok(())
        } else {
            Err(DataError::config(format!("{key}.{name}"), problem))
        }
    };
    let count = config.count;
    bound(
        "count",
        (1..=100_000_000).contains(&count),
        format!("must be 1 to 100000000, got {count}"),
    )?;
    let held_out = config.held_out;
    bound(
        "held_out",
        held_out <= MAX_HELD_OUT,
        format!("must be <= {MAX_HELD_OUT}, got {held_out} (their prompts all differ)"),
    )?;
    if let Some(side) = config.picture {
        bound(
            "picture",
            (16..=1024).contains(&side),
            format!("must be 16 to 1024, got {side}"),
        )?;
    }
    if let Some(noise) = &config.teacher_noise {
        check_noise(noise, &bound)?;
    }
    Ok(())
}

fn check_noise(
    noise: &TeacherNoise,
    bound: &dyn Fn(&str, bool, String) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for (name, value, most) in [
        ("position", noise.position, 64.0),
        ("size", noise.size, 0.9),
        ("wrong_colour", noise.wrong_colour, 1.0),
        ("wrong_shape", noise.wrong_shape, 1.0),
        ("cut_short", noise.cut_short, 1.0),
    ] {
        bound(
            &format!("teacher_noise.{name}"),
            (0.0..=most).contains(&value),
            format!("must be 0 to {most}, got {value}"),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tokenizer_tests;
