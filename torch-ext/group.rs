//! Collectives among the ranks of a run, each with a deadline.
//!
//! PyTorch's own process groups: Gloo between CPUs, NCCL between GPUs. A group is made from a store, a prefix, a
//! rank and a size, never from the environment, so that several may live side by side. A call blocks until this rank's
//! part is done; those that overlap with other work are in `pending`.

use std::cell::Cell;
use std::ffi::{CString, c_int};
use std::net::IpAddr;
use std::ptr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use tch::{Device, Tensor, no_grad};

use crate::TorchError;
use crate::cuda;
use crate::ffi::check;
use crate::ffi_c10d::{self as ffi, GroupPtr};
use crate::heartbeat::{Heartbeat, HeartbeatState, who_is_missing};
use crate::store::{Store, millis};

/// What carries a group's collectives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// CPU tensors, over TCP.
    Gloo,
    /// Tensors of one CUDA device for each rank.
    Nccl {
        /// This rank's device on its machine.
        device: usize,
    },
}

impl Backend {
    /// The backend for tensors of `device`.
    pub fn of(device: Device) -> Self {
        match device {
            Device::Cuda(device) => Self::Nccl { device },
            _ => Self::Gloo,
        }
    }

    /// Whether this build has NCCL.
    pub fn has_nccl() -> bool {
        cuda::AVAILABLE
    }
}

/// How a group is made.
#[derive(Debug, Clone, Copy)]
pub struct GroupOptions {
    /// This process's place, `0..size`.
    pub rank: usize,
    /// How many processes take part.
    pub size: usize,
    /// The deadline of joining and of each collective.
    pub timeout: Duration,
    /// What carries the collectives.
    pub backend: Backend,
    /// Time between signs of life; a failed collective takes four of them to say who is missing.
    pub heartbeat: Duration,
    /// The address that this rank listens on; without one the store's host decides.
    pub address: Option<IpAddr>,
}

/// The ranks that compute together.
#[derive(Debug)]
pub enum ProcessGroup {
    /// A world of one: nothing is sent.
    Solo,
    /// Several processes.
    C10d(C10dGroup),
}

/// A group of several processes; made by [`ProcessGroup::connect`].
#[derive(Debug)]
pub struct C10dGroup {
    pub(crate) raw: GroupPtr,
    options: GroupOptions,
    heartbeat: Heartbeat,
    /// For reading the others' hearts when a collective has failed.
    watch: Arc<Store>,
    /// The deadline of a collective, and when the last one ended.
    pace: Cell<(Duration, Instant)>,
}

// SAFETY: the handle is owned and moves with its owner; it is not shared.
unsafe impl Send for C10dGroup {}

impl Drop for C10dGroup {
    fn drop(&mut self) {
        // SAFETY: `raw` came from the shim and is freed once.
        unsafe { ffi::svgrl_group_free(self.raw) }
    }
}

impl ProcessGroup {
    /// Joins the group `prefix` of `store` and waits for all its ranks.
    ///
    /// # Errors
    /// Names the ranks that have not joined within the timeout.
    pub fn connect(store: &Store, prefix: &str, options: GroupOptions) -> Result<Self, TorchError> {
        let GroupOptions { rank, size, .. } = options;
        if rank >= size {
            return Err(TorchError::argument(
                "ProcessGroup::connect",
                format!("the rank must be below the size {size}, got {rank}"),
            ));
        }
        let store = store.prefix(prefix)?;
        let heartbeat = Heartbeat::start(store.reconnect()?, rank, options.heartbeat)?;
        let joined = |rank: usize| format!("joined/{rank}");
        store.set(&joined(rank), b"1")?;
        let keys: Vec<String> = (0..size).map(joined).collect();
        let missing = store.wait(&keys, options.timeout)?;
        if !missing.is_empty() {
            return Err(TorchError::NotJoined {
                ranks: missing.join(", ").replace("joined/", ""),
                size,
                seconds: options.timeout.as_secs(),
            });
        }
        let meeting = store.prefix("backend")?;
        let raw = match options.backend {
            Backend::Gloo => gloo(&meeting, &options).map_err(|cause| TorchError::Network {
                rank,
                place: place(&options),
                cause: Box::new(cause),
            })?,
            Backend::Nccl { device } => {
                prefer_interface(&options)?;
                cuda::connect(&meeting, &options, device)?
            }
        };
        Self::joined(raw, options, (&store, heartbeat))
    }

