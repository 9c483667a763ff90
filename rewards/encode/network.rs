//! What an encoder's thread computes: one pass of a network, and LPIPS' distances to references whose
//! features are kept.

use super::batch::Ready;
use crate::perceptual::LpipsScale;
use crate::picture::Picture;
use models::ModelError;
use models::encoder::{Encoder, Lpips, LpipsFeatures, LpipsInput, Pooling, unit_rows};
use models::image::Rgb8;
use std::collections::VecDeque;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Bytes of reference features that LPIPS keeps.
const KEPT: usize = 512 << 20;

/// The network of a thread.
pub(super) enum Worker {
    Features(Box<Encoder>),
    Lpips(Lpips),
}

impl Worker {
    /// Takes the weights, and what is kept of references, to another device.
    pub fn move_to(&mut self, device: Device, kept: &mut Kept) -> Result<(), ModelError> {
        match self {
            Worker::Features(network) => network.move_to((network.place().0, device)),
            Worker::Lpips(network) => {
                network.move_to((network.place().0, device))?;
                kept.entries
                    .iter_mut()
                    .try_for_each(|(_, _, features)| features.move_to(device))
            }
        }
    }

    /// One answer for each of `batch`, from a pass of exactly `rows` rows.
    pub fn answer(
        &self,
        batch: &[Ready],
        rows: usize,
        kept: &mut Kept,
    ) -> Result<Vec<Arc<[f32]>>, ModelError> {
        let filled = || (0..rows.max(batch.len())).map(|row| &batch[row.min(batch.len() - 1)]);
        let features = match (self, &batch[0]) {
            (Worker::Features(network), Ready::Picture(_, pool)) => {
                let pictures: Vec<&Rgb8> = filled()
                    .filter_map(|ready| match ready {
                        Ready::Picture(picture, _) => Some(picture),
                        _ => None,
                    })
                    .collect();
                network.embed_images(&pictures, *pool)?
            }
            (Worker::Features(network), Ready::Ids(_, width)) => {
                let ids: Vec<&[i64]> = filled()
                    .filter_map(|ready| match ready {
                        Ready::Ids(ids, _) => Some(ids.as_slice()),
                        _ => None,
                    })
                    .collect();
                network.embed_ids(&ids, *width, Pooling::Cls)?
            }
            (Worker::Features(network), &Ready::Tokens(_, width, layer)) => {
                let filled: Vec<&Ready> = filled().collect();
                return tokens(network, (batch, &filled), (width, layer));
            }
            (Worker::Lpips(network), Ready::Distance(..)) => {
                return distances(network, batch, &filled().collect::<Vec<_>>(), kept);
            }
            _ => {
                return Err(ModelError::Image(
                    "this network was asked for something else".into(),
                ));
            }
        };
        let features = plain(&unit_rows(&features))?;
        let width = features.len() / rows.max(batch.len());
        Ok(features
            .chunks_exact(width)
            .take(batch.len())
            .map(Arc::from)
            .collect())
    }
}

/// Every token of the texts of `batch`, the first of the rows of `filled`: whether it counts, then its
/// feature of unit length. The first and the last id of a text are its special ones.
fn tokens(
    network: &Encoder,
    (batch, filled): (&[Ready], &[&Ready]),
    (width, layer): (usize, usize),
) -> Result<Vec<Arc<[f32]>>, ModelError> {
    let ids_of = |ready: &Ready| match ready {
        Ready::Tokens(ids, ..) => Some(ids.clone()),
        _ => None,
    };
    let ids: Vec<Vec<i64>> = filled.iter().filter_map(|ready| ids_of(ready)).collect();
    let borrowed: Vec<&[i64]> = ids.iter().map(Vec::as_slice).collect();
    let states = network.embed_tokens(&borrowed, width, layer)?;
    let answer = |(row, ids): (usize, &Vec<i64>)| {
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
    ids.iter()
        .enumerate()
        .take(batch.len())
        .map(answer)
        .collect()
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

fn distances(
    network: &Lpips,
    batch: &[Ready],
    filled: &[&Ready],
    kept: &mut Kept,
) -> Result<Vec<Arc<[f32]>>, ModelError> {
    let pictures: Vec<&Rgb8> = filled
        .iter()
        .filter_map(|ready| match ready {
            Ready::Distance(picture, ..) => Some(picture),
            _ => None,
        })
        .collect();
    let Ready::Distance(_, _, input) = batch[0] else {
        return Err(ModelError::Image("LPIPS compares pictures alone".into()));
    };
    let input = match input {
        LpipsScale::Unit => LpipsInput::Unit,
        LpipsScale::Signed => LpipsInput::Signed,
        LpipsScale::Imagenet => LpipsInput::Imagenet,
    };
    let features = network.features(&pictures, input)?;
    let mut answers = Vec::new();
    for (row, ready) in batch.iter().enumerate() {
        if let Ready::Distance(_, reference, _) = ready {
            let reference = kept.features(network, reference, input)?;
            let far = network.distances(&features.one(row as i64), reference)?;
            answers.push(plain(&far)?.into());
        }
    }
    Ok(answers)
}

/// Features of references, the oldest leaving first. A reference is known by its picture's address, which
/// lives as long as the picture is held here.
#[derive(Default)]
pub(super) struct Kept {
    entries: VecDeque<(Arc<Picture>, LpipsInput, LpipsFeatures)>,
    bytes: usize,
}

impl Kept {
    fn features(
        &mut self,
        network: &Lpips,
        reference: &Arc<Picture>,
        input: LpipsInput,
    ) -> Result<&LpipsFeatures, ModelError> {
        let known = |(picture, how, _): &(Arc<Picture>, LpipsInput, LpipsFeatures)| {
            Arc::ptr_eq(picture, reference) && *how == input
        };
        if let Some(at) = self.entries.iter().position(known) {
            return Ok(&self.entries[at].2);
        }
        let picture = Rgb8 {
            width: reference.width,
            height: reference.height,
            data: reference.rgb.clone(),
        };
        let features = network.features(&[&picture], input)?;
        self.bytes += features.bytes();
        self.entries.push_back((reference.clone(), input, features));
        while self.bytes > KEPT && self.entries.len() > 1 {
            if let Some((_, _, old)) = self.entries.pop_front() {
                self.bytes -= old.bytes();
            }
        }
        let last = self
            .entries
            .back()
            .expect("one was pushed, and one is always kept");
        Ok(&last.2)
    }
}
