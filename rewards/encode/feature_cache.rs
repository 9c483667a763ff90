//! Features of references that a network compares pictures with again and again.

use crate::picture::Picture;
use models::ModelError;
use models::encoder::{DistanceInput, DistanceNetwork, PictureFeatures};
use models::image::Rgb8;
use std::collections::VecDeque;
use std::sync::Arc;
use tch::Device;

/// Bytes of features that are kept.
const KEPT: usize = 512 << 20;

/// Features of references, the oldest leaving first. A reference is known by its picture's address, which
/// lives as long as the picture is held here.
#[derive(Default)]
pub(super) struct FeatureCache {
    entries: VecDeque<CachedFeatures>,
    bytes: usize,
}

struct CachedFeatures {
    reference: Arc<Picture>,
    input: DistanceInput,
    features: PictureFeatures,
}

impl FeatureCache {
    /// The features of a reference, computed when they are not here.
    pub fn get(
        &mut self,
        network: &dyn DistanceNetwork,
        reference: &Arc<Picture>,
        input: DistanceInput,
    ) -> Result<&PictureFeatures, ModelError> {
        let known = |entry: &CachedFeatures| {
            Arc::ptr_eq(&entry.reference, reference) && entry.input == input
        };
        if let Some(at) = self.entries.iter().position(known) {
            return Ok(&self.entries[at].features);
        }
        let picture = Rgb8 {
            width: reference.width,
            height: reference.height,
            data: reference.rgb.clone(),
        };
        let features = network.features(&[&picture], input)?;
        self.bytes += features.bytes();
        self.entries.push_back(CachedFeatures {
            reference: reference.clone(),
            input,
            features,
        });
        while self.bytes > KEPT && self.entries.len() > 1 {
            if let Some(old) = self.entries.pop_front() {
                self.bytes -= old.features.bytes();
            }
        }
        let last = self
            .entries
            .back()
            .expect("one was pushed, and one is always kept");
        Ok(&last.features)
    }

    /// Takes all of them to another device.
    pub fn move_to(&mut self, device: Device) -> Result<(), ModelError> {
        let mut entries = self.entries.iter_mut();
        entries.try_for_each(|entry| entry.features.move_to(device))
    }
}
