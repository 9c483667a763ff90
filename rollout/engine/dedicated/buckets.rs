//! Weights on their way: a block's tensors of one kind lie together in a bucket, which is broadcast at once; both ends make
//! the same buckets, and a digest of the bits tells whether what arrived is what was sent.

use models::Decoder;
use tch::{Kind, Tensor};
use torch_ext::{ProcessGroup, TorchError};

use crate::RolloutError;
use crate::engine::WeightBlocks;
use crate::engine::weights::Unadapted;
use crate::mix;

/// Numbers of a bucket beyond which another one is begun.
const BUCKET: usize = 32 << 20;

/// What tells weights from others: of every tensor the sum of its bits as integers, in order.
#[derive(Debug, Default)]
pub(super) struct WeightDigest {
    sums: Vec<Tensor>,
}

impl WeightDigest {
    /// Adds the next tensor, whose numbers lie one after the other.
    fn add(&mut self, values: &Tensor) -> Result<(), tch::TchError> {
        let whole = match values.kind().elt_size_in_bytes() {
            8 => Kind::Int64,
            4 => Kind::Int,
            2 => Kind::Int16,
            _ => Kind::Int8,
        };
        let bits = values.f_view([-1])?.f_view_dtype(whole)?;
        self.sums.push(bits.f_sum(Kind::Int64)?);
        Ok(())
    }

    /// The digest.
    fn finish(self) -> Result<u64, tch::TchError> {
        if self.sums.is_empty() {
            return Ok(0);
        }
        let sums = Vec::<i64>::try_from(Tensor::f_stack(&self.sums, 0)?)?;
        Ok(sums
            .into_iter()
            .fold(1, |state, sum| mix(state, sum as u64)))
    }
}

/// Names, shapes and kind of a policy's tensors, as a number: two ends with the same one make the same buckets.
pub(super) fn weight_plan(policy: &Decoder) -> u64 {
    let text = |state: u64, text: &str| {
        text.bytes()
            .fold(mix(state, text.len() as u64), |state, byte| {
                mix(state, byte.into())
            })
    };
    let kind = text(1, &format!("{:?}", policy.kind()));
    policy.params.specs().iter().fold(kind, |state, spec| {
        let named = text(state, &spec.name);
        let sides = spec.shape.iter();
        sides.fold(named, |state, side| mix(state, *side as u64))
    })
}

/// How many weights went, and what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SentWeights {
    /// Bytes.
    pub(super) bytes: u64,
    /// [`WeightDigest`].
    pub(super) digest: u64,
}

/// Why weights did not go: the group broke, or something that ends more than it.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The group: whoever is left makes another one.
    Group(TorchError),
    /// Anything else.
    Other(RolloutError),
}

impl From<tch::TchError> for Unsent {
    fn from(error: tch::TchError) -> Self {
        Self::Other(RolloutError::Torch(error.to_string()))
    }
}

/// Broadcasts `weights`, whose tensors are to lie where `policy` lies, from rank 0 of `group`.
///
/// # Errors
/// A group that broke; libtorch's.
pub(super) fn send_weights(
    group: &ProcessGroup,
    weights: &dyn WeightBlocks,
    policy: &Decoder,
) -> Result<SentWeights, Unsent> {
    let (mut digest, mut bytes) = (WeightDigest::default(), 0);
    let mut send = |bucket: &[Tensor]| -> Result<(), Unsent> {
        let flat = bucket.iter().map(|values| values.f_view([-1]));
        let flat = flat.collect::<Result<Vec<_>, _>>()?;
        let whole = match flat.as_slice() {
            [alone] => alone.shallow_clone(),
            all => Tensor::f_cat(all, 0)?,
        };
        for values in bucket {
            digest.add(values)?;
            bytes += (values.numel() * values.kind().elt_size_in_bytes()) as u64;
        }
        group.broadcast(&whole, 0).map_err(Unsent::Group)
    };
    each_bucket(weights, policy, &mut send)?;
    Ok(SentWeights {
        bytes,
        digest: digest.finish()?,
    })
}

/// Takes what rank 0 of `group` broadcasts into `policy`; the digest of what it has then.
///
/// # Errors
/// A group that broke; libtorch's.
pub(super) fn take_weights(group: &ProcessGroup, policy: &Decoder) -> Result<u64, Unsent> {
    let mut digest = WeightDigest::default();
    let mut take = |bucket: &[Tensor]| -> Result<(), Unsent> {
        let numbers: i64 = bucket.iter().map(|values| values.numel() as i64).sum();
        let whole = Tensor::f_empty([numbers], (bucket[0].kind(), bucket[0].device()))?;
        group.broadcast(&whole, 0).map_err(Unsent::Group)?;
        let mut at = 0;
        for values in bucket {
            let own = whole.f_narrow(0, at, values.numel() as i64)?;
            at += values.numel() as i64;
            values.shallow_clone().f_copy_(&own.f_view_as(values)?)?;
            digest.add(values)?;
        }
        Ok(())
    };
    each_bucket(&Unadapted(policy), policy, &mut take)?;
    Ok(digest.finish()?)
}

/// The digest of `weights` as they are, without sending them.
///
/// # Errors
/// libtorch's.
pub(super) fn digest_of(weights: &dyn WeightBlocks, policy: &Decoder) -> Result<u64, Unsent> {
    let mut digest = WeightDigest::default();
    each_bucket(weights, policy, &mut |bucket| {
        Ok(bucket.iter().try_for_each(|values| digest.add(values))?)
    })?;
    Ok(digest.finish()?)
}

/// Hands the tensors of `weights` to `visit`, bucket by bucket, each with its numbers one after the other on the device of
/// `policy`. A block is dropped before the next one is made.
fn each_bucket(
    weights: &dyn WeightBlocks,
    policy: &Decoder,
    visit: &mut dyn FnMut(&[Tensor]) -> Result<(), Unsent>,
) -> Result<(), Unsent> {
    for index in 0..weights.blocks() {
        let mut block = Vec::new();
        let mut take = |_: &str, values: &Tensor| -> Result<(), RolloutError> {
            block.push(values.detach().to_device(policy.device()).contiguous());
            Ok(())
        };
        weights.block(index, &mut take).map_err(Unsent::Other)?;
        let mut numbers = 0;
        let mut from = 0;
        for at in 0..block.len() {
            let own = block[at].numel();
            let other = block[at].kind() != block[from].kind();
            if at > from && (other || numbers + own > BUCKET) {
                visit(&block[from..at])?;
                (from, numbers) = (at, 0);
            }
            numbers += own;
        }
        if from < block.len() {
            visit(&block[from..])?;
        }
    }
    Ok(())
}
