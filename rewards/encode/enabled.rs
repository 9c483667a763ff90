//! The networks themselves: each on its own thread, fed through a bounded channel.
//!
//! What a caller asks for is prepared on the caller's thread (resize, crop); answers about texts are kept by
//! their content. A full channel holds the caller back, so that rendered pictures do not pile up.

use super::counter::PassCounter;
use super::job::{EncodeCommand, EncodeJob, PassRows};
use super::load::{device, load};
use super::need::used;
use super::offload::Offloader;
use super::server::Server;
use super::worker::Worker;
use super::{
    EncodeRequest, EncoderConfig, EncoderCount, EncoderNeed, EncoderSet, EncoderUse, NoAnswer,
    PictureFeature, PictureInput, Promise, TokenLayers,
};
use crate::cache::{Cache, Key, key};
use crate::error::RewardError;
use crate::picture::Picture;
use crossbeam_channel::{Sender, bounded};
use indexmap::IndexMap;
use models::encoder::{self, Encoder, Pooling};
use models::image::{ImageProcessor, Rgb8};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tch::Device;

/// Texts whose features are kept, for each encoder.
const TEXTS: usize = 4096;
/// References whose tokens' features are kept, for each encoder: up to 2 MB each.
const TOKENS: usize = 256;

/// All encoders that the tasks use.
pub(crate) struct Encoders {
    all: IndexMap<String, Handle>,
}

/// One encoder, seen from the other threads.
struct Handle {
    thread: Thread,
    /// Whether its weights go to host memory while nothing is scored.
    offload: bool,
    door: Door,
    texts: Cache<Promise>,
    tokens: Cache<Promise>,
}

/// What of a network is known outside of its thread.
#[derive(Default)]
struct Door {
    /// What pictures go through first; none for networks of texts.
    processor: Option<ImageProcessor>,
    /// Where pictures are pooled when nobody says.
    default_pool: Option<Pooling>,
    token_layers: Option<TokenLayers>,
}

/// An encoder's thread; it ends when this is dropped.
struct Thread {
    jobs: Option<Sender<EncodeJob>>,
    /// Set when nobody wants answers any more.
    ended: Arc<AtomicBool>,
    counter: Arc<PassCounter>,
    handle: Option<JoinHandle<()>>,
}

