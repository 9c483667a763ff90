//! Plain data parallelism: every rank holds the whole policy, gradients are summed.
//!
//! A rank is one process; a world of one is [`ProcessGroup::Solo`] and does nothing here.

use tch::{Device, Kind, Tensor};
use torch_ext::{ProcessGroup, TorchError};

/// Elements of one bucket of gradients: 100 MB in float32.
const BUCKET: i64 = 25 << 20;

/// Sums `flat [N]` over all ranks, bucket by bucket.
///
/// # Errors
/// A lost rank, named.
pub fn sum_buckets(group: &ProcessGroup, flat: &Tensor) -> Result<(), TorchError> {
    if group.size() == 1 {
        return Ok(());
    }
    let total = flat.size()[0];
    for start in (0..total).step_by(BUCKET as usize) {
        group.all_reduce(&flat.narrow(0, start, BUCKET.min(total - start)))?;
    }
    Ok(())
}

/// Sums a few numbers over all ranks.
///
/// # Errors
/// A lost rank, named.
pub fn sum_numbers(
    group: &ProcessGroup,
    device: Device,
    numbers: &[f64],
) -> Result<Vec<f64>, TorchError> {
    if group.size() == 1 {
        return Ok(numbers.to_vec());
    }
    let tensor = Tensor::from_slice(numbers).to_device(device);
    group.all_reduce(&tensor)?;
    Ok((0..numbers.len() as i64)
        .map(|index| tensor.double_value(&[index]))
        .collect())
}

/// Every rank's bytes, in rank order, on every rank.
///
/// # Errors
/// A lost rank, named.
pub fn gather_bytes(
    group: &ProcessGroup,
    device: Device,
    bytes: &[u8],
) -> Result<Vec<Vec<u8>>, TorchError> {
    if group.size() == 1 {
        return Ok(vec![bytes.to_vec()]);
    }
    let size = group.size() as i64;
    let options = (Kind::Int64, device);
    let lengths = Tensor::zeros([size], options);
    group.all_gather(
        &lengths,
        &Tensor::from_slice(&[bytes.len() as i64]).to_device(device),
    )?;
    let lengths: Vec<usize> = (0..size)
        .map(|rank| lengths.int64_value(&[rank]) as usize)
        .collect();
    let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
    let mut padded = bytes.to_vec();
    padded.resize(longest, 0);
    let all = Tensor::zeros([size * longest as i64], (Kind::Uint8, device));
    group.all_gather(&all, &Tensor::from_slice(&padded).to_device(device))?;
    let all = all.to_device(Device::Cpu);
    let mut flat = vec![0u8; longest * size as usize];
    all.copy_data_u8(&mut flat, longest * size as usize);
    Ok(lengths
        .iter()
        .enumerate()
        .map(|(rank, len)| flat[rank * longest..rank * longest + len].to_vec())
        .collect())
}
