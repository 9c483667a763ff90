//! The config as users meet it: its reference, its schema, the shipped files, and mistakes.

mod folders;
mod mistakes;
mod reference;
