//! The config as users meet it: its reference, its schema, the shipped files, and mistakes.

mod base;
mod epochs;
mod folders;
mod mistakes;
mod reference;
