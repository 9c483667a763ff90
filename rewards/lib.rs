//! rewards
pub mod reference;
pub use reference::{ImageSource, Reference};
