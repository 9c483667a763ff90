//! Tests of the whole program through its public doors; one binary, so that it links once.

/// Commands as processes: rows in, rows out, exit status, sentences, files.
mod cli;
/// The config's reference and schema, and what is said about mistakes in it.
mod config;
/// Several ranks against one, and ranks that are lost.
mod ranks;