    /// Joins a group of other PyTorch processes: `meeting` has all prefixes of their store. They tell no signs of life.
    ///
    /// # Errors
    /// Others that do not come within the timeout.
    pub fn join_foreign(meeting: &Store, options: GroupOptions) -> Result<Self, TorchError> {
        let heartbeat = Heartbeat::start(meeting.reconnect()?, options.rank, options.heartbeat)?;
        let raw = match options.backend {
            Backend::Gloo => gloo(meeting, &options)?,
            Backend::Nccl { device } => cuda::connect(meeting, &options, device)?,
        };
        Self::joined(raw, options, (meeting, heartbeat))
    }

    fn joined(
        raw: GroupPtr,
        options: GroupOptions,
        (store, heartbeat): (&Store, Heartbeat),
    ) -> Result<Self, TorchError> {
        Ok(Self::C10d(C10dGroup {
            raw,
            options,
            heartbeat,
            watch: Arc::new(store.reconnect()?),
            pace: Cell::new((options.timeout, Instant::now())),
        }))
    }

    /// This process's place, `0..size`.
    pub fn rank(&self) -> usize {
        match self {
            Self::Solo => 0,
            Self::C10d(group) => group.options.rank,
        }
    }

    /// How many processes take part.
    pub fn size(&self) -> usize {
        match self {
            Self::Solo => 1,
            Self::C10d(group) => group.options.size,
        }
    }

    /// Says what this rank is doing from now on; it shows in the others' error
    /// when this rank is missing, and in this rank's own.
    pub fn enter_phase(&self, name: &str) {
        if let Self::C10d(group) = self {
            group
                .heartbeat
                .update(|state| state.phase = name.to_owned());
        }
    }

