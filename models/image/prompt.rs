//! The pictures of a prompt among its token ids: which rows show them, and how the rows count.

use super::picture::ProcessedPicture;
use crate::input::ImagePositions;

/// The pictures of a prompt and their places in it: plain data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptImages {
    /// The pictures, not none.
    pub pictures: Vec<ProcessedPicture>,
    /// Their places and the positions of the prompt's rows.
    pub positions: ImagePositions,
}

impl PromptImages {
    /// Patches or tiles of all its pictures.
    pub fn rows(&self) -> i64 {
        self.pictures.iter().map(|picture| picture.rows).sum()
    }
}

/// How a family lays pictures out among tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PromptLayout {
    /// The id that stands for a piece of a picture.
    pub(super) image_token: i64,
    /// Patches along each side of a token where rows and columns have positions of their own
    /// (Qwen-VL); `None` where every token is one position further.
    pub(super) merge: Option<i64>,
}

impl PromptLayout {
    /// Where `pictures` are among `ids`, whose image tokens stand expanded.
    ///
    /// # Errors
    /// A picture whose tokens are not all there, or tokens of none.
    pub(super) fn image_positions(
        &self,
        ids: &[i64],
        pictures: &[ProcessedPicture],
    ) -> Result<ImagePositions, String> {
        let mut sight = ImagePositions::default();
        let mut rest = pictures.iter();
        let mut at = 0;
        while at < ids.len() {
            if ids[at] != self.image_token {
                sight.positions.push([sight.next; 3]);
                sight.next += 1;
                at += 1;
                continue;
            }
            let run = ids[at..]
                .iter()
                .take_while(|id| **id == self.image_token)
                .count();
            // InternVL's tiles and neighbouring pictures may touch; Qwen's are always apart.
            let mut left = run as i64;
            while left > 0 {
                let picture = rest.next().ok_or_else(|| {
                    format!(
                        "image tokens for more than the {} picture(s) given",
                        pictures.len()
                    )
                })?;
                if left < picture.tokens || (self.merge.is_some() && left > picture.tokens) {
                    return Err(format!(
                        "{left} image tokens stand where a picture of grid {}x{} takes {}",
                        picture.grid.0, picture.grid.1, picture.tokens
                    ));
                }
                let from = at as i64 + run as i64 - left;
                sight.rows.extend(from..from + picture.tokens);
                self.count(&mut sight, picture);
                left -= picture.tokens;
            }
            at += run;
        }
        match rest.count() {
            0 => Ok(sight),
            missing => Err(format!(
                "{} picture(s) were given, and image tokens for {}",
                pictures.len(),
                pictures.len() - missing
            )),
        }
    }

    /// Appends a picture's positions: plain, or by rows and columns of merged patches from where
    /// the text stopped, and the text after it goes on beyond the longer side.
    fn count(&self, sight: &mut ImagePositions, picture: &ProcessedPicture) {
        let from = sight.next;
        let Some(merge) = self.merge else {
            let places = from..from + picture.tokens;
            sight.positions.extend(places.map(|at| [at; 3]));
            sight.next += picture.tokens;
            return;
        };
        let (rows, columns) = (picture.grid.0 / merge, picture.grid.1 / merge);
        for row in 0..rows {
            for column in 0..columns {
                sight.positions.push([from, from + row, from + column]);
            }
        }
        sight.next += rows.max(columns);
    }
}
