//! What a plan is for: this machine, or so many devices of a kind that need not be here.

use crate::TrainError;
use crate::config::Config;
use crate::samplers::samplers_beside;
use crate::world::World;

/// GiB that programs find on GPUs of each name, after the driver's own; where a name comes in several sizes, the
/// larger one.
const GPUS: [(&str, f64); 18] = [
    ("GB300", 277.0),
    ("B300", 268.0),
    ("GB200", 184.0),
    ("B200", 178.0),
    ("H200", 139.8),
    ("H100", 79.2),
    ("H20", 95.1),
    ("A100", 79.2),
    ("A100-40", 39.4),
    ("A800", 79.2),
    ("L40S", 44.4),
    ("L40", 44.4),
    ("A40", 44.4),
    ("A6000", 47.4),
    ("RTX5090", 31.4),
    ("RTX4090", 23.5),
    ("RTX3090", 23.5),
    ("L4", 22.0),
];

/// What of a GPU's advertised memory programs find, where the name says a size.
const USABLE: f64 = 0.985;

const GIB: f64 = (1u64 << 30) as f64;

/// Devices that a run is planned for.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    /// Ranks, one a device.
    pub ranks: usize,
    /// Samplers beside them, each on a device of its own; 0: none, or it is not known how many.
    pub samplers: usize,
    /// What each is called.
    pub name: String,
    /// Whether they are GPUs.
    pub gpu: bool,
    /// Bytes of each, where that is known.
    pub bytes: Option<i64>,
}

impl Hardware {
    /// Reads `NxKIND`: `8xH200`, `4xA100-80`, `2xGPU-48GiB`, `1xcpu-24GiB`.
    ///
    /// # Errors
    /// What it should have been.
    pub fn parse(text: &str) -> Result<Self, TrainError> {
        let refuse = |what: String| {
            let names: Vec<&str> = GPUS.iter().map(|(name, _)| *name).collect();
            Err(TrainError::Input(format!(
                "--gpus: {what}; it is NxKIND, e.g. 8xH200, 4xA100-80, 2xgpu-48GiB or 1xcpu-24GiB, and known kinds are {}",
                names.join(", ")
            )))
        };
        let Some((count, name)) = text.split_once('x') else {
            return refuse(format!("`{text}` has no `x`"));
        };
        let ranks = match count.parse::<usize>() {
            Ok(ranks) if (1..=100_000).contains(&ranks) => ranks,
            _ => return refuse(format!("`{count}` is no number of devices")),
        };
        let upper = name.to_ascii_uppercase();
        let known = GPUS.iter().find(|(known, _)| *known == upper);
        if let Some((_, gib)) = known {
            return Ok(Self {
                ranks,
                samplers: 0,
                name: upper,
                gpu: true,
                bytes: Some((gib * GIB) as i64),
            });
        }
        let sized = upper.rsplit_once('-').and_then(|(kind, size)| {
            let (number, unit) = match (size.strip_suffix("GIB"), size.strip_suffix("GB")) {
                (Some(number), _) => (number, GIB),
                (_, Some(number)) => (number, 1e9),
                _ => (size, GIB),
            };
            let number: f64 = number.parse().ok().filter(|it| *it > 0.0 && *it < 1e6)?;
            Some((kind.to_owned(), number * unit))
        });
        match sized {
            Some((kind, bytes)) if kind == "CPU" => Ok(Self {
                ranks,
                samplers: 0,
                name: name.to_owned(),
                gpu: false,
                bytes: Some((bytes / ranks as f64) as i64),
            }),
            Some((kind, bytes))
                if kind == "GPU" || GPUS.iter().any(|(known, _)| *known == kind) =>
            {
                Ok(Self {
                    ranks,
                    samplers: 0,
                    name: upper,
                    gpu: true,
                    bytes: Some((bytes * USABLE) as i64),
                })
            }
            _ => refuse(format!("`{name}` is no kind with a known memory")),
        }
    }

    /// The same devices, of which the last `samplers` are samplers'.
    ///
    /// # Errors
    /// None left to learn with.
    pub fn with_samplers(self, samplers: usize) -> Result<Self, TrainError> {
        match self.ranks.checked_sub(samplers).filter(|left| *left > 0) {
            Some(ranks) => Ok(Self {
                ranks,
                samplers,
                ..self
            }),
            None => Err(TrainError::Input(format!(
                "--samplers: of {} devices at least one learns, so that fewer sample, got {samplers}",
                self.ranks
            ))),
        }
    }

    /// What `config` would run on here: the ranks of the environment, each with its GPU, or with its part of this
    /// machine's memory; `samplers` beside them, where the environment does not say how many there are.
    ///
    /// # Errors
    /// An environment that says nonsense about ranks.
    pub fn here(config: &Config, samplers: usize) -> Result<Self, TrainError> {
        let world = World::from_env()?;
        let samplers = samplers_beside()?.unwrap_or(samplers);
        let device = config.device.resolve(world.local_rank);
        let gpu = config.device.0 != "cpu" && !matches!(device, Ok(tch::Device::Cpu));
        let bytes = match (gpu, device) {
            (false, _) => {
                let ranks = local_ranks(world.size);
                let processes = ranks + samplers * ranks / world.size;
                machine_bytes().map(|bytes| bytes / processes.max(1) as i64)
            }
            (true, Ok(device)) => torch_ext::device_bytes(device).ok().flatten(),
            (true, Err(_)) => None,
        };
        Ok(Self {
            ranks: world.size,
            samplers,
            name: if gpu {
                config.device.0.clone()
            } else {
                "this machine".to_owned()
            },
            gpu,
            bytes,
        })
    }
}

/// Ranks on this machine, of `size`.
fn local_ranks(size: usize) -> usize {
    let told = std::env::var("LOCAL_WORLD_SIZE").ok();
    let told = told.and_then(|text| text.parse().ok());
    told.unwrap_or(size).max(1)
}

/// Memory of this machine, or of the control group that this process is in, in bytes.
fn machine_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: i64 = line.split_whitespace().next()?.parse().ok()?;
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = group.and_then(|text| text.trim().parse::<i64>().ok());
    Some((kib * 1024).min(limit.unwrap_or(i64::MAX)))
}
