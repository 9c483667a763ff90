//! What the program and its crates promise, checked through their public doors; one binary, so
//! that it links once.

#![allow(clippy::panic, clippy::unwrap_used)]

/// Commands as processes: rows in, rows out, exit status, sentences, files.
mod cli;
/// The config's reference and schema, and what is said about mistakes in it.
mod config;
/// A GPU, or a pretended one, against the CPU.
mod devices;
/// The book: its links, what it says of rewards and messages, and the lines that it tells to type.
mod docs;
/// Sampling by servers elsewhere: stand-ins for vLLM and SGLang, and how a run bears what they do.
mod engines;
/// Using the crates without the program.
mod examples;
/// Short files, no circles of files, documents that name what there is.
mod house;
/// What must not matter does not: packing, micro-batches, recomputation, slots, neighbours.
mod invariants;
/// Networks, losses, advantages and the optimizer equal their references in Python.
mod parity;
/// What a plan foretells.
mod plan;
/// Stages on pairs of answers, given or made.
mod preferences;
/// Several ranks against one, and ranks that are lost.
mod ranks;
/// The report as a reader has it, in a browser.
mod report;
/// A run that is killed, stopped or damaged, and continued.
mod resume;
/// Samplers that are processes of their own, alive, killed and stopped.
mod samplers;
/// The scoring service, its clients, and runs that use it.
mod service;
/// Which libtorch `make setup` takes, and what it says when it can have none.
mod setup;
/// Folders and comparisons that several tests use.
mod support;
/// The five systems in small, from an empty folder to their last stage.
mod systems;
