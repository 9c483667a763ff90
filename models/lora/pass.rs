//! What a forward pass tells adapters.

use tch::Tensor;

/// What adapters do in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdapterMode {
    /// They take part, without dropout.
    #[default]
    On,
    /// They are left out: the base alone.
    Off,
    /// They take part and learn: where the section asks for dropout, its masks belong to this key.
    Learn(u64),
}

/// What adapters need to know of a pass.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct AdapterPass<'a> {
    /// What they do.
    pub(crate) mode: AdapterMode,
    /// Keys of the rows `[n]` int64, >= 0, for dropout; without them a row is known by its place.
    pub(crate) rows: Option<&'a Tensor>,
}

impl AdapterPass<'_> {
    /// They take part, without dropout.
    pub(crate) const ON: Self = Self {
        mode: AdapterMode::On,
        rows: None,
    };
}
