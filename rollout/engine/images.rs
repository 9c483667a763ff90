//! What the policy's tower made of prompts' pictures, left by the sampler for the learner, so that a
//! picture goes through a frozen tower once a group.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use models::EncodedImages;
use models::image::PromptImages;

/// Encoded pictures by the prompt's own [`PromptImages`]; they are handed on, never kept for a second taker.
#[derive(Debug, Default)]
pub struct ImageCache {
    kept: RefCell<HashMap<*const PromptImages, Rc<EncodedImages>>>,
}

impl ImageCache {
    /// Leaves what the tower made of pictures.
    pub fn leave(&self, views: impl IntoIterator<Item = Rc<EncodedImages>>) {
        let named = views
            .into_iter()
            .map(|view| (Arc::as_ptr(&view.images), view));
        self.kept.borrow_mut().extend(named);
    }

    /// Forgets what nobody took.
    pub fn clear(&self) {
        self.kept.borrow_mut().clear();
    }

    /// Takes what was left of these pictures, if the engine encoded them in this process.
    pub fn take(&self, images: &Arc<PromptImages>) -> Option<Rc<EncodedImages>> {
        // The view holds the pictures, so their address is no other's while it is here.
        self.kept.borrow_mut().remove(&Arc::as_ptr(images))
    }
}
