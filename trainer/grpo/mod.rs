//! Group-relative policy optimisation: a step, and the pure functions it is made of.

pub mod advantage;
mod ahead;
mod balance;
pub mod correction;
mod gather;
mod length;
pub mod loss;
mod minibatch;
mod report;
mod shaped;
mod step;
mod update;
