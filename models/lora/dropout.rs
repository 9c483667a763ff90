//! Dropout whose masks are computed, not drawn: a number is kept or not by a hash of its row's key, its
//! column, its layer and the update. Running a block again gives the same mask, and neither the order of
//! micro-batches nor the number of ranks changes it.
//!
//! A text row's key is a hash of the tokens up to it, which is all that its hidden state depends on; so a
//! prompt has one mask, however often it is computed. Rows of the vision tower are keyed by their place
//! in the call.

use tch::{Kind, Tensor};

/// The bits that a hash works with.
const WORD: i64 = 0xffff_ffff;

/// SplitMix64's step (Steele et al. 2014): a hash of `a` and `b`.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15).rotate_left(17);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// A hash of a name.
pub(super) fn name_key(name: &str) -> u64 {
    let bytes = name.bytes();
    bytes.fold(0x6c6f_7261, |key, byte| mix(key, u64::from(byte)))
}

/// The key of every row of `ids`, which follow a row with the key `before`: each depends on the ids up to it.
pub(crate) fn chain_keys(before: Option<i64>, ids: &[i64]) -> Vec<i64> {
    let mut key = before.map_or(0, |key| key as u64);
    let next = |id: &i64| {
        // Non-negative, so that shifting it right brings zeros in.
        key = mix(key, *id as u64) >> 1;
        key as i64
    };
    ids.iter().map(next).collect()
}

/// Sets a share `p` of `x [n, wide]` to zero and divides the rest by what is kept. `rows [n]` int64, >= 0, are
/// the rows' keys.
pub(super) fn dropout(x: &Tensor, rows: &Tensor, key: u64, p: f64) -> Tensor {
    let kept = tch::no_grad(|| keep(rows, x.size()[1], key, p));
    x * kept.to_kind(x.kind()) / (1.0 - p)
}

/// Which numbers are kept, `[n, wide]` bool.
fn keep(rows: &Tensor, wide: i64, key: u64, p: f64) -> Tensor {
    let [low, high] = [key & 0xffff_ffff, key >> 32].map(|word| word as i64);
    let rows = word(&(rows.bitwise_and(WORD)).bitwise_xor(low))
        .bitwise_xor_tensor(&word(&rows.bitwise_right_shift_tensor_scalar(32i64)));
    let columns = Tensor::arange(wide, (Kind::Int64, rows.device()));
    let columns = word(&(columns + high).bitwise_and(WORD));
    let hash = word(&(rows.unsqueeze(1) + columns.unsqueeze(0)).bitwise_and(WORD));
    hash.ge((p * (WORD + 1) as f64).round() as i64)
}

/// Murmur3's finaliser over numbers of 32 bits: every bit of the input moves every bit of the output.
fn word(x: &Tensor) -> Tensor {
    let shifted =
        |x: &Tensor, by: i64| x.bitwise_xor_tensor(&x.bitwise_right_shift_tensor_scalar(by));
    let spread = |x: &Tensor, by: i64, factor: i64| {
        // The product wraps around, which its low word does not see.
        let mut product = shifted(x, by) * factor;
        product.bitwise_and_(WORD)
    };
    let x = spread(x, 16, 0x85eb_ca6b);
    shifted(&spread(&x, 13, 0xc2b2_ae35), 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: &[i64]) -> Tensor {
        Tensor::from_slice(keys)
    }

    #[test]
    fn the_share_that_is_kept_is_right_and_unbiased() {
        let keys = chain_keys(None, &(0..500).collect::<Vec<_>>());
        let kept = keep(&rows(&keys), 400, mix(3, 4), 0.1).to_kind(Kind::Double);
        let share = kept.mean(Kind::Double).double_value(&[]);
        // 200,000 draws: a standard deviation of 0.0007.
        assert!((share - 0.9).abs() < 0.003, "{share}");
        let by_row = kept
            .mean_dim(1, false, Kind::Double)
            .std(true)
            .double_value(&[]);
        let by_column = kept
            .mean_dim(0, false, Kind::Double)
            .std(true)
            .double_value(&[]);
        // sqrt(0.09 / 400) and sqrt(0.09 / 500).
        assert!((by_row - 0.015).abs() < 0.003, "{by_row}");
        assert!((by_column - 0.0134).abs() < 0.003, "{by_column}");
    }

    #[test]
    fn what_is_kept_makes_up_for_what_is_not() {
        let keys = rows(&chain_keys(None, &(0..64).collect::<Vec<_>>()));
        let x = Tensor::ones([64, 64], (Kind::Double, tch::Device::Cpu)) * 3.0;
        let all = (0..400).map(|update| dropout(&x, &keys, mix(update, 7), 0.3));
        let mean = all.fold(x.zeros_like(), |sum, one| sum + one) / 400.0;
        assert!((mean.mean(Kind::Double).double_value(&[]) - 3.0).abs() < 0.01);
        // 3 sqrt(0.3 / 0.7 / 400) = 0.098 for each number.
        let spread = mean.std(true).double_value(&[]);
        assert!((spread - 0.098).abs() < 0.01, "{spread}");
        assert!((mean - 3.0).abs().max().double_value(&[]) < 0.6);
    }

    #[test]
    fn layers_and_updates_have_masks_of_their_own() {
        let keys = chain_keys(None, &[5; 64]);
        let of = |key: u64| keep(&rows(&keys), 64, key, 0.5).to_kind(Kind::Double);
        let first = of(mix(1, 2));
        assert_eq!(first, of(mix(1, 2)));
        for other in [mix(2, 2), mix(1, 3), mix(1, 2) ^ 1, mix(1, 2) ^ (1 << 40)] {
            let same = first.eq_tensor(&of(other)).to_kind(Kind::Double);
            let same = same.mean(Kind::Double).double_value(&[]);
            assert!((same - 0.5).abs() < 0.05, "{same}");
        }
    }

    #[test]
    fn a_row_s_key_is_that_of_the_tokens_up_to_it() {
        let whole = chain_keys(None, &[1, 2, 3, 4]);
        let prompt = chain_keys(None, &[1, 2]);
        let rest = chain_keys(prompt.last().copied(), &[3, 4]);
        assert_eq!([prompt, rest].concat(), whole);
        assert_ne!(chain_keys(None, &[2, 1])[1], whole[1]);
        assert!(whole.iter().all(|key| *key >= 0));
    }
}
