//! The ranks of a run, from torchrun's variables.

use std::env;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;
use torch_ext::{
    Backend, GroupOptions, Likeness, Meeting, Met, ProcessGroup, Store, TorchError, route,
};

use crate::TrainError;
use crate::config::Config;
use crate::resume::differing_processes;
use crate::run_lock::host;

/// Seconds between signs of life.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Before every key in the store.
const PREFIX: &str = "svgrl";
/// Time between two tries to reach a store.
const POLL: Duration = Duration::from_millis(200);
/// What a store that answers may take longer than the deadline.
const SLACK: Duration = Duration::from_secs(3);

/// This process's place among the ranks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// 0..size
    pub rank: usize,
    /// Rank on this machine.
    pub local_rank: usize,
    /// Number of ranks.
    pub size: usize,
    /// How often this run was restarted by what started it (torchrun, Slurm).
    pub attempt: u64,
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
        let address = || match (env::var("MASTER_ADDR"), number("MASTER_PORT")) {
            (Ok(host), Ok(Some(port))) => u16::try_from(port).ok().map(|port| (host, port)),
            _ => None,
        };
        let restarts = ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"];
        let attempt = restarts
            .iter()
            .filter_map(|name| env::var(name).ok()?.parse::<u64>().ok());
        let attempt = attempt.sum();
        if size <= 1 {
            return Ok(Self {
                rank: 0,
                local_rank: 0,
                size: 1,
                attempt,
                address: address(),
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
            attempt,
            address: Some((host, port)),
        })
    }

    /// Where rank 0 is met.
    pub fn address(&self) -> Option<(&str, u16)> {
        let (host, port) = self.address.as_ref()?;
        Some((host, *port))
    }

    /// Joins the other ranks of the run in `folder`, which are given the same config.
    ///
    /// # Errors
    /// Ranks that do not join within the deadline, named; a rank of another run or with another config.
    pub fn connect(
        &self,
        config: &Config,
        folder: &Path,
        device: Device,
    ) -> Result<ProcessGroup, TrainError> {
        let Some((host, port)) = self.address.as_ref().filter(|_| self.size > 1) else {
            return Ok(ProcessGroup::Solo);
        };
        let timeout = deadline(config)?;
        let door = MeetingPlace {
            host: host.clone(),
            port: *port,
            rank: self.rank,
            size: self.size,
            timeout,
        };
        let about = serde_json::to_string(&About::of(config, folder, self.size))
            .map_err(|error| TrainError::Other(error.to_string()))?;
        // In a thread of its own: a store that takes a connection and never answers would hold this one for ever.
        let (answer, result) = channel();
        let knocking = door.clone();
        std::thread::Builder::new()
            .name("joining".into())
            .spawn(move || answer.send(knocking.enter(&about)))
            .map_err(|error| TrainError::Other(format!("joining the other ranks: {error}")))?;
        let (store, met) = match result.recv_timeout(timeout + SLACK) {
            Ok(entered) => entered?,
            Err(_) => {
                return Err(TrainError::Other(format!(
                    "rank {}: what listens at {host}:{port} (MASTER_ADDR, MASTER_PORT) has not answered within {} s: it is no store, or rank 0 hangs",
                    self.rank,
                    (timeout + SLACK).as_secs()
                )));
            }
        };
        let options = GroupOptions {
            rank: self.rank,
            size: self.size,
            timeout,
            backend: Backend::of(device),
            heartbeat: HEARTBEAT,
            address: door.listens(&met),
        };
        Ok(ProcessGroup::connect(
            &store,
            &format!("{PREFIX}/{}", met.prefix),
            options,
        )?)
    }
}

/// The deadline of joining and of a collective.
///
/// # Errors
/// A variable that is no number.
pub fn deadline(config: &Config) -> Result<Duration, TrainError> {
    let seconds = match env::var("SVGRL_COLLECTIVE_TIMEOUT_S") {
        Err(_) => config.ranks.timeout_s,
        Ok(text) => text.parse().map_err(|_| {
            TrainError::Input(format!(
                "environment variable SVGRL_COLLECTIVE_TIMEOUT_S: must be a number of seconds, got `{text}`"
            ))
        })?,
    };
    Ok(Duration::from_secs(seconds))
}

/// What a rank says of itself before it may take part.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    /// The run's name and folder, which tell it from other runs.
    run: String,
    folder: String,
    host: String,
    size: usize,
    /// This program's and libtorch's.
    version: String,
    config: Value,
}

impl About {
    fn of(config: &Config, folder: &Path, size: usize) -> Self {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self {
            run: config.name.clone(),
            folder: folder.display().to_string(),
            host: host(),
            size,
            version: format!(
                "{} with libtorch {}",
                env!("CARGO_PKG_VERSION"),
                torch_ext::version()
            ),
            config: serde_json::to_value(config).unwrap_or_default(),
        }
    }

    /// What rank 0, which this is, makes of another rank.
    fn compare(&self, rank: usize, other: &Self) -> Likeness {
        self.compare_with(&format!("rank {rank}"), other)
    }

