//! Scoring by a service elsewhere (`rewards.endpoint`), in place of this process' threads: the same
//! jobs in, the same numbers out.

mod config;
#[cfg(not(feature = "client"))]
mod disabled;
#[cfg(feature = "client")]
mod enabled;
#[cfg(feature = "client")]
mod services;

pub use config::RemoteConfig;
#[cfg(not(feature = "client"))]
pub(crate) use disabled::Remote;
#[cfg(feature = "client")]
pub(crate) use enabled::Remote;
