//! Reading an encoder's network, and whether it can serve what is needed.

use super::config::on_cpu;
use super::need::{DistanceKind, EncoderUse};
use super::worker::Worker;
use super::{EncoderConfig, EncoderDtype, EncoderInit, EncoderSet, Preprocess};
use crate::device::DeviceChoice;
use crate::error::RewardError;
use models::ModelError;
use models::encoder::{self, Dists, Encoder, Lpips, RandomShape};
use std::path::Path;
use tch::{Device, Kind};

/// The kind and the device of weights.
type KindAndDevice = (Kind, Device);

/// Reads the network for `device`, and says where it lies now: in host memory where it may be offloaded.
///
/// # Errors
/// What cannot be read, or does not serve, as `key: rule`.
pub(super) fn load(
    config: &EncoderConfig,
    what: EncoderUse,
    device: Device,
) -> Result<Worker, RewardError> {
    let kind = match config.dtype {
        EncoderDtype::Float32 => Kind::Float,
        // Bfloat16 was refused when the config was checked.
        EncoderDtype::Float16 | EncoderDtype::Bfloat16 => Kind::Half,
    };
    // Weights that are brought home for each rollout come to host memory first.
    let place = match config.offload {
        true => (kind, Device::Cpu),
        false => (kind, device),
    };
    match what {
        EncoderUse::Distances(network) => comparing(config, network, place),
        EncoderUse::Pictures | EncoderUse::Texts | EncoderUse::DreamSim | EncoderUse::Both => {
            encoding(config, what, place)
        }
    }
}

/// A network that compares pictures.
fn comparing(
    config: &EncoderConfig,
    network: DistanceKind,
    place: KindAndDevice,
) -> Result<Worker, RewardError> {
    if config.init.is_some() {
        return Err(RewardError::Config(format!(
            "{network} has no random shape: needs a path"
        )));
    }
    let read = match network {
        DistanceKind::Lpips => read::<Lpips>,
        DistanceKind::Dists => read::<Dists>,
    };
    let read = read(&config.path, place).map_err(bad)?;
    match config.preprocess {
        Preprocess::Folder => Ok(Worker::distances(read)),
        Preprocess::Torchvision => Err(RewardError::Config(format!(
            "preprocess: {network}' pictures come to size by its reward's `size`"
        ))),
    }
}

fn read<N: encoder::DistanceNetwork + 'static>(
    path: &Path,
    place: KindAndDevice,
) -> Result<Box<dyn encoder::DistanceNetwork>, ModelError> {
    Ok(Box::new(N::load(path, place)?))
}

/// A network that gives features.
fn encoding(
    config: &EncoderConfig,
    what: EncoderUse,
    place: KindAndDevice,
) -> Result<Worker, RewardError> {
    let path = &config.path;
    let mut network = match config.init {
        None => Encoder::load(path, place),
        Some(EncoderInit::Dinov2Base) => Encoder::random(RandomShape::Dinov2Base, place),
        Some(EncoderInit::LongClipLarge) => Encoder::random(RandomShape::LongClipLarge, place),
    }
    .map_err(bad)?;
    if !network.sees() && what != EncoderUse::Texts {
        return Err(RewardError::Config(format!(
            "{}: this network encodes texts alone, a reward asks for pictures",
            path.display()
        )));
    }
    if what == EncoderUse::DreamSim && !network.is_dreamsim() {
        return Err(RewardError::Config(format!(
            "{}: is not DreamSim's ensemble (the dreamsim package's cache folder), which a reward asks for; a single encoder's cosine is the reward `dino`",
            path.display()
        )));
    }
    if matches!(what, EncoderUse::Texts | EncoderUse::Both) {
        network.tokenize("").map(drop).map_err(bad)?;
    }
    if config.preprocess == Preprocess::Torchvision {
        network.use_torchvision().map_err(bad)?;
    }
    Ok(Worker::features(network))
}

fn bad(error: ModelError) -> RewardError {
    RewardError::Config(error.to_string())
}

/// Where an encoder computes.
///
/// # Errors
/// A GPU that does not answer; the CPU for an encoder that is to be offloaded.
pub(super) fn device(config: &EncoderConfig, set: &EncoderSet) -> Result<Device, String> {
    let choice = match config.device.parse()? {
        DeviceChoice::Auto => set.device,
        named => named,
    };
    let index = match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu if config.offload => return Err(on_cpu()),
        DeviceChoice::Auto | DeviceChoice::Cpu => return Ok(Device::Cpu),
        DeviceChoice::Cuda(index) => index.unwrap_or(0),
    };
    match (index as i64) < tch::Cuda::device_count() {
        true => Ok(Device::Cuda(index)),
        false => Err(format!("device: {choice}: no such GPU answers; use cpu")),
    }
}
