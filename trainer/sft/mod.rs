//! Supervised fine-tuning.

mod step;

pub use step::SftTrainer;
