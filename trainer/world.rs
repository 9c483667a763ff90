//! The ranks of a run, from torchrun's variables.

use std::env;
use std::time::Duration;

use tch::Device;
use torch_ext::{Backend, GroupOptions, ProcessGroup, Store};

use crate::TrainError;

/// Deadline of joining and of each collective, in seconds, unless `SVGRL_COLLECTIVE_TIMEOUT_S` says else.
const TIMEOUT_S: u64 = 600;
/// Seconds between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// This process's place among the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// 0..size
    pub rank: usize,
    /// Rank on this machine.
    pub local_rank: usize,
    /// Number of ranks.
    pub size: usize,
    address: Option<(String, u16)>,
}

impl World {
    /// Reads RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; a world of one without them.
    ///
    /// # Errors
    /// A variable that is missing beside the others or is no number.
    pub fn from_env() -> Result<Self, TrainError> {
        let number = |name: &str| -> Result<Option<usize>, TrainError> {
            match env::var(name) {
                Err(_) => Ok(None),
                Ok(text) => text.parse().map(Some).map_err(|_| {
                    TrainError::Input(format!(
                        "environment variable {name}: must be a number, got `{text}`"
                    ))
                }),
            }
        };
        let size = number("WORLD_SIZE")?.unwrap_or(1);
        if size <= 1 {
            return Ok(Self {
                rank: 0,
                local_rank: 0,
                size: 1,
                address: None,
            });
        }
        let need = |name: &str| {
            TrainError::Input(format!(
                "environment variable {name} is missing beside WORLD_SIZE={size}; start ranks with `svgrl launch` or torchrun"
            ))
        };
        let rank = number("RANK")?.ok_or_else(|| need("RANK"))?;
        let port = number("MASTER_PORT")?
            .and_then(|port| u16::try_from(port).ok())
            .ok_or_else(|| need("MASTER_PORT"))?;
        let host = env::var("MASTER_ADDR").map_err(|_| need("MASTER_ADDR"))?;
        if rank >= size {
            return Err(TrainError::Input(format!(
                "environment variable RANK: must be below WORLD_SIZE {size}, got {rank}"
            )));
        }
        Ok(Self {
            rank,
            local_rank: number("LOCAL_RANK")?.unwrap_or(rank),
            size,
            address: Some((host, port)),
        })
    }

    /// Joins the other ranks.
    ///
    /// # Errors
    /// Ranks that do not join within the deadline, named.
    pub fn connect(&self, device: Device) -> Result<ProcessGroup, TrainError> {
        let Some((host, port)) = &self.address else {
            return Ok(ProcessGroup::Solo);
        };
        let seconds = match env::var("SVGRL_COLLECTIVE_TIMEOUT_S") {
            Err(_) => TIMEOUT_S,
            Ok(text) => text.parse().map_err(|_| {
                TrainError::Input(format!(
                    "environment variable SVGRL_COLLECTIVE_TIMEOUT_S: must be a number of seconds, got `{text}`"
                ))
            })?,
        };
        let timeout = Duration::from_secs(seconds);
        // torchrun's agent already serves a store there; then every rank is a client of it.
        let agent = env::var("TORCHELASTIC_USE_AGENT_STORE")
            .is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        let store = Store::tcp(host, *port, self.rank == 0 && !agent, timeout)?;
        let options = GroupOptions {
            rank: self.rank,
            size: self.size,
            timeout,
            backend: Backend::of(device),
            heartbeat: HEARTBEAT,
        };
        Ok(ProcessGroup::connect(&store, "svgrl", options)?)
    }
}

/// Sets libtorch's threads on the CPU: `wanted`, or with 0 the cores shared among the local ranks.
pub fn threads(wanted: usize) -> usize {
    let local: usize = env::var("LOCAL_WORLD_SIZE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let threads = if wanted > 0 {
        wanted
    } else if env::var_os("OMP_NUM_THREADS").is_some() {
        tch::get_num_threads().max(1) as usize
    } else {
        (cores / local.max(1)).max(1)
    };
    tch::set_num_threads(threads as i32);
    threads
}
