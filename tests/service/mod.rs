//! `svgrl serve-rewards` as a process: what it answers, what it refuses, how it ends, and what other
//! trainers and svgrl's own get from it.

mod answers;
mod clients;
mod drain;
mod machine;
mod process;
mod refusals;
mod remote;
mod several;
mod shutdown;
