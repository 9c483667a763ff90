//! The samplers of a run (`rollout.placement: dedicated`), from the variables that `svgrl launch` sets: processes besides the
//! ranks, of the same config, which find rank 0 in the store that it serves.

use std::cell::RefCell;
use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use models::{ModelConfig, Tokenizer, catch_torch};
use rollout::RolloutError;
use rollout::engine::{
    LearnerPlace, Placement, SamplerCard, SamplerDesk, SamplerEnd, SamplerPool, SamplerPost, serve,
};
use tch::Device;
use torch_ext::{Store, TorchError, route};

use crate::TrainError;
use crate::config::{Config, StageConfig};
use crate::run_lock::host;
use crate::world::{World, about_beside, deadline, refusal_beside};

/// A sampler's number among all of a run; set in its environment alone.
const NUMBER: &str = "SVGRL_SAMPLER";
/// How many samplers a run has as far as who started it knows; set in the ranks' environment.
const COUNT: &str = "SVGRL_SAMPLERS";
/// Before every key of the samplers in the store.
const PREFIX: &str = "svgrl/samplers";
/// Time between two tries to reach the store.
const POLL: Duration = Duration::from_millis(200);

fn number(name: &str) -> Result<Option<usize>, TrainError> {
    let Ok(text) = env::var(name) else {
        return Ok(None);
    };
    let given = text.parse().map(Some);
    given.map_err(|_| {
        TrainError::Input(format!(
            "environment variable {name}: must be a number, got `{text}`"
        ))
    })
}

/// The samplers beside this rank, if it was started with any; 0 where they are all started elsewhere.
///
/// # Errors
/// A variable that is no number.
pub fn samplers_beside() -> Result<Option<usize>, TrainError> {
    number(COUNT)
}

/// Whether the stages and what was started fit each other.
///
/// # Errors
/// Samplers that nobody asks, and stages that ask samplers which are not there, with the command that starts them.
pub fn check_placement(config: &Config, beside: Option<usize>) -> Result<(), TrainError> {
    let dedicated = |stage: &&StageConfig| {
        let rollout = stage.algorithm.options().rollout();
        rollout.is_some_and(|rollout| rollout.placement == Placement::Dedicated)
    };
    match (config.stages.iter().find(dedicated), beside) {
        (Some(stage), None) => Err(TrainError::Input(format!(
            "stages.{}.rollout.placement: `dedicated` needs samplers beside the ranks that learn: svgrl launch --learners 1 --samplers 1 -- train CONFIG (docs/launching.md)",
            stage.name()
        ))),
        (None, Some(_)) => Err(TrainError::Input(
            "--samplers: no stage of this config has `rollout.placement: dedicated`, so that samplers would have nothing to do: svgrl launch --learners N -- train CONFIG, or --set stages.NAME.rollout.placement=dedicated".into(),
        )),
        _ => Ok(()),
    }
}

/// The samplers of the run in `folder`, as the rank of `world` sees them; `None` where it has none.
///
/// # Errors
/// A store that does not answer.
pub fn open_pool(
    config: &Config,
    world: &World,
    folder: &Path,
) -> Result<Option<Rc<RefCell<SamplerPool>>>, TrainError> {
    let Some(expected) = samplers_beside()? else {
        return Ok(None);
    };
    let Some((host, port)) = world.address() else {
        return Err(TrainError::Input(format!(
            "environment variables MASTER_ADDR and MASTER_PORT are missing beside {COUNT}; start samplers with `svgrl launch`"
        )));
    };
    // Of several ranks the first serves a store already.
    let store = Store::tcp(host, port, world.size == 1, deadline(config)?)?;
    let own = about_beside(config, folder);
    let place = LearnerPlace {
        rank: world.rank,
        ranks: world.size,
        expected,
        judge: Box::new(move |name, about| refusal_beside(&own, (name, about))),
        policy: None,
    };
    let desk = SamplerDesk::new(store.prefix(PREFIX)?);
    Ok(Some(Rc::new(RefCell::new(SamplerPool::new(desk, place)?))))
}

/// This process's place among the samplers of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamplerSeat {
    /// 0..
    pub number: usize,
    /// Its place among all processes of this machine.
    pub local_rank: usize,
    host: String,
    port: u16,
}

