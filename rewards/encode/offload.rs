//! Where an encoder's weights are: with an encoder that may be offloaded they lie in host memory while
//! the learner works, and come back when something is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use models::ModelError;
use tch::Device;

/// The two places of an encoder's weights, and at which they are.
#[derive(Debug)]
pub(super) struct Offloader {
    home: Device,
    away: bool,
    /// Moves so far.
    moves: Arc<AtomicUsize>,
}

impl Offloader {
    /// Of weights that lie in host memory now and compute at `home`.
    pub fn new(home: Device) -> Self {
        Offloader {
            home,
            away: true,
            moves: Arc::default(),
        }
    }

    /// Counts the moves, for those who watch from elsewhere.
    #[cfg(test)]
    pub fn moves(&self) -> Arc<AtomicUsize> {
        self.moves.clone()
    }

    /// Brings the weights home, if they are away.
    pub fn fetch(&mut self, mover: Mover) -> Result<(), ModelError> {
        self.bring(self.home, false, mover)
    }

    /// Takes them to host memory, if they are at home.
    pub fn put_away(&mut self, mover: Mover) -> Result<(), ModelError> {
        self.bring(Device::Cpu, true, mover)
    }

    fn bring(&mut self, to: Device, away: bool, mover: Mover) -> Result<(), ModelError> {
        if self.away == away {
            return Ok(());
        }
        mover(to)?;
        self.away = away;
        self.moves.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Moves the weights to a device.
pub(super) type Mover<'a> = &'a mut dyn FnMut(Device) -> Result<(), ModelError>;