    /// The deadline that the group was made with; none in a world of one.
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Solo => None,
            Self::C10d(group) => Some(group.options.timeout),
        }
    }

    /// The deadline of each collective from now on.
    ///
    /// # Errors
    /// A backend that knows no deadlines.
    pub fn set_timeout(&self, timeout: Duration) -> Result<(), TorchError> {
        let Self::C10d(group) = self else {
            return Ok(());
        };
        let (before, ended) = group.pace.get();
        if before == timeout {
            return Ok(());
        }
        group.pace.set((timeout, ended));
        // SAFETY: a live group for the length of the call.
        let set = check("set_timeout", unsafe {
            ffi::svgrl_group_set_timeout(group.raw, millis(timeout))
        });
        match group.options.backend {
            Backend::Gloo => set,
            // Whether NCCL's groups take one depends on libtorch's version; the one they were made with stays.
            Backend::Nccl { .. } => Ok(()),
        }
    }

    /// Replaces `tensor` by its sum over the ranks, in place, in the tensor's type.
    ///
    /// # Errors
    /// A failed collective says which ranks are missing.
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<(), TorchError> {
        let Self::C10d(group) = self else {
            return Ok(());
        };
        dense("all_reduce", tensor)?;
        // SAFETY: a live group and tensor for the length of the call.
        group.collective("all_reduce", |raw| unsafe {
            ffi::svgrl_group_all_reduce(raw, tensor.as_ptr())
        })
    }

    /// Sums `input` over the ranks and leaves to rank `r` the `r`-th of `size`
    /// equal parts, in `output`.
    ///
    /// # Errors
    /// When `input` is not `size` times `output`; a failed collective says which
    /// ranks are missing.
    pub fn reduce_scatter(&self, output: &Tensor, input: &Tensor) -> Result<(), TorchError> {
        parts("reduce_scatter", input, output, self.size())?;
        let Self::C10d(group) = self else {
            return copy(output, input);
        };
        // SAFETY: a live group and tensors for the length of the call.
        group.collective("reduce_scatter", |raw| unsafe {
            ffi::svgrl_group_reduce_scatter(raw, output.as_ptr(), input.as_ptr())
        })
    }

    /// Lays every rank's `input` one after the other into `output`, by rank.
    ///
    /// # Errors
    /// When `output` is not `size` times `input`; a failed collective says which
    /// ranks are missing.
    pub fn all_gather(&self, output: &Tensor, input: &Tensor) -> Result<(), TorchError> {
        parts("all_gather", output, input, self.size())?;
        let Self::C10d(group) = self else {
            return copy(output, input);
        };
        // SAFETY: a live group and tensors for the length of the call.
        group.collective("all_gather", |raw| unsafe {
            ffi::svgrl_group_all_gather(raw, output.as_ptr(), input.as_ptr())
        })
    }

    /// Lays every rank's `input` one after the other into the `output` of rank `root`, by rank; the
    /// others' `output` is not touched.
    ///
    /// # Errors
    /// When the root's `output` is not `size` times `input`; a failed collective says which ranks are
    /// missing.
    pub fn gather(&self, output: &Tensor, input: &Tensor, root: usize) -> Result<(), TorchError> {
        if self.rank() == root {
            parts("gather", output, input, self.size())?;
        }
        let Self::C10d(group) = self else {
            return copy(output, input);
        };
        dense("gather", input)?;
        // SAFETY: a live group and tensors for the length of the call.
        group.collective("gather", |raw| unsafe {
            ffi::svgrl_group_gather(raw, output.as_ptr(), input.as_ptr(), as_int(root))
        })
    }

    /// Overwrites `tensor` with that of rank `root`.
    ///
    /// # Errors
    /// A failed collective says which ranks are missing.
    pub fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<(), TorchError> {
        if root >= self.size() {
            return Err(TorchError::argument(
                "broadcast",
                format!(
                    "the root must be below the size {}, got {root}",
                    self.size()
                ),
            ));
        }
        let Self::C10d(group) = self else {
            return Ok(());
        };
        dense("broadcast", tensor)?;
        // SAFETY: a live group and tensor for the length of the call.
        group.collective("broadcast", |raw| unsafe {
            ffi::svgrl_group_broadcast(raw, tensor.as_ptr(), as_int(root))
        })
    }

    /// Returns when every rank has called it.
    ///
    /// # Errors
    /// A failed collective says which ranks are missing.
    pub fn barrier(&self) -> Result<(), TorchError> {
        let Self::C10d(group) = self else {
            return Ok(());
        };
        let device = match group.options.backend {
            Backend::Gloo => -1,
            Backend::Nccl { device } => as_int(device),
        };
        // SAFETY: a live group for the length of the call.
        group.collective("barrier", |raw| unsafe {
            ffi::svgrl_group_barrier(raw, device)
        })
    }
}

impl C10dGroup {
    pub(crate) fn collective(
        &self,
        call: &'static str,
        body: impl FnOnce(GroupPtr) -> c_int,
    ) -> Result<(), TorchError> {
        self.heartbeat.update(|state| state.collectives += 1);
        let (timeout, ended) = self.pace.get();
        let alone = ended.elapsed();
        let done = check(call, body(self.raw));
        self.pace.set((timeout, Instant::now()));
        done.map_err(|cause| {
            let own = self.heartbeat.update(|state| state.failed = true);
            TorchError::Collective {
                diagnosis: match (alone > timeout, own.overslept > timeout) {
                    // The others, rank 0 among them, ended because this one did not come.
                    (_, true) => format!(
                        "rank {} itself came late: it was stopped for {} s, where the deadline is {} s, so the others had given it up",
                        self.options.rank,
                        own.overslept.as_secs(),
                        timeout.as_secs()
                    ),
                    (true, false) => format!(
                        "rank {} itself came late: {} s after its last collective, where the deadline is {} s, so the others had given it up",
                        self.options.rank,
                        alone.as_secs(),
                        timeout.as_secs()
                    ),
                    (false, false) => self.diagnose(&own),
                },
                call,
                number: own.collectives,
                rank: self.options.rank,
                phase: own.phase,
                cause: Box::new(cause),
            }
        })
    }

