//! The ranks of a run and what they tell each other: sums, votes, rewards, sample rows.
//!
//! A rank is one process; in a world of one nothing is sent. What a rank holds of policy, gradients and optimizer is
//! the affair of `shares` and `unit_traffic`.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};
use torch_ext::{ProcessGroup, TorchError};

/// Elements of one bucket of gradients: 100 MB in float32.
const BUCKET: i64 = 25 << 20;

/// The ranks that compute together, and where this one computes.
#[derive(Debug)]
pub struct Ranks {
    group: ProcessGroup,
    device: Device,
    lengths: RefCell<PhaseLengths>,
}

/// What a rank is doing, as far as its length can be known from the times before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseKind {
    /// A step of a stage.
    Step,
    /// An evaluation.
    Evaluation,
    /// Rank 0 writes a checkpoint, the others wait.
    Checkpoint,
    /// Anything that is done once.
    Once,
}

/// How long the phases of a stage were.
#[derive(Debug)]
struct PhaseLengths {
    now: (PhaseKind, Instant),
    /// How often each kind was, and the longest.
    known: [(u32, Duration); 3],
}

/// A phase may be this much longer than the longest of its kind, and so many times as long, before a rank that does
/// not end it is given up.
const LONGER: (Duration, u32) = (Duration::from_secs(60), 20);

impl PhaseLengths {
    fn new() -> Self {
        Self {
            now: (PhaseKind::Once, Instant::now()),
            known: [(0, Duration::ZERO); 3],
        }
    }

    /// Ends the phase that is, begins one of `kind`; how long it may be, if that is known.
    fn enter(&mut self, kind: PhaseKind) -> Option<Duration> {
        let (before, since) = self.now;
        if let Some((count, longest)) = self.known.get_mut(before as usize) {
            *count += 1;
            *longest = since.elapsed().max(*longest);
        }
        self.now = (kind, Instant::now());
        let (count, longest) = *self.known.get(kind as usize)?;
        // The first ones are not like the others: caches fill, lengths are being learnt.
        (count >= 3).then(|| LONGER.0 + LONGER.1 * longest)
    }
}

impl Ranks {
    /// The ranks of `group`, this one computing on `device`.
    pub fn new(group: ProcessGroup, device: Device) -> Self {
        Self {
            group,
            device,
            lengths: RefCell::new(PhaseLengths::new()),
        }
    }

    /// A world of one.
    pub fn single(device: Device) -> Self {
        Self::new(ProcessGroup::Solo, device)
    }

    /// What carries the collectives.
    pub(crate) fn group(&self) -> &ProcessGroup {
        &self.group
    }

    /// This process's place, `0..size`.
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    /// How many processes take part.
    pub fn size(&self) -> usize {
        self.group.size()
    }

    /// Whether this rank writes the run's files.
    pub fn is_leader(&self) -> bool {
        self.rank() == 0
    }

    /// Where this rank computes.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Says what this rank is doing from now on, for the others' error when it is missing. Where it is known how
    /// long that takes, a rank that hangs in it is given up sooner.
    ///
    /// # Errors
    /// A backend that takes no deadline.
    pub fn enter_phase(&self, kind: PhaseKind, name: &str) -> Result<(), TorchError> {
        let known = self.lengths.borrow_mut().enter(kind);
        let Some(most) = self.group.timeout() else {
            return Ok(());
        };
        self.group.enter_phase(name);
        self.group
            .set_timeout(known.map_or(most, |known| known.min(most)))
    }

    /// The deadline of a rank that hangs, where there are several.
    pub fn timeout(&self) -> Option<Duration> {
        self.group.timeout()
    }

    /// A stage begins: how long its phases are is not known.
    pub fn forget_lengths(&self) {
        *self.lengths.borrow_mut() = PhaseLengths::new();
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn barrier(&self) -> Result<(), TorchError> {
        let _span = tracing::trace_span!("barrier").entered();
        self.group.barrier()
    }

    /// Sums `flat [N]` over all ranks in place, bucket by bucket.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn sum_gradients(&self, flat: &Tensor) -> Result<(), TorchError> {
        if self.size() == 1 {
            return Ok(());
        }
        let _span = tracing::trace_span!("all_reduce", elements = flat.numel()).entered();
        let total = flat.size()[0];
        for start in (0..total).step_by(BUCKET as usize) {
            self.group
                .all_reduce(&flat.narrow(0, start, BUCKET.min(total - start)))?;
        }
        Ok(())
    }

