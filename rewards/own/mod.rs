//! Rewards of the user's own: a service elsewhere, a function of the user's own Python, a command. Rows go out in batches,
//! and a number or named numbers come back for each.
//!
//! A row is an object `{"id", "task", "step", "prompt", "completion", "svg", "reference", "truncated"}`, and `png` on
//! request: the drawing in base64. `svg` is what was taken out of the completion, null for words. An answer is a number;
//! an object of numbers, of which `score` is the reward, else their sum; `{"error": "why"}` or null where there is none.
//!
//! | file | what is asked |
//! |---|---|
//! | [`client`] | gathers rows and hands answers out, whoever is asked |
//! | `http_enabled` | a service (feature `client`) |
//! | [`python`], `worker.py` | a function, in a process that stays |
//! | [`command`] | a command, started for each batch |

mod answers;
mod client;
mod command;
#[cfg(not(feature = "client"))]
#[path = "http_disabled.rs"]
mod http;
#[cfg(feature = "client")]
#[path = "http_enabled.rs"]
mod http;
mod process;
mod python;
mod setup;

pub(crate) use client::OwnClient;
pub(crate) use setup::{Batching, OwnKind, OwnRow, OwnSetup};
