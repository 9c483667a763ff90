//! The pictures of prompts on their way through a policy: encoded once a group, shown to the
//! decoder wherever the prompt is run.

use std::rc::Rc;
use std::sync::Arc;

use crate::image::{ProcessedPicture, PromptImages};
use crate::input::Features;
use crate::lora::AdapterMode;
use crate::vision::VisionHidden;
use crate::{Decoder, ModelError};

/// A prompt's pictures, and what the tower made of them where that is kept.
#[derive(Debug)]
pub struct EncodedImages {
    /// The pictures.
    pub images: Arc<PromptImages>,
    /// The tower's output.
    pub hidden: Option<VisionHidden>,
}

/// Which output of the tower the decoder is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionFeatures {
    /// What was kept, where it was; for towers whose weights are those that it was made with.
    Cached,
    /// The tower's, run now: for towers that learn, and those of other weights.
    Recompute,
}

/// Patches that go through a tower at once.
const ROWS: i64 = 16_384;

impl Decoder {
    /// Runs the pictures of several prompts through the tower, once each, without gradients.
    ///
    /// # Errors
    /// Pictures for a network without a tower.
    pub fn encode_images(
        &self,
        images: &[Arc<PromptImages>],
    ) -> Result<Vec<Rc<EncodedImages>>, ModelError> {
        let mut views = Vec::with_capacity(images.len());
        let mut rest = images;
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |one: &&Arc<PromptImages>| {
                let before = rows;
                rows += one.rows();
                before == 0 || rows <= ROWS
            };
            let count = rest.iter().take_while(fits).count();
            let (now, later) = rest.split_at(count);
            rest = later;
            let hidden = tch::no_grad(|| self.hidden_states(now, AdapterMode::On))?;
            let lengths: Vec<i64> = now.iter().map(|one| one.rows()).collect();
            views.extend(
                now.iter()
                    .zip(hidden.split(&lengths))
                    .map(|(images, hidden)| {
                        Rc::new(EncodedImages {
                            images: images.clone(),
                            hidden: Some(hidden),
                        })
                    }),
            );
        }
        Ok(views)
    }

    fn hidden_states(
        &self,
        images: &[Arc<PromptImages>],
        mode: AdapterMode,
    ) -> Result<VisionHidden, ModelError> {
        let vision = self.vision().ok_or_else(|| {
            ModelError::Image("a picture for a model that reads text only".into())
        })?;
        let pictures: Vec<&ProcessedPicture> =
            images.iter().flat_map(|one| &one.pictures).collect();
        let pixels = vision.pixels(&pictures, (self.kind(), self.device()));
        Ok(vision.encode(&pixels, mode))
    }

    /// What `views` show the decoder, with gradients where tower or projector learn; `None` of
    /// none. Adapters do as `mode` says.
    ///
    /// # Errors
    /// Pictures for a network without a tower.
    pub fn features(
        &self,
        views: &[Rc<EncodedImages>],
        source: VisionFeatures,
        mode: AdapterMode,
    ) -> Result<Option<Features>, ModelError> {
        if views.is_empty() {
            return Ok(None);
        }
        let kept: Option<Vec<&VisionHidden>> =
            views.iter().map(|view| view.hidden.as_ref()).collect();
        let hidden = match (source, kept) {
            (VisionFeatures::Cached, Some(kept)) => VisionHidden::concat(&kept),
            _ => {
                let images: Vec<Arc<PromptImages>> =
                    views.iter().map(|view| view.images.clone()).collect();
                Some(self.hidden_states(&images, mode)?)
            }
        };
        Ok(self
            .vision()
            .zip(hidden)
            .map(|(vision, hidden)| vision.project(&hidden, mode)))
    }
}
