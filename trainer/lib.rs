//! trainer
pub mod config_check;
pub mod tensorboard;
