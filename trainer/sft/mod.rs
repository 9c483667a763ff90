//! Supervised fine-tuning.

mod step;
