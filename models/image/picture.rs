//! A picture cut for a vision tower.

/// A picture as a tower takes it, before normalisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessedPicture {
    /// 8-bit sRGB `[rows, 3, S, S]`: patches that are merged next to each other, or tiles.
    pub pixels: Vec<u8>,
    /// Patches or tiles.
    pub rows: i64,
    /// Patch rows and columns, or the number of tiles and 1.
    pub grid: (i64, i64),
    /// Image tokens that it takes in the prompt.
    pub tokens: i64,
}