    /// In a thread of its own, for a store whose keeper is the missing one may
    /// never answer.
    fn diagnose(&self, own: &HeartbeatState) -> String {
        let (answer, result) = channel();
        let (store, own) = (Arc::clone(&self.watch), own.clone());
        let (rank, size) = (self.options.rank, self.options.size);
        let watch = 4 * self.options.heartbeat;
        let spawned = std::thread::Builder::new()
            .name("diagnosis".to_owned())
            .spawn(move || answer.send(who_is_missing(&store, rank, size, &own, watch)));
        let limit = watch + Duration::from_secs(5);
        match spawned.map(|_| result.recv_timeout(limit)) {
            Ok(Ok(Ok(sentence))) => sentence,
            _ => format!(
                "the store at {} no longer answers, so its keeper (rank 0, as a rule) is missing",
                self.watch.host()
            ),
        }
    }
}

fn gloo(store: &Store, options: &GroupOptions) -> Result<GroupPtr, TorchError> {
    let listen = CString::new(listens(store.host(), options)).unwrap_or_default();
    let mut raw: GroupPtr = ptr::null_mut();
    // SAFETY: a live store and C string, and room for one handle.
    let status = unsafe {
        ffi::svgrl_group_gloo(
            store.raw(),
            as_int(options.rank),
            as_int(options.size),
            millis(options.timeout),
            listen.as_ptr(),
            &mut raw,
        )
    };
    check("ProcessGroup::connect", status)?;
    Ok(raw)
}

/// Has NCCL use the interface that leads to the other machines.
fn prefer_interface(options: &GroupOptions) -> Result<(), TorchError> {
    let Some(address) = options.address.filter(|address| !address.is_loopback()) else {
        return Ok(());
    };
    let address = CString::new(address.to_string()).unwrap_or_default();
    // SAFETY: a live C string.
    check("ProcessGroup::connect", unsafe {
        ffi::svgrl_prefer_interface(address.as_ptr())
    })
}

/// The address that a rank listens on; empty leaves it to the machine's name.
fn listens(host: &str, options: &GroupOptions) -> String {
    // Ranks that meet on the loopback need no name resolution, which containers often lack.
    let local = host == "localhost" || host == "::1" || host.starts_with("127.");
    match options.address {
        Some(address) => address.to_string(),
        None if local => "127.0.0.1".to_owned(),
        None => String::new(),
    }
}

/// Where a rank listens, and what chose that, for people.
fn place(options: &GroupOptions) -> String {
    match (std::env::var("GLOO_SOCKET_IFNAME"), options.address) {
        (Ok(name), _) if !name.is_empty() => {
            format!("interface {name}, which GLOO_SOCKET_IFNAME names")
        }
        (_, Some(address)) => format!(
            "{address}, the address of the interface that leads to MASTER_ADDR; GLOO_SOCKET_IFNAME would name another interface"
        ),
        (_, None) => {
            "the address of its machine's name; GLOO_SOCKET_IFNAME would name an interface"
                .to_owned()
        }
    }
}

fn as_int(number: usize) -> c_int {
    c_int::try_from(number).unwrap_or(c_int::MAX)
}

fn dense(call: &'static str, tensor: &Tensor) -> Result<(), TorchError> {
    if tensor.is_contiguous() {
        return Ok(());
    }
    Err(TorchError::argument(
        call,
        format!(
            "the tensor must be contiguous, got strides {:?}",
            tensor.stride()
        ),
    ))
}

pub(crate) fn parts(
    call: &'static str,
    whole: &Tensor,
    part: &Tensor,
    size: usize,
) -> Result<(), TorchError> {
    dense(call, whole)?;
    dense(call, part)?;
    if whole.numel() == part.numel() * size && whole.kind() == part.kind() {
        return Ok(());
    }
    Err(TorchError::argument(
        call,
        format!(
            "{:?} of {:?} is not {size} times {:?} of {:?}",
            whole.size(),
            whole.kind(),
            part.size(),
            part.kind()
        ),
    ))
}

pub(crate) fn copy(output: &Tensor, input: &Tensor) -> Result<(), TorchError> {
    no_grad(|| output.view_as(input).shallow_clone().copy_(input));
    Ok(())
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
