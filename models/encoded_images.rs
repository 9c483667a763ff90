//! The pictures of prompts on their way through a policy: looked at once a group, shown to the
//! decoder wherever the prompt is run.

use std::rc::Rc;
use std::sync::Arc;

use crate::image::{Picture, Shown};
use crate::input::Features;
use crate::vision::Seen;
use crate::{Decoder, ModelError};

/// A prompt's pictures, and what the tower made of them where that is kept.
#[derive(Debug)]
pub struct View {
    /// The pictures.
    pub shown: Arc<Shown>,
    /// The tower's output.
    pub seen: Option<Seen>,
}

/// Which output of the tower the decoder is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What was kept, where it was; for towers whose weights are those that it was made with.
    Kept,
    /// The tower's, run now: for towers that learn, and those of other weights.
    Anew,
}

/// Patches that go through a tower at once.
const ROWS: i64 = 16_384;

impl Decoder {
    /// Looks at the pictures of several prompts, once each, without gradients.
    ///
    /// # Errors
    /// Pictures for a network without a tower.
    pub fn look(&self, shown: &[Arc<Shown>]) -> Result<Vec<Rc<View>>, ModelError> {
        let mut views = Vec::with_capacity(shown.len());
        let mut rest = shown;
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |one: &&Arc<Shown>| {
                let before = rows;
                rows += one.rows();
                before == 0 || rows <= ROWS
            };
            let count = rest.iter().take_while(fits).count();
            let (now, later) = rest.split_at(count);
            rest = later;
            let seen = tch::no_grad(|| self.seen(now))?;
            let lengths: Vec<i64> = now.iter().map(|one| one.rows()).collect();
            views.extend(now.iter().zip(seen.split(&lengths)).map(|(shown, seen)| {
                Rc::new(View {
                    shown: shown.clone(),
                    seen: Some(seen),
                })
            }));
        }
        Ok(views)
    }

    fn seen(&self, shown: &[Arc<Shown>]) -> Result<Seen, ModelError> {
        let vision = self.vision().ok_or_else(|| {
            ModelError::Image("a picture for a model that reads text only".into())
        })?;
        let pictures: Vec<&Picture> = shown.iter().flat_map(|one| &one.pictures).collect();
        Ok(vision.look(&vision.pixels(&pictures, (self.kind(), self.device()))))
    }

    /// What `views` show the decoder, with gradients where tower or projector learn; `None` of
    /// none.
    ///
    /// # Errors
    /// Pictures for a network without a tower.
    pub fn features(&self, views: &[Rc<View>], look: Look) -> Result<Option<Features>, ModelError> {
        if views.is_empty() {
            return Ok(None);
        }
        let kept: Option<Vec<&Seen>> = views.iter().map(|view| view.seen.as_ref()).collect();
        let seen = match (look, kept) {
            (Look::Kept, Some(kept)) => Seen::concat(&kept),
            _ => {
                let shown: Vec<Arc<Shown>> = views.iter().map(|view| view.shown.clone()).collect();
                Some(self.seen(&shown)?)
            }
        };
        Ok(self
            .vision()
            .zip(seen)
            .map(|(vision, seen)| vision.project(&seen)))
    }
}
