//! The ranks of a run and what they tell each other: sums, votes, rewards, sample rows.
//!
//! Plain data parallelism: every rank holds the whole policy, gradients are summed. A rank is one
//! process; in a world of one nothing is sent.

use tch::{Device, Kind, Tensor};
use torch_ext::{ProcessGroup, TorchError};

/// Elements of one bucket of gradients: 100 MB in float32.
const BUCKET: i64 = 25 << 20;

/// The ranks that compute together, and where this one computes.
#[derive(Debug)]
pub struct Ranks {
    group: ProcessGroup,
    device: Device,
}

impl Ranks {
    /// The ranks of `group`, this one computing on `device`.
    pub fn new(group: ProcessGroup, device: Device) -> Self {
        Self { group, device }
    }

    /// A world of one.
    pub fn single(device: Device) -> Self {
        Self::new(ProcessGroup::Solo, device)
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

    /// Says what this rank is doing from now on, for the others' error when it is missing.
    pub fn enter_phase(&self, name: &str) {
        self.group.enter_phase(name);
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
