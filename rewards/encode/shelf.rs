//! Where an encoder's weights are: with an encoder that may be offloaded they lie in host memory while
//! the learner works, and come back when something is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use models::ModelError;
use tch::Device;

/// The two places of an encoder's weights, and at which they are.
#[derive(Debug)]
pub(super) struct Shelf {
    home: Device,
    away: bool,
    /// Moves so far.
    moves: Arc<AtomicUsize>,
}

impl Shelf {
    /// Of weights that lie in host memory now and compute at `home`.
    pub fn new(home: Device) -> Self {
        Shelf {
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

#[cfg(test)]
mod tests {
    use super::super::batch::{Ask, Job, Rows, Server};
    use super::super::network::Worker;
    use super::super::ticket::Ticket;
    use super::*;
    use models::encoder::{Encoder, Pooling};
    use models::image::Rgb8;
    use std::path::Path;
    use tch::Kind;

    /// Both places are host memory here: what is tested is when the weights move.
    #[test]
    fn weights_leave_when_told_and_come_back_when_something_is_asked() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parity/encoders/dinov2");
        let network = Encoder::load(&path, (Kind::Float, Device::Cpu)).unwrap();
        let picture = network.fit(&Rgb8 {
            width: 50,
            height: 60,
            data: (0..9000).map(|byte| byte as u8).collect(),
        });
        let picture = picture.unwrap();
        let mut shelf = Shelf::new(Device::Cpu);
        let moves = shelf.moves();
        let mut worker = Worker::Features(Box::new(network));
        let server = Server {
            name: "dino".into(),
            rows: Rows::new(2, true),
            on_cpu: true,
            fault: Arc::default(),
            ended: Arc::default(),
            tally: Arc::default(),
        };
        let (jobs, inbox) = crossbeam_channel::unbounded();
        let thread =
            std::thread::spawn(move || server.run((&mut worker, Some(&mut shelf)), &inbox));
        let ask = |ask: Ask| {
            let ticket = Ticket::default();
            let job = Job {
                ask,
                ticket: ticket.clone(),
            };
            jobs.send(job).unwrap();
            ticket
        };
        let look = || ask(Ask::Picture(picture.clone(), Pooling::Cls));
        let moved = || moves.load(Ordering::SeqCst);
        // They lie in host memory at first, and a rest of what rests moves nothing.
        ask(Ask::Rest).wait().unwrap();
        assert_eq!(moved(), 0);
        let first = look().wait().unwrap();
        assert_eq!(moved(), 1);
        // A rest waits for what was asked before it, and what is asked again gives the same.
        let (before, rest) = (look(), ask(Ask::Rest));
        rest.wait().unwrap();
        assert_eq!((moved(), before.wait().unwrap()), (2, first.clone()));
        assert_eq!((look().wait().unwrap(), moved()), (first, 3));
        ask(Ask::Rest).wait().unwrap();
        ask(Ask::Wake);
        ask(Ask::Wake);
        ask(Ask::Rest).wait().unwrap();
        assert_eq!(moved(), 6);
        drop(jobs);
        thread.join().unwrap();
    }
}
