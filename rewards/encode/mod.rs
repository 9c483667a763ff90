//! Encoders beside the scoring threads: each network on a thread of its own behind a channel, asked for
//! features that come back later.
//!
//! The way in is [`Encoders::open`] with what is [needed](EncoderNeed), and [`Encoders::ask`] with an
//! [`EncodeRequest`], which gives a [`Promise`]. Nothing here knows rewards. With the feature `perceptual` networks run
//! ([`enabled`]); without it, what needs one is refused by name ([`disabled`]).

mod config;
mod count;
mod need;
mod promise;
mod request;

#[cfg(feature = "perceptual")]
mod counter;
#[cfg(feature = "perceptual")]
mod enabled;
#[cfg(feature = "perceptual")]
mod feature_cache;
#[cfg(feature = "perceptual")]
mod job;
#[cfg(feature = "perceptual")]
mod load;
#[cfg(feature = "perceptual")]
mod offload;
#[cfg(feature = "perceptual")]
mod server;
#[cfg(feature = "perceptual")]
mod worker;
#[cfg(feature = "perceptual")]
use enabled as runtime;
#[cfg(not(feature = "perceptual"))]
mod disabled;
#[cfg(not(feature = "perceptual"))]
use disabled as runtime;

pub use config::{EncoderConfig, EncoderDtype, EncoderInit, EncoderSet, Preprocess};
pub use count::EncoderCount;
pub(crate) use need::{DistanceKind, EncoderNeed, EncoderUse};
pub(crate) use promise::{NoAnswer, Promise};
pub(crate) use request::{EncodeRequest, TokenLayers};
pub use request::{PictureFeature, PictureInput};
pub(crate) use runtime::Encoders;
