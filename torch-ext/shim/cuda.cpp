// Process groups over NCCL, CUDA graphs, and a GPU's name; compiled only with a CUDA libtorch (see
// build.rs).
#define USE_C10D_NCCL
#include "c10d.h"

#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <ATen/cuda/CUDAContextLight.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/StreamGuard.h>
#include <c10/cuda/CUDAFunctions.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <memory>

extern "C" int svgrl_group_nccl(StorePtr store, int rank, int size, int64_t timeout_ms, int device,
                                GroupPtr* out) {
  return svgrl::guarded([&] {
    // wait() then blocks until done and raises at the timeout, instead of a
    // watchdog ending the process with no word of who is missing.
    setenv("TORCH_NCCL_BLOCKING_WAIT", "1", /*overwrite=*/0);
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(device));
    auto options = c10d::ProcessGroupNCCL::Options::create();
    options->timeout = std::chrono::milliseconds(timeout_ms);
    *out = new GroupRef(c10::make_intrusive<c10d::ProcessGroupNCCL>(*store, rank, size, options));
  });
}

// out: room for `size` bytes; the name ends with a NUL.
// out: bytes of the device's memory.
extern "C" int svgrl_device_bytes(int device, int64_t* out) {
  return svgrl::guarded([&] {
    const auto* properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
    *out = static_cast<int64_t>(properties->totalGlobalMem);
  });
}

extern "C" int svgrl_device_name(int device, char* out, size_t size) {
  return svgrl::guarded([&] {
    const auto* properties = at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(device));
    std::strncpy(out, properties->name, size - 1);
    out[size - 1] = '\0';
  });
}

namespace {

// A graph, and while it is captured the stream on which that happens.
struct Graph {
  at::cuda::CUDAGraph graph{/*keep_graph=*/true};
  std::unique_ptr<c10::StreamGuard> capturing;
};

// A function of the CUDA runtime, which libtorch has loaded: linking it would want a place to find it at the start.
template <class F>
F runtime(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name));
}

// Kernels and copies of a captured graph; 0 where the runtime does not say.
uint64_t nodes_of(cudaGraph_t graph) {
  const auto ask = runtime<decltype(&cudaGraphGetNodes)>("cudaGraphGetNodes");
  size_t count = 0;
  return ask != nullptr && ask(graph, nullptr, &count) == cudaSuccess ? count : 0;
}

// A capture that broke leaves its error behind, which the next call would take for its own.
void forget_error() {
  const auto forget = runtime<decltype(&cudaGetLastError)>("cudaGetLastError");
  if (forget != nullptr) (void)forget();
}

}  // namespace

// What this thread asks of the device is captured from now on. beside: null or a graph whose memory is shared.
extern "C" int svgrl_graph_begin(int device, void* beside, void** out) {
  return svgrl::guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    auto made = std::make_unique<Graph>();
    c10::cuda::getCurrentCUDAStream(index).unwrap().synchronize();
    // The default stream cannot be captured.
    made->capturing = std::make_unique<c10::StreamGuard>(
        c10::cuda::getStreamFromPool(/*isHighPriority=*/false, index).unwrap());
    const at::cuda::MempoolId_t pool =
        beside == nullptr ? at::cuda::MempoolId_t{0, 0} : static_cast<Graph*>(beside)->graph.pool();
    // Other threads, the encoders' for instance, go on asking for memory meanwhile.
    made->graph.capture_begin(pool, cudaStreamCaptureModeThreadLocal);
    *out = made.release();
  });
}

// nodes: what one replay starts. On failure the graph is gone.
extern "C" int svgrl_graph_end(void* graph, uint64_t* nodes) {
  std::unique_ptr<Graph> own(static_cast<Graph*>(graph));
  const int status = svgrl::guarded([&] {
    own->graph.capture_end();
    own->capturing.reset();
    *nodes = nodes_of(own->graph.raw_cuda_graph());
    own->graph.instantiate();
  });
  if (status == 0) {
    own.release();
  } else {
    forget_error();
    // The stream goes back even where the graph's own end threw.
    own->capturing.reset();
    svgrl::guarded([&] { own.reset(); });
  }
  return status;
}

extern "C" int svgrl_graph_replay(void* graph) {
  return svgrl::guarded([&] { static_cast<Graph*>(graph)->graph.replay(); });
}

extern "C" void svgrl_graph_free(void* graph) {
  svgrl::guarded([&] { delete static_cast<Graph*>(graph); });
}
