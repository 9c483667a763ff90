//! Scoring over HTTP, in the forms that slime, verl, EasyR1 and TRL can call: `POST /score` and
//! `/score_batch`, `POST /check` for references alone, `GET /health` and `/metrics`.
//!
//! Requests share one scorer, so that completions of different callers are judged, and encoded,
//! together. What may wait is bounded; nothing a request names is read from this machine but the
//! pictures registered in the config. A caller that closes its side of a connection has gone, and what it asked
//! for is dropped. No TLS: put a proxy in front of it where the network needs it.

#[cfg(feature = "service")]
mod admission;
#[cfg(feature = "service")]
mod answer;
#[cfg(feature = "service")]
mod body;
mod config;
#[cfg(feature = "service")]
mod connections;
#[cfg(feature = "service")]
mod metrics;
#[cfg(feature = "service")]
mod parse;
#[cfg(feature = "service")]
mod peers;
#[cfg(feature = "service")]
mod routes;
#[cfg(feature = "service")]
mod server;
#[cfg(feature = "service")]
mod state;
#[cfg(feature = "service")]
mod tasks;
#[cfg(feature = "service")]
mod token;

pub use config::ServiceConfig;
#[cfg(feature = "service")]
pub use server::{Service, ServiceSetup};

/// Target of the service's events, each with a field `event`: start, stop and every request at level
/// info, failures at level error.
#[cfg(feature = "service")]
pub const LOG: &str = "svgrl::service";
