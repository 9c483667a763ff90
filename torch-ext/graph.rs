//! CUDA graphs: kernels that are captured once and started again as one launch, over tensors that stay in their places.

use tch::Device;

use crate::cuda::{self, GraphPtr};
use crate::{TorchError, catch_torch};

/// Captured work. Each [`Self::replay`] reads and writes the tensors that the work was captured with.
pub struct CudaGraph {
    raw: GraphPtr,
    nodes: u64,
}

impl CudaGraph {
    /// Captures `work`, which is not done by that. It must not wait for the GPU, nor copy from or to host memory, and
    /// was done at least once before, so that libraries are ready. What it allocates lives with the graph, in the same
    /// memory as that of `beside`, with which it must not be replayed at a time.
    ///
    /// # Errors
    /// A build without CUDA; work that cannot be captured; that of `work`. Nothing has happened then.
    pub fn capture<E: std::fmt::Display>(
        device: Device,
        beside: Option<&CudaGraph>,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, TorchError> {
        let Device::Cuda(index) = device else {
            return Err(TorchError::argument(
                "CudaGraph::capture",
                "only a GPU's work is captured",
            ));
        };
        let begun = cuda::graph_begin(index, beside.map(|graph| graph.raw))?;
        let done = catch_torch(|| work().map_err(|error| error.to_string())).flatten();
        let ended = cuda::graph_end(begun);
        if let Err(message) = done {
            if let Ok((raw, _)) = ended {
                cuda::graph_free(raw);
            }
            return Err(TorchError::Libtorch {
                call: "CudaGraph::capture",
                message,
            });
        }
        let (raw, nodes) = ended?;
        Ok(Self { raw, nodes })
    }

    /// Does the captured work.
    ///
    /// # Errors
    /// Whatever CUDA raises.
    pub fn replay(&self) -> Result<(), TorchError> {
        cuda::graph_replay(self.raw)
    }

    /// Kernels and copies that one replay starts.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        cuda::graph_free(self.raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_captures_nothing() {
        let mut done = false;
        let told = CudaGraph::capture(Device::Cpu, None, || {
            done = true;
            Ok::<(), String>(())
        });
        assert!(told.is_err() && !done);
    }
}
