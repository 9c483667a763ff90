//! Collectives that go on while this rank computes: begun here, waited for later.
//!
//! All ranks must begin them in one order, among the other collectives of the group too; they may
//! be waited for in any.

use std::ptr;

use tch::Tensor;

use crate::ffi::check;
use crate::ffi_c10d::{self as ffi, GroupPtr, WorkPtr};
use crate::group::{C10dGroup, ProcessGroup, copy, parts};
use crate::{TorchError, ffi::In};

type StartCollective = unsafe extern "C" fn(GroupPtr, In, In, *mut WorkPtr) -> std::ffi::c_int;

/// A collective under way; its tensors must not be touched before [`ProcessGroup::wait`].
#[derive(Debug)]
#[must_use = "a collective that nobody waits for may never have happened"]
pub struct Pending {
    call: &'static str,
    /// None in a world of one: it is done.
    work: Option<Work>,
    /// Kept alive until it is done.
    _tensors: [Tensor; 2],
}

#[derive(Debug)]
struct Work(WorkPtr);

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the shim and is freed once.
        unsafe { ffi::svgrl_work_free(self.0) }
    }
}

impl ProcessGroup {
    /// Begins [`Self::reduce_scatter`].
    ///
    /// # Errors
    /// When `input` is not `size` times `output`, or the group refuses it.
    pub fn start_reduce_scatter(
        &self,
        output: &Tensor,
        input: &Tensor,
    ) -> Result<Pending, TorchError> {
        parts("reduce_scatter", input, output, self.size())?;
        let start = ffi::svgrl_group_reduce_scatter_start;
        self.start("reduce_scatter", start, (output, input))
    }

    /// Begins [`Self::all_gather`].
    ///
    /// # Errors
    /// When `output` is not `size` times `input`, or the group refuses it.
    pub fn start_all_gather(&self, output: &Tensor, input: &Tensor) -> Result<Pending, TorchError> {
        parts("all_gather", output, input, self.size())?;
        let start = ffi::svgrl_group_all_gather_start;
        self.start("all_gather", start, (output, input))
    }

    fn start(
        &self,
        call: &'static str,
        start: StartCollective,
        (output, input): (&Tensor, &Tensor),
    ) -> Result<Pending, TorchError> {
        let _tensors = [output.shallow_clone(), input.shallow_clone()];
        let work = match self {
            Self::Solo => {
                copy(output, input)?;
                None
            }
            Self::C10d(group) => Some(begin(group, call, |raw, work| {
                // SAFETY: a live group and tensors for the length of the call; the work keeps
                // references to the tensors.
                unsafe { start(raw, output.as_ptr(), input.as_ptr(), work) }
            })?),
        };
        Ok(Pending {
            call,
            work,
            _tensors,
        })
    }

    /// Returns when `pending`, of this group, is done.
    ///
    /// # Errors
    /// A failed collective says which ranks are missing.
    pub fn wait(&self, pending: Pending) -> Result<(), TorchError> {
        match (self, &pending.work) {
            (Self::C10d(group), Some(work)) => group.collective(pending.call, |_| {
                // SAFETY: a live work for the length of the call.
                unsafe { ffi::svgrl_work_wait(work.0) }
            }),
            _ => Ok(()),
        }
    }
}

fn begin(
    group: &C10dGroup,
    call: &'static str,
    body: impl FnOnce(GroupPtr, *mut WorkPtr) -> std::ffi::c_int,
) -> Result<Work, TorchError> {
    let mut work: WorkPtr = ptr::null_mut();
    check(call, body(group.raw, &mut work))?;
    Ok(Work(work))
}
