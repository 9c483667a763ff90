//! What tells a policy's weights from others.

use models::Decoder;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::TrainError;

/// Elements that are brought to memory at a time.
const CHUNK: i64 = 32 << 20;

/// Sixteen hexadecimal digits for the weights of `model`, in the kind that it computes in; adapters do not count.
///
/// # Errors
/// libtorch ending an operation.
pub(crate) fn weights_digest(model: &Decoder) -> Result<String, TrainError> {
    let mut hasher = Sha256::new();
    let base = model.adapters().is_none().then(|| model.params.trainable());
    for flat in base.into_iter().chain([model.params.frozen()]) {
        let total = flat.numel() as i64;
        hasher.update(total.to_le_bytes());
        for start in (0..total).step_by(CHUNK as usize) {
            let bytes = bytes(flat, start, CHUNK.min(total - start))?;
            let sums: Vec<u32> = bytes.par_chunks(1 << 20).map(crc32fast::hash).collect();
            sums.iter().for_each(|sum| hasher.update(sum.to_le_bytes()));
        }
    }
    let digest = hasher.finalize();
    Ok(digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn bytes(flat: &Tensor, start: i64, len: i64) -> Result<Vec<u8>, TrainError> {
    let part = flat.detach().narrow(0, start, len).to_device(Device::Cpu);
    let raw = part.contiguous().f_view_dtype(Kind::Uint8);
    let raw = raw.map_err(|error| TrainError::Learner(error.to_string()))?;
    let count = raw.numel();
    let mut bytes = vec![0u8; count];
    raw.copy_data_u8(&mut bytes, count);
    Ok(bytes)
}
