//! A prompt's pictures as bytes, for another process of the same build: counts and numbers as little-endian 64-bit
//! integers, pixels as they are.

use super::picture::ProcessedPicture;
use super::prompt::PromptImages;
use crate::input::ImagePositions;

impl PromptImages {
    /// These pictures for [`Self::from_bytes`].
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |numbers: &[i64]| out.extend(numbers.iter().flat_map(|it| it.to_le_bytes()));
        let positions = &self.positions;
        put(&[
            self.pictures.len() as i64,
            positions.rows.len() as i64,
            positions.positions.len() as i64,
            positions.next,
        ]);
        put(&positions.rows);
        positions.positions.iter().for_each(|row| put(row));
        for picture in &self.pictures {
            let (high, wide) = picture.grid;
            let bytes = picture.pixels.len() as i64;
            put(&[picture.rows, high, wide, picture.tokens, bytes]);
        }
        for picture in &self.pictures {
            out.extend_from_slice(&picture.pixels);
        }
        out
    }

    /// What [`Self::to_bytes`] wrote; none of anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [pictures, rows, positions, next] = numbers(&mut rest)?;
        let rows = (0..rows).map(|_| numbers::<1>(&mut rest).map(|[row]| row));
        let rows = rows.collect::<Option<Vec<i64>>>()?;
        let positions = (0..positions).map(|_| numbers::<3>(&mut rest));
        let positions = positions.collect::<Option<Vec<_>>>()?;
        let heads = (0..pictures).map(|_| numbers::<5>(&mut rest));
        let heads = heads.collect::<Option<Vec<_>>>()?;
        let picture = |[rows, high, wide, tokens, bytes]: [i64; 5]| {
            let (pixels, after) = rest.split_at_checked(usize::try_from(bytes).ok()?)?;
            rest = after;
            Some(ProcessedPicture {
                pixels: pixels.to_vec(),
                rows,
                grid: (high, wide),
                tokens,
            })
        };
        let pictures = heads.into_iter().map(picture).collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self {
            pictures,
            positions: ImagePositions {
                rows,
                positions,
                next,
            },
        })
    }
}

fn numbers<const N: usize>(bytes: &mut &[u8]) -> Option<[i64; N]> {
    let mut out = [0; N];
    for number in &mut out {
        let (first, rest) = bytes.split_first_chunk()?;
        *number = i64::from_le_bytes(*first);
        *bytes = rest;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_arrive_as_they_left_and_nothing_else_is_taken_for_them() {
        let picture = |side: i64, fill: u8| ProcessedPicture {
            pixels: vec![fill; (side * side * 3) as usize],
            rows: side,
            grid: (side, 1),
            tokens: side / 2,
        };
        let images = PromptImages {
            pictures: vec![picture(4, 9), picture(6, 200)],
            positions: ImagePositions {
                rows: vec![2, 3, 5],
                positions: vec![[0, 0, 0], [1, 2, 3], [-1, 7, 9]],
                next: 10,
            },
        };
        let bytes = images.to_bytes();
        assert_eq!(PromptImages::from_bytes(&bytes), Some(images));
        for cut in 0..bytes.len() {
            assert_eq!(PromptImages::from_bytes(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(PromptImages::from_bytes(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(PromptImages::from_bytes(&[0xff; 64]), None);
    }
}
