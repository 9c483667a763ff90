//! What an encoder's thread computes: one pass of a network, whose rows are features, or distances to references whose
//! features are kept.

use super::feature_cache::FeatureCache;
use super::job::{EncodeInput, Padded};
use crate::picture::Picture;
use models::ModelError;
use models::encoder::{DistanceNetwork, Encoder, Pooling, unit_rows};
use models::image::Rgb8;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// One answer for each question.
type Answers = Result<Vec<Arc<[f32]>>, ModelError>;

/// The network of a thread.
pub(super) enum Worker {
    Features(Box<Encoder>),
    Distances {
        network: Box<dyn DistanceNetwork>,
        references: FeatureCache,
    },
}

impl Worker {
    pub fn features(network: Encoder) -> Self {
        Worker::Features(Box::new(network))
    }

    pub fn distances(network: Box<dyn DistanceNetwork>) -> Self {
        Worker::Distances {
            network,
            references: FeatureCache::default(),
        }
    }

    /// The network, where it reads texts.
    pub fn reader(&self) -> Result<&Encoder, ModelError> {
        match self {
            Worker::Features(network) => Ok(network),
            Worker::Distances { network, .. } => Err(ModelError::Text(format!(
                "{} reads no texts",
                network.name()
            ))),
        }
    }

    /// Takes the weights, and what is kept of references, to another device.
    pub fn move_to(&mut self, device: Device) -> Result<(), ModelError> {
        match self {
            Worker::Features(network) => network.move_to((network.place().0, device)),
            Worker::Distances {
                network,
                references,
            } => {
                let kind = network.place().0;
                network.move_to((kind, device))?;
                references.move_to(device)
            }
        }
    }

    /// One answer for each of `batch`, whose questions are of one shape, from a pass of exactly `rows` rows.
    pub fn answer(&mut self, batch: &[EncodeInput], rows: usize) -> Answers {
        let _span = tracing::trace_span!("encode", asked = batch.len(), rows).entered();
        let pass = PassInput { batch, rows };
        match (self, &batch[0]) {
            (Worker::Features(network), EncodeInput::Picture(_, pool)) => {
                let pictures = pass.pick(|prepared| match prepared {
                    EncodeInput::Picture(picture, _) => Some(picture),
                    EncodeInput::Text(_) | EncodeInput::Tokens(..) | EncodeInput::Distance(..) => {
                        None
                    }
                });
                pass.features(&network.embed_images(&pictures, *pool)?)
            }
            (Worker::Features(network), EncodeInput::Text(Padded { width, .. })) => {
                pass.features(&network.embed_ids(&pass.ids(), *width, Pooling::Cls)?)
            }
            (Worker::Features(network), EncodeInput::Tokens(Padded { width, .. }, layer)) => {
                let ids = pass.ids();
                let states = network.embed_tokens(&ids, *width, *layer)?;
                pass.tokens(&ids, &states)
            }
            (
                Worker::Distances {
                    network,
                    references,
                },
                EncodeInput::Distance(..),
            ) => pass.distances(&**network, references),
            (Worker::Features(_), EncodeInput::Distance(..))
            | (
                Worker::Distances { .. },
                EncodeInput::Picture(..) | EncodeInput::Text(_) | EncodeInput::Tokens(..),
            ) => Err(ModelError::Image(
                "this network was asked for something else".into(),
            )),
        }
    }
}

/// Questions of one shape and the rows of their pass, which copies of the last fill up.
struct PassInput<'a> {
    batch: &'a [EncodeInput],
    rows: usize,
}

impl<'a> PassInput<'a> {
    fn height(&self) -> usize {
        self.rows.max(self.batch.len())
    }

    /// A part of each row's question.
    fn pick<T>(&self, part: impl Fn(&'a EncodeInput) -> Option<T>) -> Vec<T> {
        let batch = self.batch;
        let rows = (0..self.height()).map(|row| &batch[row.min(batch.len() - 1)]);
        rows.filter_map(part).collect()
    }

    /// The ids of each row's text.
    fn ids(&self) -> Vec<&'a [i64]> {
        self.pick(|prepared| match prepared {
            EncodeInput::Text(text) | EncodeInput::Tokens(text, _) => Some(text.ids.as_slice()),
            EncodeInput::Picture(..) | EncodeInput::Distance(..) => None,
        })
    }

    /// Rows `[N, D]` of unit length.
    fn features(&self, rows: &Tensor) -> Answers {
        let features = plain(&unit_rows(rows))?;
        let width = features.len() / self.height();
        Ok(features
            .chunks_exact(width)
            .take(self.batch.len())
            .map(Arc::from)
            .collect())
    }

    /// Every token of the texts, of states `[N, width, D]`: whether it counts, then its feature of unit length. The
    /// first and the last id of a text are its special ones.
    fn tokens(&self, ids: &[&[i64]], states: &Tensor) -> Answers {
        let answer = |(row, ids): (usize, &&[i64])| {
            let own = states.get(row as i64).narrow(0, 0, ids.len() as i64);
            let features = plain(&unit_rows(&own))?;
            let size = features.len() / ids.len();
            let special = [ids.first(), ids.last()];
            let mut flat = Vec::with_capacity(features.len() + ids.len());
            for (id, feature) in ids.iter().zip(features.chunks_exact(size)) {
                flat.push(f32::from(!special.contains(&Some(id))));
                flat.extend_from_slice(feature);
            }
            Ok(flat.into())
        };
        let texts = ids.iter().enumerate();
        texts.take(self.batch.len()).map(answer).collect()
    }

    /// One number each.
    fn distances(&self, network: &dyn DistanceNetwork, references: &mut FeatureCache) -> Answers {
        let asked = self.pick(|prepared| match prepared {
            EncodeInput::Distance(picture, reference, input) => Some((picture, reference, *input)),
            EncodeInput::Picture(..) | EncodeInput::Text(_) | EncodeInput::Tokens(..) => None,
        });
        let pictures: Vec<&Rgb8> = asked.iter().map(|(picture, ..)| *picture).collect();
        let features = network.features(&pictures, asked[0].2)?;
        let answer = |(row, (_, reference, input)): (usize, &(_, &Arc<Picture>, _))| {
            let reference = references.get(network, reference, *input)?;
            let far = network.distances(&features.one(row as i64), reference)?;
            Ok(plain(&far)?.into())
        };
        let own = asked.iter().enumerate().take(self.batch.len());
        own.map(answer).collect()
    }
}

fn plain(rows: &Tensor) -> Result<Vec<f32>, ModelError> {
    let flat = rows
        .to_device(Device::Cpu)
        .to_kind(Kind::Float)
        .reshape([-1]);
    let values = Vec::<f32>::try_from(flat)?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(values),
        false => Err(ModelError::Image(
            "the network gave numbers that are not finite (is dtype float16 too narrow for it?)"
                .into(),
        )),
    }
}
