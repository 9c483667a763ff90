//! A value that another thread will give: a feature of unit length, or one number.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What was computed, or why it could not be.
pub(crate) type Answer = Result<Arc<[f32]>, Arc<str>>;

/// A place where the answer will be; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Ticket(Arc<(Mutex<Option<Answer>>, Condvar)>);

impl Ticket {
    /// Waits for the answer.
    pub fn wait(&self) -> Answer {
        let (answer, given) = &*self.0;
        let mut answer = answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            answer = given.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives the answer; a second one is passed over.
    #[cfg_attr(
        not(feature = "perceptual"),
        expect(dead_code, reason = "nobody answers")
    )]
    pub fn give(&self, new: Answer) {
        let (answer, given) = &*self.0;
        answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(new);
        given.notify_all();
    }
}
