//! Direct preference optimisation: a step over pairs, and the pure loss that it is made of.

mod draw;
pub mod loss;
mod prepare;
mod reference;
mod step;
