//! Data that a policy's own drawings make: drafts for refinement (CTRL-S), critiques and corrections (IntroSVG).
//!
//! Candidates are sampled and kept in a journal beside the file that is asked for, and what a judge says in another, so
//! that an interrupted making goes on. The file itself appears whole.

mod candidates;
pub mod corrections;
pub mod critiques;
pub mod drafts;
mod judged;
