//! The five systems: their pages, and each in small.

mod documents;
mod judge;
mod making;
mod twins;
