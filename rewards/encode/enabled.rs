//! The networks themselves: each on its own thread, fed through a bounded channel.
//!
//! What a caller asks for is prepared on the caller's thread (resize, crop, tokenise); texts are kept by
//! their content. A full channel holds the caller back, so that rendered pictures do not pile up.

use super::batch::{Ask, Job, Rows, Server, Tally};
use super::config::{Preprocess, on_cpu};
use super::network::Worker;
use super::shelf::Shelf;
use super::{
    EncoderConfig, EncoderCount, EncoderDtype, EncoderInit, EncoderSet, Feature, LpipsUse, Needs,
    Ticket, used,
};
use crate::cache::{Cache, key};
use crate::config::TaskScoring;
use crate::device::DeviceChoice;
use crate::error::RewardError;
use crate::perceptual::PictureFeature;
use crate::picture::Picture;
use crossbeam_channel::{Sender, bounded};
use indexmap::IndexMap;
use models::encoder::{Encoder, Lpips, Pooling, RandomShape};
use models::image::{ImageProcessor, Rgb8};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use tch::{Device, Kind};

/// Texts whose features are kept, for each encoder.
const TEXTS: usize = 4096;
/// References whose tokens' features are kept, for each encoder: up to 2 MB each.
const TOKENS: usize = 256;

/// The first fault of any encoder: what came back since is made up.
pub(super) type Fault = Arc<Mutex<Option<String>>>;

/// All encoders that the tasks use.
pub(crate) struct Encoders {
    all: IndexMap<String, Handle>,
    fault: Fault,
}

/// One encoder's thread, seen from the others.
struct Handle {
    jobs: Option<Sender<Job>>,
    /// Whether its weights go to host memory while it rests.
    offload: bool,
    /// Set when nobody wants answers any more.
    ended: Arc<AtomicBool>,
    tally: Arc<Tally>,
    /// What pictures go through first; none for networks of texts.
    processor: Option<ImageProcessor>,
    default_pool: Pooling,
    /// Layers and numbers a token, where tokens can be had.
    token_layers: Option<(usize, usize)>,
    texts: Cache<Ticket>,
    tokens: Cache<Ticket>,
    thread: Option<JoinHandle<()>>,
}

