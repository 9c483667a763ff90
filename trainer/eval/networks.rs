//! A suite's networks, loaded where a metric needs them.

use std::path::Path;

use models::ModelError;
use models::encoder::{DistanceInput, DistanceNetwork, Encoder, Lpips, Pooling};
use models::image::{ImageProcessor, Rgb8};
use tch::{Device, Kind, Tensor};

use super::config::SuiteConfig;
use super::picture_metric::{PictureMetric, SuiteNetwork};
use crate::TrainError;

/// The networks; those that no metric needs are absent.
#[derive(Debug, Default)]
pub struct SuiteNetworks {
    encoders: Vec<(SuiteNetwork, Encoder)>,
    lpips: Option<Lpips>,
    /// Pairs that LPIPS sees at a time; 0: all that it is given.
    pairs: usize,
}

/// Two pictures that are compared: prediction and reference.
pub type PicturePair = [Rgb8; 2];

/// Features of a pair.
pub type FeaturePair = [Vec<f32>; 2];

impl SuiteNetworks {
    /// Loads what `metrics` need of the config's paths; those without a path are left out.
    ///
    /// # Errors
    /// A file that is no such network, by its key.
    pub fn open(
        config: &SuiteConfig,
        metrics: &[PictureMetric],
        device: Device,
    ) -> Result<Self, TrainError> {
        // Its maps are as large as the pictures: on the CPU several pairs would only leave the caches.
        let pairs = usize::from(device == Device::Cpu);
        let mut own = Self {
            pairs,
            ..Self::default()
        };
        let wanted = |key: &str| {
            let mut networks = metrics.iter().filter_map(|metric| metric.network());
            networks.find(|network| network.key() == key)
        };
        for (key, path) in config.encoders.each() {
            let (Some(path), Some(network)) = (path, wanted(key)) else {
                continue;
            };
            let place = (Kind::Float, device);
            let refused = |error: ModelError| match error {
                ModelError::Torch(_) | ModelError::Shim(_) => TrainError::from(error),
                error => TrainError::Input(format!("encoders.{key}: {error}")),
            };
            match network {
                SuiteNetwork::Lpips => {
                    own.lpips = Some(Lpips::load(path, place).map_err(refused)?);
                }
                network => {
                    let mut encoder = Encoder::load(path, place).map_err(refused)?;
                    let reads = metrics
                        .iter()
                        .any(|metric| metric.is_of_words() && metric.network() == Some(network));
                    check(network, &encoder, path, reads).map_err(TrainError::Input)?;
                    if network.is_class_token() {
                        encoder.use_torchvision().map_err(refused)?;
                    }
                    own.encoders.push((network, encoder));
                }
            }
        }
        Ok(own)
    }

    /// An encoder, where it is loaded.
    pub fn encoder(&self, network: SuiteNetwork) -> Option<&Encoder> {
        let mut all = self.encoders.iter();
        all.find(|(name, _)| *name == network)
            .map(|(_, encoder)| encoder)
    }

    /// The encoders.
    pub fn all(&self) -> Vec<SuiteNetwork> {
        self.encoders.iter().map(|(name, _)| *name).collect()
    }

    /// What pictures go through before an encoder, for other threads.
    pub fn processors(&self) -> Vec<(SuiteNetwork, ImageProcessor)> {
        let own = self.encoders.iter();
        own.filter_map(|(name, encoder)| Some((*name, encoder.processor().ok()?.clone())))
            .collect()
    }

    /// Whether LPIPS is loaded.
    pub fn has_lpips(&self) -> bool {
        self.lpips.is_some()
    }

