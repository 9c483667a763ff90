//! Whether the sizes that config.json names for a tower fit each other and the decoder.

use super::config::{VisionConfig, VisionNetwork};
use crate::ModelError;
use crate::json_section::Keys;

impl VisionConfig {
    /// Refuses sizes that do not fit each other.
    pub(super) fn check(&self, keys: &Keys) -> Result<(), ModelError> {
        let inside = |key: &str, blocks: &[i64]| match blocks
            .iter()
            .find(|block| !(0..self.depth).contains(*block))
        {
            Some(block) => Err(keys.bad(
                key,
                format!("must name blocks from 0 to {}, got {block}", self.depth - 1),
            )),
            None => Ok(()),
        };
        let turned = !matches!(self.network, VisionNetwork::InternVl(_));
        let head = self.hidden_size / self.num_heads;
        if turned && head % 4 != 0 {
            return Err(keys.bad(
                "num_heads",
                format!("a head must be a multiple of 4 wide, is {head} (rows and columns turn halves of it)"),
            ));
        }
        match &self.network {
            VisionNetwork::Qwen3Vl { taps, .. } => {
                inside("deepstack_visual_indexes", taps)?;
                if taps.windows(2).any(|pair| pair[0] >= pair[1]) {
                    return Err(keys.bad(
                        "deepstack_visual_indexes",
                        format!("must ascend, got {taps:?}"),
                    ));
                }
                Ok(())
            }
            VisionNetwork::Qwen25Vl { window, whole, .. } => {
                inside("fullatt_block_indexes", whole)?;
                let least = self.patch_size * self.merge;
                match *window >= least {
                    true => Ok(()),
                    false => Err(keys.bad(
                        "window_size",
                        format!("must be at least a token's {least} pixels, got {window}"),
                    )),
                }
            }
            VisionNetwork::InternVl(_) => Ok(()),
        }
    }

    /// Refuses what does not fit a decoder of so many rows and blocks.
    pub(crate) fn check_decoder(
        &self,
        whole: &Keys,
        vocab_size: i64,
        blocks: i64,
    ) -> Result<(), ModelError> {
        let image = self.tokens.image;
        if image >= vocab_size {
            return Err(whole.bad(
                "image_token_id",
                format!("must be below vocab_size {vocab_size}, is {image}"),
            ));
        }
        match &self.network {
            VisionNetwork::Qwen3Vl { taps, .. } if taps.len() as i64 > blocks => Err(whole.bad(
                "vision_config.deepstack_visual_indexes",
                format!(
                    "{} features for a decoder of {blocks} blocks, one each",
                    taps.len()
                ),
            )),
            _ => Ok(()),
        }
    }
}
