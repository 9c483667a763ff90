//! What tells a policy's weights from others.

use std::ops::Range;

use models::Decoder;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::TrainError;

/// Elements that are brought to memory at a time.
const CHUNK: i64 = 32 << 20;

/// Sixteen hexadecimal digits for the weights of `model`, which must be in memory, in the kind that it computes in;
/// adapters do not count.
///
/// # Errors
/// libtorch ending an operation.
pub(crate) fn weights_digest(model: &Decoder) -> Result<String, TrainError> {
    let (mut hasher, params) = (Sha256::new(), &model.params);
    if model.adapters().is_none() {
        let learn = params.trainable_len();
        add(&mut hasher, learn, &|range| params.trainable_part(range))?;
    }
    let frozen = params.frozen();
    add(&mut hasher, frozen.numel() as i64, &|range| {
        frozen.narrow(0, range.start, range.end - range.start)
    })?;
    let digest = hasher.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Adds `total` numbers, which `part` gives a range of.
fn add(
    hasher: &mut Sha256,
    total: i64,
    part: &dyn Fn(Range<i64>) -> Tensor,
) -> Result<(), TrainError> {
    hasher.update(total.to_le_bytes());
    for start in (0..total).step_by(CHUNK as usize) {
        let bytes = bytes(&part(start..total.min(start + CHUNK)))?;
        let sums: Vec<u32> = bytes.par_chunks(1 << 20).map(crc32fast::hash).collect();
        sums.iter().for_each(|sum| hasher.update(sum.to_le_bytes()));
    }
    Ok(())
}

fn bytes(part: &Tensor) -> Result<Vec<u8>, TrainError> {
    let part = part.detach().to_device(Device::Cpu);
    let raw = part.contiguous().f_view_dtype(Kind::Uint8);
    let raw = raw.map_err(|error| TrainError::Learner(error.to_string()))?;
    let count = raw.numel();
    let mut bytes = vec![0u8; count];
    raw.copy_data_u8(&mut bytes, count);
    Ok(bytes)
}