    /// Features of pairs that were brought to an encoder's size.
    ///
    /// # Errors
    /// libtorch's.
    pub fn features(
        &self,
        network: SuiteNetwork,
        pairs: &[&PicturePair],
    ) -> Result<Vec<FeaturePair>, ModelError> {
        let Some(encoder) = self.encoder(network) else {
            return Ok(Vec::new());
        };
        let pooling = match network.is_class_token() {
            true => Pooling::Cls,
            false => Pooling::Mean,
        };
        let side = |at: usize| -> Result<Vec<Vec<f32>>, ModelError> {
            let pictures: Vec<&Rgb8> = pairs.iter().map(|pair| &pair[at]).collect();
            let mut rows = Vec::with_capacity(pictures.len());
            for same in pictures.chunk_by(|a, b| (a.width, a.height) == (b.width, b.height)) {
                rows.extend(plain(&encoder.embed_images(same, pooling)?)?);
            }
            Ok(rows)
        };
        let (predicted, references) = (side(0)?, side(1)?);
        Ok(predicted
            .into_iter()
            .zip(references)
            .map(|(a, b)| [a, b])
            .collect())
    }

    /// Features of texts' ids.
    ///
    /// # Errors
    /// libtorch's.
    pub fn texts(
        &self,
        network: SuiteNetwork,
        texts: &[Vec<i64>],
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let Some(encoder) = self.encoder(network).filter(|_| !texts.is_empty()) else {
            return Ok(Vec::new());
        };
        let ids: Vec<&[i64]> = texts.iter().map(Vec::as_slice).collect();
        let width = ids.iter().map(|ids| ids.len()).max().unwrap_or(0);
        plain(&encoder.embed_ids(&ids, width, Pooling::Cls)?)
    }

    /// LPIPS' distances of pairs, normalised by ImageNet's numbers; within a pair both have one size.
    ///
    /// # Errors
    /// libtorch's.
    pub fn distances(&self, pairs: &[&PicturePair]) -> Result<Vec<f64>, ModelError> {
        let Some(lpips) = &self.lpips else {
            return Ok(Vec::new());
        };
        let mut all = Vec::with_capacity(pairs.len());
        let most = if self.pairs == 0 {
            pairs.len()
        } else {
            self.pairs
        };
        let alike = pairs.chunk_by(|[a, _], [b, _]| (a.width, a.height) == (b.width, b.height));
        for same in alike.flat_map(|alike| alike.chunks(most)) {
            let [a, b] = [0, 1].map(|side| {
                let pictures: Vec<&Rgb8> = same.iter().map(|pair| &pair[side]).collect();
                lpips.features(&pictures, DistanceInput::Imagenet)
            });
            let rows = lpips.distances(&a?, &b?)?.reshape([-1, 1]);
            all.extend(plain(&rows)?.into_iter().map(|row| f64::from(row[0])));
        }
        Ok(all)
    }
}

/// Whether a network can do what its key is for.
fn check(network: SuiteNetwork, encoder: &Encoder, path: &Path, reads: bool) -> Result<(), String> {
    let key = network.key();
    let problem = |what: &str| Err(format!("encoders.{key}: {}: {what}", path.display()));
    if !encoder.sees() {
        return problem("encodes texts alone");
    }
    let tokens = encoder.default_pool().is_some();
    match network {
        network if network.is_dino() && !tokens => problem("is no DINOv2"),
        network if !network.is_dino() && tokens => problem("is a DINOv2"),
        _ if reads && !encoder.reads() => {
            problem("encodes pictures alone; captions need the network of texts too")
        }
        _ => Ok(()),
    }
}

/// Rows `[N, D]` as numbers.
fn plain(rows: &Tensor) -> Result<Vec<Vec<f32>>, ModelError> {
    let rows = rows.to_device(Device::Cpu).to_kind(Kind::Float);
    let width = rows.size().last().copied().unwrap_or(1).max(1) as usize;
    let flat = Vec::<f32>::try_from(rows.reshape([-1]))?;
    Ok(flat.chunks_exact(width).map(<[f32]>::to_vec).collect())
}

/// The cosine of two features, in float64.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let both = a.iter().zip(b);
        both.map(|(&x, &y)| f64::from(x) * f64::from(y)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
