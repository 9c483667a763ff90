//! The pictures of a page: each drawn once and embedded once, however often it is shown.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rayon::prelude::*;

use super::artist::{Artist, DrawOrder};
use super::thumbnail::PngResult;

/// What drawing a page may take: a report must not hold up the training that it tells of.
const PATIENCE: Duration = Duration::from_secs(30);

/// Drawings in the order in which the page embeds them.
#[derive(Debug, Default)]
pub(super) struct PictureBook {
    drawn: HashMap<String, PngResult>,
    places: HashMap<String, usize>,
    /// Base64 of PNG files.
    pub(super) embedded: Vec<String>,
}

impl PictureBook {
    /// Draws all of `orders`, side by side.
    pub(super) fn draw(&mut self, orders: Vec<DrawOrder>, artist: &dyn Artist) {
        let end = Instant::now() + PATIENCE;
        let mut fresh: Vec<(String, DrawOrder)> = Vec::new();
        let mut asked = std::collections::HashSet::new();
        for order in orders {
            let key = key(&order);
            if !self.drawn.contains_key(&key) && asked.insert(key.clone()) {
                fresh.push((key, order));
            }
        }
        let drawn = fresh.into_par_iter().with_max_len(1).map(|(key, order)| {
            let png = match Instant::now() < end {
                true => artist.draw(&order),
                false => Err("left out: the page's drawings took too long".to_owned()),
            };
            (key, png)
        });
        self.drawn.extend(drawn.collect::<Vec<_>>());
    }

    /// The number of a drawing's picture, and how many characters it adds to the page; or why it has none.
    pub(super) fn place(&mut self, order: &DrawOrder) -> Result<(usize, usize), String> {
        let key = key(order);
        match self.drawn.get(&key) {
            Some(Ok(png)) => {
                let code = STANDARD.encode(png);
                // Equal pictures of different sources are one.
                if let Some(place) = self.places.get(&code) {
                    return Ok((*place, 0));
                }
                let (place, size) = (self.embedded.len(), code.len());
                self.places.insert(code.clone(), place);
                self.embedded.push(code);
                Ok((place, size))
            }
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("not drawn".to_owned()),
        }
    }

    /// Characters that a drawing would add to the page.
    pub(super) fn size(&self, order: &DrawOrder) -> usize {
        let png = self
            .drawn
            .get(&key(order))
            .and_then(|png| png.as_ref().ok());
        png.map_or(0, |png| png.len().div_ceil(3) * 4)
    }
}

fn key(order: &DrawOrder) -> String {
    format!("{order:?}")
}
