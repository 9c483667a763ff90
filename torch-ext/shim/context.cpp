// Process-wide switches, the version, and the caching allocator's counters.
#include "shim.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <torch/version.h>

#include <cstdlib>

extern "C" const char* svgrl_version() { return TORCH_VERSION; }

extern "C" int svgrl_set_deterministic(int on) {
  return svgrl::guarded([&] {
    auto& context = at::globalContext();
    // An operator that has no such kernel warns and runs: no run ends for it.
    context.setDeterministicAlgorithms(on != 0, /*warn_only=*/true);
    // cuBLAS reads it as its first handle is made.
    if (on != 0) setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
    // Filling every fresh buffer with NaN costs time and repeats nothing.
    context.setDeterministicFillUninitializedMemory(false);
    context.setDeterministicCuDNN(on != 0);
    context.setBenchmarkCuDNN(on == 0);
  });
}

extern "C" int svgrl_disable_reduced_precision() {
  return svgrl::guarded([&] {
    auto& context = at::globalContext();
    // Else cuDNN rounds the inputs of float32 convolutions to ten bits, less than float16 products keep.
    context.setAllowTF32CuDNN(false);
    // Else cuBLAS may add up float16 products in float16.
    context.setAllowFP16ReductionCuBLAS(false);
  });
}

namespace {
c10::DeviceAllocator* cuda_allocator() {
  if (!at::globalContext().hasCUDA()) return nullptr;
  auto* allocator = c10::getDeviceAllocator(c10::kCUDA);
  return allocator->initialized() ? allocator : nullptr;
}
}  // namespace

// out: allocated, peak allocated, reserved, peak reserved; in bytes.
// *known is 0 where there is no CUDA device in use.
extern "C" int svgrl_memory_stats(int device, int64_t* out, int* known) {
  return svgrl::guarded([&] {
    *known = 0;
    auto* allocator = cuda_allocator();
    if (allocator == nullptr) return;
    auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    out[0] = stats.allocated_bytes[0].current;
    out[1] = stats.allocated_bytes[0].peak;
    out[2] = stats.reserved_bytes[0].current;
    out[3] = stats.reserved_bytes[0].peak;
    *known = 1;
  });
}