    /// What rank 0, which this is, makes of a process called `name`.
    fn compare_with(&self, name: &str, other: &Self) -> Likeness {
        if (&self.run, &self.folder) != (&other.run, &other.folder) {
            return Likeness::Stranger(format!(
                "the ranks that meet here are those of the run `{}` in {} (rank 0 on {}), this process was started for the run `{}` in {}: give every rank of a run the same config and --run-dir, and every run a MASTER_PORT of its own",
                self.run, self.folder, self.host, other.run, other.folder
            ));
        }
        let mut said = Vec::new();
        if self.size != other.size {
            said.push(format!(
                "WORLD_SIZE: rank 0 has {}, {name} has {}",
                self.size, other.size
            ));
        }
        if self.version != other.version {
            said.push(format!(
                "svgrl: rank 0 is {}, {name} is {}",
                self.version, other.version
            ));
        }
        let changes = differing_processes(("rank 0", &self.config), (name, &other.config));
        said.extend(changes.iter().map(ToString::to_string));
        match said.is_empty() {
            true => Likeness::Same,
            false => Likeness::Unlike(format!(
                "the processes of the run were not given the same: {}",
                said.join("; ")
            )),
        }
    }
}

/// What a process besides the ranks says of itself to rank 0.
pub(crate) fn about_beside(config: &Config, folder: &Path) -> String {
    // It has no place in the world.
    serde_json::to_string(&About::of(config, folder, 0)).unwrap_or_default()
}

/// Why a process called `name` may not take part beside the ranks, if it may not; both from [`about_beside`].
pub(crate) fn refusal_beside(own: &str, (name, other): (&str, &str)) -> Option<String> {
    let read = |text| serde_json::from_str::<About>(text);
    match (read(own), read(other)) {
        (Ok(own), Ok(other)) => match own.compare_with(name, &other) {
            Likeness::Same => None,
            Likeness::Unlike(why) | Likeness::Stranger(why) => Some(format!("{name}: {why}")),
        },
        _ => Some(format!("{name}: it is not of the program that rank 0 is")),
    }
}

/// What rank 0 makes of what another rank says of itself.
fn likeness(own: &str, (rank, other): (usize, &str)) -> Likeness {
    let read = |text| serde_json::from_str::<About>(text);
    match (read(own), read(other)) {
        (Ok(own), Ok(other)) => own.compare(rank, &other),
        _ => Likeness::Stranger("this process is not of the program that rank 0 is".into()),
    }
}

/// Where the ranks meet, and who comes.
#[derive(Debug, Clone)]
struct MeetingPlace {
    host: String,
    port: u16,
    rank: usize,
    size: usize,
    timeout: Duration,
}

impl MeetingPlace {
    /// Opens or reaches the store and meets the others there. A store that goes away meanwhile is one of an attempt
    /// that is ending: its successor is looked for.
    fn enter(&self, about: &str) -> Result<(Store, Met), TrainError> {
        // torchrun's agent already serves a store there; then every rank is a client of it.
        let agent = env::var("TORCHELASTIC_USE_AGENT_STORE")
            .is_ok_and(|value| value.eq_ignore_ascii_case("true"));
        let serves = self.rank == 0 && !agent;
        let end = Instant::now() + self.timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let meeting = Meeting {
                rank: self.rank,
                size: self.size,
                timeout: left,
                about,
                compare: &likeness,
                address: route(&self.host, self.port),
            };
            let entered =
                Store::tcp(&self.host, self.port, serves, left.max(POLL)).and_then(|store| {
                    let met = meeting.meet(&store.prefix(PREFIX)?)?;
                    Ok((store, met))
                });
            match entered {
                Err(TorchError::Libtorch { .. } | TorchError::Store { .. })
                    if !serves && Instant::now() < end =>
                {
                    std::thread::sleep(POLL);
                }
                Err(TorchError::NotJoined { ranks, size, .. }) => {
                    let seconds = self.timeout.as_secs();
                    return Err(TorchError::NotJoined {
                        ranks,
                        size,
                        seconds,
                    }
                    .into());
                }
                Err(TorchError::Store { place, role, cause }) => {
                    let why = match role {
                        "open" => "another run has that MASTER_PORT",
                        _ => {
                            "rank 0, which serves it, has not come, or ended before this rank came"
                        }
                    };
                    let cause = format!("{why}; {cause}");
                    return Err(TorchError::Store { place, role, cause }.into());
                }
                entered => return Ok(entered?),
            }
        }
    }

    /// The address that the others reach this rank at: that of the interface which leads to rank 0; where that is
    /// the loopback, as on rank 0's own machine, of the one which leads to the others.
    fn listens(&self, met: &Met) -> Option<IpAddr> {
        let own = met.addresses.get(self.rank).copied().flatten();
        let outside = met
            .addresses
            .iter()
            .flatten()
            .find(|address| !address.is_loopback());
        match (own, outside) {
            (Some(own), Some(outside)) if own.is_loopback() => {
                route(&outside.to_string(), self.port).or(Some(own))
            }
            (own, _) => own,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn about(folder: &str, seed: u64) -> About {
        let config = Config {
            seed,
            ..Config::default()
        };
        About::of(&config, Path::new(folder), 2)
    }

    #[test]
    fn another_run_is_a_stranger_and_another_key_is_named_with_its_ranks() {
        let own = about("/runs/a", 1);
        assert_eq!(own.compare(1, &about("/runs/a", 1)), Likeness::Same);
        let Likeness::Stranger(told) = own.compare(1, &about("/runs/b", 1)) else {
            panic!("another folder is another run");
        };
        assert!(
            told.contains("/runs/a") && told.contains("/runs/b"),
            "{told}"
        );
        let Likeness::Unlike(told) = own.compare(1, &about("/runs/a", 2)) else {
            panic!("the seed is another");
        };
        assert!(told.contains("seed: rank 0 has 1, rank 1 has 2"), "{told}");
        let older = About {
            version: "0.0.1".into(),
            ..about("/runs/a", 1)
        };
        assert!(matches!(own.compare(1, &older), Likeness::Unlike(told) if told.contains("0.0.1")));
    }
}
