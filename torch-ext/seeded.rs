//! Numbers from libtorch's generator, which the whole process has in common.

use std::sync::{Mutex, MutexGuard, PoisonError};

static TURN: Mutex<()> = Mutex::new(());

/// The turn to draw. While it lives, another thread that asks for it waits.
#[must_use = "without it other threads draw from the same numbers"]
pub struct Seeded(#[expect(dead_code, reason = "held, never read")] MutexGuard<'static, ()>);

/// Seeds libtorch's generator of the CPU and keeps it for the caller as long as what is returned lives, so that a
/// seed's numbers do not depend on what other threads draw. A thread that asks for it again meanwhile waits for ever.
pub fn seeded(seed: u64) -> Seeded {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tch::manual_seed(seed as i64);
    Seeded(turn)
}

#[cfg(test)]
mod tests {
    use super::seeded;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn a_seeds_numbers_are_the_same_whatever_other_threads_draw() {
        let draw = |seed: u64| {
            let _turn = seeded(seed);
            let parts: Vec<Tensor> = (0..50)
                .map(|_| Tensor::randn([1000], (Kind::Float, Device::Cpu)))
                .collect();
            Tensor::cat(&parts, 0)
        };
        let alone = draw(1);
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..=4)
                .map(|seed| scope.spawn(move || draw(seed)))
                .collect();
            let all: Vec<Tensor> = others.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(alone.equal(&all[0]) && !alone.equal(&all[1]));
        });
    }
}