impl SamplerSeat {
    /// From the environment; `None` in a process that is no sampler.
    ///
    /// # Errors
    /// A variable that is missing or is no number.
    pub fn from_env() -> Result<Option<Self>, TrainError> {
        let Some(own) = number(NUMBER)? else {
            return Ok(None);
        };
        let missing = |name: &str| {
            TrainError::Input(format!(
                "environment variable {name} is missing beside {NUMBER}; start samplers with `svgrl launch`"
            ))
        };
        let port = number("MASTER_PORT")?.and_then(|port| u16::try_from(port).ok());
        Ok(Some(Self {
            number: own,
            local_rank: number("LOCAL_RANK")?.unwrap_or(own),
            host: env::var("MASTER_ADDR").map_err(|_| missing("MASTER_ADDR"))?,
            port: port.ok_or_else(|| missing("MASTER_PORT"))?,
        }))
    }

    /// Reaches rank 0's store, which shows that the run has begun.
    ///
    /// # Errors
    /// A store that does not answer within the deadline of ranks.
    pub fn reach(&self, config: &Config) -> Result<SamplerDesk, TrainError> {
        let end = Instant::now() + deadline(config)?;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(POLL);
            let reached = Store::tcp(&self.host, self.port, false, left)
                .and_then(|store| store.prefix(PREFIX))
                .and_then(|store| {
                    let desk = SamplerDesk::new(store);
                    desk.token().map(|_| desk)
                });
            match reached {
                Err(TorchError::Libtorch { .. } | TorchError::Store { .. })
                    if Instant::now() < end =>
                {
                    std::thread::sleep(POLL);
                }
                reached => return Ok(reached?),
            }
        }
    }

    /// Samples for the run in `folder` until that ends.
    ///
    /// # Errors
    /// A policy that cannot be built, no memory, no port.
    pub fn sample(
        &self,
        desk: SamplerDesk,
        config: &Config,
        folder: &Path,
        device: Device,
    ) -> Result<SamplerEnd, TrainError> {
        let refused =
            |error: std::io::Error| TrainError::Other(format!("a sampler's door: {error}"));
        let (listener, address) = self.door().map_err(refused)?;
        let build = |of: Option<&str>| {
            let model: ModelConfig = match of {
                None => config.model.clone(),
                Some(text) => serde_json::from_str(text)
                    .map_err(|error| RolloutError::Input(format!("rank 0's policy: {error}")))?,
            };
            let read = || -> Result<_, RolloutError> {
                let folder = model.tokenizer_folder().ok_or_else(|| {
                    RolloutError::Input("model.tokenizer: there is no tokenizer folder".into())
                })?;
                let tokenizer = Arc::new(Tokenizer::read(folder)?);
                let place = (config.dtype.kind(), device);
                let policy = model.load(config.seed, &tokenizer, place)?;
                Ok((Rc::new(policy), Some(tokenizer)))
            };
            catch_torch(read).map_err(RolloutError::Torch)?
        };
        let card = SamplerCard {
            number: self.number,
            host: host(),
            process: std::process::id(),
            address,
            about: about_beside(config, folder),
        };
        Ok(serve(SamplerPost {
            desk,
            card,
            listener,
            build: &build,
            patience: deadline(config)?,
        })?)
    }

    /// Where learners reach this process: at the interface that leads to rank 0.
    fn door(&self) -> std::io::Result<(TcpListener, SocketAddr)> {
        let own = route(&self.host, self.port).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let meant = self.host == "localhost" || self.host.starts_with("127.") || self.host == "::1";
        if !own.is_loopback() || meant {
            let listener = TcpListener::bind((own, 0))?;
            let address = listener.local_addr()?;
            return Ok((listener, address));
        }
        // Rank 0 is on this machine, under a name that is the loopback's here and another address elsewhere.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let port = listener.local_addr()?.port();
        let outside = (host().as_str(), port).to_socket_addrs().ok();
        let outside = outside.and_then(|mut all| all.find(|address| !address.ip().is_loopback()));
        Ok((listener, outside.unwrap_or(SocketAddr::new(own, port))))
    }
}