impl Encoders {
    /// Loads what `tasks` use and starts the threads.
    pub fn open(
        set: &EncoderSet,
        tasks: &IndexMap<String, TaskScoring>,
    ) -> Result<Encoders, RewardError> {
        let fault = Fault::default();
        let mut all = IndexMap::new();
        for (name, needs) in used(set, tasks)? {
            let config = &set.encoders[name];
            let at = |reason: String| RewardError::Config(format!("encoders.{name}.{reason}"));
            config.validate().map_err(at)?;
            let device = device(config, set).map_err(at)?;
            if config.offload && device == Device::Cpu {
                return Err(at(on_cpu()));
            }
            let server = Server {
                name: name.to_owned(),
                rows: Rows::new(config.batch, device == Device::Cpu),
                on_cpu: device == Device::Cpu,
                fault: fault.clone(),
                ended: Arc::default(),
                tally: Arc::default(),
            };
            let handle =
                Handle::start(config, needs, device, server).map_err(|error| match error {
                    RewardError::Config(reason) => at(format!("path: {reason}")),
                    other => other,
                })?;
            all.insert(name.to_owned(), handle);
        }
        Ok(Encoders { all, fault })
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The feature of a picture, of unit length.
    pub fn picture(&self, encoder: &str, feature: Feature, picture: &Picture) -> Ticket {
        let handle = &self.all[encoder];
        let pool = match feature {
            Feature::Pooled(PictureFeature::Cls) => Pooling::Cls,
            Feature::Pooled(PictureFeature::Mean) => Pooling::Mean,
            Feature::Own => handle.default_pool,
        };
        let fitted = match &handle.processor {
            Some(processor) => processor.fit(&rgb8(picture)),
            None => Err(models::ModelError::Image(
                "this network encodes texts alone".into(),
            )),
        };
        match fitted {
            Ok(picture) => handle.ask(Ask::Picture(picture, pool)),
            // The picture's fault, a shape that a completion chose, and not the network's.
            Err(error) => {
                let ticket = Ticket::default();
                ticket.give(Err(format!("encoders.{encoder}: {error}").into()));
                ticket
            }
        }
    }

    /// The feature of a text, of unit length.
    pub fn text(&self, encoder: &str, text: &str) -> Ticket {
        let handle = &self.all[encoder];
        let ask = || handle.ask(Ask::Text(text.to_owned()));
        handle.texts.get(key(&[text.as_bytes()]), ask)
    }

    /// Layers of a network, and numbers of a token's feature; none where it gives no tokens.
    pub fn token_layers(&self, encoder: &str) -> Option<(usize, usize)> {
        self.all[encoder].token_layers
    }

    /// The features of a text's tokens behind a layer, as [`crate::text::Tokens`] reads them.
    pub fn tokens(&self, encoder: &str, layer: usize, text: &str) -> Ticket {
        self.all[encoder].ask(Ask::Tokens(text.to_owned(), layer))
    }

    /// The same of a text that is asked for again and again.
    pub fn kept_tokens(&self, encoder: &str, layer: usize, text: &str) -> Ticket {
        let known = key(&[&layer.to_le_bytes(), text.as_bytes()]);
        let ask = || self.tokens(encoder, layer, text);
        self.all[encoder].tokens.get(known, ask)
    }

    /// LPIPS' distance of two pictures of one size, the second one being asked for again and again.
    pub fn distance(
        &self,
        encoder: &str,
        input: LpipsUse,
        [picture, reference]: [&Arc<Picture>; 2],
    ) -> Ticket {
        self.all[encoder].ask(Ask::Distance {
            picture: rgb8(picture),
            reference: reference.clone(),
            input,
        })
    }

    /// Takes the weights of those that may be offloaded to host memory and waits until they are there.
    pub fn rest(&self) {
        let told = |handle: &Handle| handle.ask(Ask::Rest);
        let offloaded = self.all.values().filter(|handle| handle.offload);
        let waits: Vec<Ticket> = offloaded.map(told).collect();
        // A move that failed is a fault that everyone hears of.
        waits.iter().for_each(|ticket| drop(ticket.wait()));
    }

    /// Brings them back, while others begin their work.
    pub fn wake(&self) {
        for handle in self.all.values().filter(|handle| handle.offload) {
            handle.ask(Ask::Wake);
        }
    }

    /// What went through each network, by its name.
    pub fn counts(&self) -> Vec<(&str, EncoderCount)> {
        let all = self.all.iter();
        all.map(|(name, handle)| (name.as_str(), handle.tally.read()))
            .collect()
    }

    /// What went wrong in a network, if anything did.
    pub fn fault(&self) -> Option<RewardError> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.clone().map(RewardError::Encoder)
    }
}