    /// Sums a few numbers over all ranks.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn sum<const N: usize>(&self, numbers: [f64; N]) -> Result<[f64; N], TorchError> {
        if self.size() == 1 {
            return Ok(numbers);
        }
        let tensor = Tensor::from_slice(&numbers).to_device(self.device);
        self.group.all_reduce(&tensor)?;
        Ok(std::array::from_fn(|index| {
            tensor.double_value(&[index as i64])
        }))
    }

    /// Whether any rank says yes: what is decided by it is decided on all.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn any(&self, yes: bool) -> Result<bool, TorchError> {
        Ok(self.sum([f64::from(yes)])?[0] > 0.0)
    }

    /// Every rank's numbers, in rank order, on every rank.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn all_gather(&self, own: &[f64]) -> Result<Vec<Vec<f64>>, TorchError> {
        if self.size() == 1 {
            return Ok(vec![own.to_vec()]);
        }
        let _span = tracing::trace_span!("all_gather", elements = own.len()).entered();
        let lengths = self.lengths(own.len())?;
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut padded = own.to_vec();
        padded.resize(longest, 0.0);
        let all = Tensor::zeros(
            [(self.size() * longest) as i64],
            (Kind::Double, self.device),
        );
        let own = Tensor::from_slice(&padded).to_device(self.device);
        self.group.all_gather(&all, &own)?;
        let all = all.to_device(Device::Cpu);
        let mut flat = vec![0.0f64; self.size() * longest];
        let count = flat.len();
        all.copy_data(&mut flat, count);
        Ok(parts(&flat, longest, &lengths))
    }

    /// Every rank's bytes, in rank order, on every rank.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn all_gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TorchError> {
        if self.size() == 1 {
            return Ok(vec![own.to_vec()]);
        }
        let _span = tracing::trace_span!("all_gather", bytes = own.len()).entered();
        let lengths = self.lengths(own.len())?;
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let own = Tensor::from_slice(&padded).to_device(self.device);
        let count = self.size() * longest;
        let all = Tensor::zeros([count as i64], (Kind::Uint8, self.device));
        self.group.all_gather(&all, &own)?;
        let mut flat = vec![0u8; count];
        all.to_device(Device::Cpu).copy_data_u8(&mut flat, count);
        Ok(parts(&flat, longest, &lengths))
    }

    /// Every rank's bytes, in rank order, on rank 0; nothing on the others.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn gather_to_leader(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TorchError> {
        if self.size() == 1 {
            return Ok(vec![own.to_vec()]);
        }
        let _span = tracing::trace_span!("gather", bytes = own.len()).entered();
        let lengths = self.lengths(own.len())?;
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let own = Tensor::from_slice(&padded).to_device(self.device);
        let places = if self.is_leader() { self.size() } else { 0 };
        let all = Tensor::zeros([(places * longest) as i64], (Kind::Uint8, self.device));
        self.group.gather(&all, &own, 0)?;
        if !self.is_leader() {
            return Ok(Vec::new());
        }
        let all = all.to_device(Device::Cpu);
        let mut flat = vec![0u8; places * longest];
        let count = flat.len();
        all.copy_data_u8(&mut flat, count);
        Ok(parts(&flat, longest, &lengths))
    }

    /// Rank 0's bytes, on every rank; what the others hand in is not looked at.
    ///
    /// # Errors
    /// A lost rank, named.
    pub fn broadcast_from_leader(&self, own: &[u8]) -> Result<Vec<u8>, TorchError> {
        if self.size() == 1 {
            return Ok(own.to_vec());
        }
        let _span = tracing::trace_span!("broadcast", bytes = own.len()).entered();
        let length = Tensor::from_slice(&[own.len() as i64]).to_device(self.device);
        self.group.broadcast(&length, 0)?;
        let count = length.int64_value(&[0]) as usize;
        let mut bytes = own.to_vec();
        // A collective of nothing is none for some backends.
        bytes.resize(count.max(1), 0);
        let bytes = Tensor::from_slice(&bytes).to_device(self.device);
        self.group.broadcast(&bytes, 0)?;
        let bytes = bytes.to_device(Device::Cpu);
        let mut out = vec![0u8; count.max(1)];
        let all = out.len();
        bytes.copy_data_u8(&mut out, all);
        out.truncate(count);
        Ok(out)
    }

    fn lengths(&self, own: usize) -> Result<Vec<usize>, TorchError> {
        let size = self.size() as i64;
        let all = Tensor::zeros([size], (Kind::Int64, self.device));
        let own = Tensor::from_slice(&[own as i64]).to_device(self.device);
        self.group.all_gather(&all, &own)?;
        Ok((0..size)
            .map(|rank| all.int64_value(&[rank]) as usize)
            .collect())
    }
}

/// The first `lengths[r]` of each part of `longest` elements.
fn parts<T: Clone>(flat: &[T], longest: usize, lengths: &[usize]) -> Vec<Vec<T>> {
    let padded = flat.chunks(longest).zip(lengths);
    padded.map(|(part, len)| part[..*len].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_known_by_those_before_it() {
        let mut lengths = PhaseLengths::new();
        for _ in 0..3 {
            assert_eq!(lengths.enter(PhaseKind::Step), None);
            assert_eq!(lengths.enter(PhaseKind::Checkpoint), None);
        }
        lengths.known[PhaseKind::Step as usize].1 = Duration::from_secs(5);
        assert_eq!(
            lengths.enter(PhaseKind::Step),
            Some(Duration::from_secs(160))
        );
        assert_eq!(lengths.enter(PhaseKind::Once), None);
        assert_eq!(lengths.enter(PhaseKind::Evaluation), None);
    }
}