impl Encoders {
    /// Loads what is needed and starts the threads.
    pub fn open(set: &EncoderSet, needs: &[EncoderNeed]) -> Result<Encoders, RewardError> {
        let mut all = IndexMap::new();
        for (name, what) in used(set, needs)? {
            let config = &set.encoders[name];
            let at = |reason: String| RewardError::Config(format!("encoders.{name}.{reason}"));
            config.validate().map_err(at)?;
            let device = device(config, set).map_err(at)?;
            let server = Server {
                name: name.to_owned(),
                rows: PassRows::new(config.batch, device == Device::Cpu),
                on_cpu: device == Device::Cpu,
                ended: Arc::default(),
                counter: Arc::default(),
            };
            let handle =
                Handle::start(config, what, device, server).map_err(|error| match error {
                    RewardError::Config(reason) => at(format!("path: {reason}")),
                    other => other,
                })?;
            all.insert(name.to_owned(), handle);
        }
        Ok(Encoders { all })
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Asks the encoder of this name, which was [needed](EncoderNeed) when they were opened.
    pub fn ask(&self, encoder: &str, request: EncodeRequest) -> Promise {
        let handle = &self.all[encoder];
        match request {
            EncodeRequest::Picture { picture, feature } => {
                match handle.door.fit(picture) {
                    Ok(fitted) => {
                        handle.ask(EncodeCommand::Picture(fitted, handle.door.pool(feature)))
                    }
                    // The picture's fault, a shape that a completion chose, and not the network's.
                    Err(error) => {
                        let why = format!("encoders.{encoder}: {error}");
                        Promise::without_answer(NoAnswer::Refused(why.into()))
                    }
                }
            }
            EncodeRequest::Text(text) => {
                let ask = || handle.ask(EncodeCommand::Text(text.to_owned()));
                lasting(&handle.texts, key(&[text.as_bytes()]), &ask)
            }
            EncodeRequest::WholeText(text) => {
                let ask = || handle.ask(EncodeCommand::WholeText(text.to_owned()));
                lasting(&handle.texts, key(&[b"whole", text.as_bytes()]), &ask)
            }
            EncodeRequest::Tokens { text, layer, keep } => {
                let ask = || handle.ask(EncodeCommand::Tokens(text.to_owned(), layer));
                match keep {
                    true => {
                        let known = key(&[&layer.to_le_bytes(), text.as_bytes()]);
                        lasting(&handle.tokens, known, &ask)
                    }
                    false => ask(),
                }
            }
            EncodeRequest::Distance {
                picture,
                reference,
                input,
            } => handle.ask(EncodeCommand::Distance {
                picture: rgb8(picture),
                reference: reference.clone(),
                input: match input {
                    PictureInput::Unit => encoder::DistanceInput::Unit,
                    PictureInput::Signed => encoder::DistanceInput::Signed,
                    PictureInput::Imagenet => encoder::DistanceInput::Imagenet,
                },
            }),
        }
    }

    /// A network's layers; none where it gives no tokens.
    pub fn token_layers(&self, encoder: &str) -> Option<TokenLayers> {
        self.all[encoder].door.token_layers
    }

    /// Takes the weights of those that may be offloaded to host memory and waits until they are there.
    pub fn offload(&self) {
        let told = |handle: &Handle| handle.ask(EncodeCommand::Offload);
        let offloaded = self.all.values().filter(|handle| handle.offload);
        let waits: Vec<Promise> = offloaded.map(told).collect();
        for failed in waits.iter().filter_map(|promise| promise.wait().err()) {
            let (NoAnswer::Failed(why) | NoAnswer::Refused(why)) = failed;
            tracing::warn!(target: "svgrl::rewards", "{why}: its weights stay on the device");
        }
    }

    /// Brings them back, while others begin their work.
    pub fn reload(&self) {
        for handle in self.all.values().filter(|handle| handle.offload) {
            handle.ask(EncodeCommand::Reload);
        }
    }

    /// What went through each network, by its name.
    pub fn counts(&self) -> Vec<(&str, EncoderCount)> {
        let all = self.all.iter();
        all.map(|(name, handle)| (name.as_str(), handle.thread.counter.read()))
            .collect()
    }
}

/// A kept answer; one that failed is asked for again.
fn lasting(kept: &Cache<Promise>, key: Key, ask: &dyn Fn() -> Promise) -> Promise {
    let answer = kept.get(key, ask);
    if !answer.has_failed() {
        return answer;
    }
    kept.remove(&key);
    kept.get(key, ask)
}

impl Handle {
    fn start(
        config: &EncoderConfig,
        what: EncoderUse,
        device: Device,
        server: Server,
    ) -> Result<Handle, RewardError> {
        let mut worker = load(config, what, device)?;
        let offloader = config.offload.then(|| Offloader::new(device));
        let door = match &worker {
            Worker::Features(network) => Door::of(network),
            Worker::Distances { .. } => Door::default(),
        };
        let (jobs, inbox) = bounded(4 * server.rows.pictures.max(16));
        let (ended, counter) = (server.ended.clone(), server.counter.clone());
        let handle = std::thread::Builder::new()
            .name(format!("encode-{}", server.name))
            .spawn(move || {
                // On a GPU it computes beside the policy, not behind it; answers are read into host memory.
                if let Err(error) = models::use_own_stream(device) {
                    tracing::debug!("an encoder shares the policy's stream: {error}");
                }
                server.run(&mut worker, offloader, &inbox);
            })?;
        Ok(Handle {
            thread: Thread {
                jobs: Some(jobs),
                ended,
                counter,
                handle: Some(handle),
            },
            offload: config.offload,
            door,
            texts: Cache::new(TEXTS),
            tokens: Cache::new(TOKENS),
        })
    }

    fn ask(&self, command: EncodeCommand) -> Promise {
        let promise = Promise::default();
        let job = EncodeJob {
            command,
            promise: promise.clone(),
        };
        // The thread holds the receiver as long as this lives.
        if let Some(Err(lost)) = self.thread.jobs.as_ref().map(|jobs| jobs.send(job)) {
            lost.into_inner()
                .promise
                .give(Err(NoAnswer::failed("the encoder's thread has ended")));
        }
        promise
    }
}

impl Door {
    fn of(network: &Encoder) -> Self {
        Door {
            processor: network.processor().ok().cloned(),
            default_pool: network.default_pool(),
            token_layers: network
                .token_layers()
                .map(|(layers, width)| TokenLayers { layers, width }),
        }
    }

    fn pool(&self, feature: Option<PictureFeature>) -> Pooling {
        match feature {
            Some(PictureFeature::Cls) => Pooling::Cls,
            Some(PictureFeature::Mean) => Pooling::Mean,
            None => self.default_pool.unwrap_or(Pooling::Cls),
        }
    }

    /// A picture as the network sees it.
    fn fit(&self, picture: &Picture) -> Result<Rgb8, models::ModelError> {
        match &self.processor {
            Some(processor) => processor.fit(&rgb8(picture)),
            None => Err(models::ModelError::Image(
                "this network encodes texts alone".into(),
            )),
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
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