impl Handle {
    fn start(
        config: &EncoderConfig,
        needs: Needs,
        device: Device,
        server: Server,
    ) -> Result<Handle, RewardError> {
        let kind = match config.dtype {
            EncoderDtype::Float32 => Kind::Float,
            // Bfloat16 was refused when the config was checked.
            EncoderDtype::Float16 | EncoderDtype::Bfloat16 => Kind::Half,
        };
        let bad = |error: models::ModelError| RewardError::Config(error.to_string());
        // Weights that are brought home for each rollout come to host memory first.
        let mut shelf = config.offload.then(|| Shelf::new(device));
        let start = shelf.as_ref().map_or(device, |_| Device::Cpu);
        let mut made = load(config, needs, (kind, start))?;
        if config.preprocess == Preprocess::Torchvision {
            match &mut made.worker {
                Worker::Features(network) => network.use_torchvision().map_err(bad)?,
                Worker::Lpips(_) => {
                    return Err(RewardError::Config(
                        "preprocess: LPIPS' pictures come to size by its reward's `size`".into(),
                    ));
                }
            }
        }
        let (jobs, inbox) = bounded(4 * server.rows.pictures.max(16));
        let (ended, tally) = (server.ended.clone(), server.tally.clone());
        let mut worker = made.worker;
        let (processor, token_layers) = match &worker {
            Worker::Features(network) => {
                (network.processor().ok().cloned(), network.token_layers())
            }
            Worker::Lpips(_) => (None, None),
        };
        let thread = std::thread::Builder::new()
            .name(format!("encode-{}", server.name))
            .spawn(move || server.run((&mut worker, shelf.as_mut()), &inbox))?;
        Ok(Handle {
            jobs: Some(jobs),
            offload: config.offload,
            ended,
            tally,
            processor,
            default_pool: made.default_pool,
            token_layers,
            texts: Cache::new(TEXTS),
            tokens: Cache::new(TOKENS),
            thread: Some(thread),
        })
    }

    fn ask(&self, ask: Ask) -> Ticket {
        let ticket = Ticket::default();
        let job = Job {
            ask,
            ticket: ticket.clone(),
        };
        // The thread holds the receiver as long as this lives.
        if let Some(Err(lost)) = self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            lost.into_inner()
                .ticket
                .give(Err("the encoder's thread has ended".into()));
        }
        ticket
    }
}

/// A network as it was read.
struct Loaded {
    worker: Worker,
    default_pool: Pooling,
}

/// Reads the network and checks that it can serve what is needed.
fn load(
    config: &EncoderConfig,
    needs: Needs,
    place: (Kind, Device),
) -> Result<Loaded, RewardError> {
    let path = &config.path;
    let bad = |error: models::ModelError| RewardError::Config(error.to_string());
    if needs == Needs::Distances {
        if config.init.is_some() {
            return Err(RewardError::Config(
                "LPIPS has no random shape: needs a path".into(),
            ));
        }
        return Ok(Loaded {
            worker: Worker::Lpips(Lpips::load(path, place).map_err(bad)?),
            default_pool: Pooling::Cls,
        });
    }
    let network = match config.init {
        None => Encoder::load(path, place),
        Some(EncoderInit::Dinov2Base) => Encoder::random(RandomShape::Dinov2Base, place),
        Some(EncoderInit::LongClipLarge) => Encoder::random(RandomShape::LongClipLarge, place),
    }
    .map_err(bad)?;
    if !network.sees() && needs != Needs::Texts {
        return Err(RewardError::Config(format!(
            "{}: this network encodes texts alone, a reward asks for pictures",
            path.display()
        )));
    }
    if needs == Needs::DreamSim && !network.is_dreamsim() {
        return Err(RewardError::Config(format!(
            "{}: is not DreamSim's ensemble (the dreamsim package's cache folder), which a reward asks for; a single encoder's cosine is the reward `dino`",
            path.display()
        )));
    }
    if matches!(needs, Needs::Texts | Needs::Both) {
        network.tokenize("").map(drop).map_err(bad)?;
    }
    Ok(Loaded {
        default_pool: network.default_pool().unwrap_or(Pooling::Cls),
        worker: Worker::Features(Box::new(network)),
    })
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn rgb8(picture: &Picture) -> Rgb8 {
    Rgb8 {
        width: picture.width,
        height: picture.height,
        data: picture.rgb.clone(),
    }
}

fn device(config: &EncoderConfig, set: &EncoderSet) -> Result<Device, String> {
    let choice = match config.device.parse()? {
        DeviceChoice::Auto => set.device,
        named => named,
    };
    let index = match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => return Ok(Device::Cpu),
        DeviceChoice::Cuda(index) => index.unwrap_or(0),
    };
    match (index as i64) < tch::Cuda::device_count() {
        true => Ok(Device::Cuda(index)),
        false => Err(format!("device: {choice}: no such GPU answers; use cpu")),
    }
}
