//! What went through an encoder.

/// What went through an encoder so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderCount {
    /// Forward passes.
    pub passes: u64,
    /// Pictures and texts in them, the copies that fill a pass up not counted.
    pub items: u64,
}
