//! Panics of tch's plain operators, which carry libtorch's message, as errors.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is within [`catch_torch`]: a panic hook need not tell of a panic here.
pub fn catches_panics() -> bool {
    CATCHES.get()
}

/// Runs `work`; where one of its operators panics, for lack of memory for instance, gives what
/// libtorch said. Networks use tch's plain operators, and each call of an engine or a learner
/// passes here once.
///
/// # Errors
/// The panic's message.
pub fn catch_torch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CATCHES.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CATCHES.set(before);
    done.map_err(|panic| {
        panic_message::get_panic_message(&panic)
            .unwrap_or("an operation panicked")
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn an_operator_that_panics_tells_what_libtorch_said() {
        let row = |len| Tensor::zeros([len], (Kind::Float, Device::Cpu));
        let told = catch_torch(|| row(2) + row(3)).unwrap_err();
        assert!(told.contains("must match"), "{told}");
        assert_eq!(catch_torch(|| (row(2) + row(2)).numel()), Ok(2));
    }
}
